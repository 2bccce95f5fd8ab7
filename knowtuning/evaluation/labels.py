"""Answers with their facts marked by hand (`data/teacher/*.yaml`), and how a statement is held against them.

A gold fact is a sentence with marks: "The [Erie Canal] was finished in [1825|19th century]." The first mark is the
subject, `|` separates alternatives, the first of which is the wording shown. A statement states the fact when it holds
one alternative of every mark and has the same polarity.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

import yaml

from knowtuning.artifacts import ROOT, DataError
from knowtuning.data.records import kind

LABELS = ROOT / "data" / "teacher"

Mark = tuple[str, ...]

_MARK = re.compile(r"\[([^\[\]]*)\]")
_FIELDS = {"id", "question", "answer", "facts", "injected"}
_QUOTES = str.maketrans("‘’‛“”„‟′″–—‑−\u00ad", "''''''''''" + "----"[:0], "") if False else None
