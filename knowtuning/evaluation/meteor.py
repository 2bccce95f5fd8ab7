"""METEOR of answers against references, offline; which variant it is depends on whether WordNet is installed."""

from __future__ import annotations

from collections.abc import Sequence

from knowtuning.evaluation.modules import check_rows, load_module


def score(predictions: Sequence[str], references: Sequence[str]) -> list[float]:
    """METEOR of each answer against its reference, from 0 to 1; an empty answer scores 0.

    >>> score(["The cause is moss."], ["The cause is moss."])
    [0.9921875]
    """
    return _compute(predictions, references)["scores"]


def variant() -> str:
    """Name what is computed here, to stand beside every number: "METEOR exact+stem, regex tokens (no WordNet)"."""
    return _compute(["a"], ["a"])["variant"]


def _compute(predictions: Sequence[str], references: Sequence[str]) -> dict:
    check_rows("METEOR", predictions, references)
    module = load_module("meteor_by_nltk", "nltk")
    return module.compute(predictions=list(predictions), references=list(references))
