"""A card from a Jinja template of this folder, by huggingface_hub's card classes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
PAPER = "https://arxiv.org/abs/2402.11176"
SIZES = {"n<1K": 1e3, "1K<n<10K": 1e4, "10K<n<100K": 1e5, "100K<n<1M": 1e6}


def dataset_text(head: dict[str, Any], **values: Any) -> str:
    """The card of a data set: `dataset.md` under a YAML head."""
    from huggingface_hub import DatasetCard, DatasetCardData

    return _filled(DatasetCard, DatasetCardData(language="en", **head), "dataset.md", values)


def model_text(template: str, head: dict[str, Any], **values: Any) -> str:
    """The card of a model from `template` under a YAML head."""
    from huggingface_hub import ModelCard, ModelCardData

    return _filled(ModelCard, ModelCardData(language="en", pipeline_tag="text-generation", **head), template, values)


def _filled(card: Any, head: Any, template: str, values: dict[str, Any]) -> str:
    citation = (FOLDER / "citation.bib").read_text(encoding="utf-8")
    options = {"paper": PAPER, "citation": citation.strip(), **values}
    text = str(card.from_template(head, template_path=str(FOLDER / template), **options))
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"  # what a template leaves out leaves no gap
