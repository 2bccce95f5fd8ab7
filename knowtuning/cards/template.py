"""A card from a Jinja template of this folder, by huggingface_hub's card classes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
PAPER = "https://arxiv.org/abs/2402.11176"


def card_text(template: str, head: dict[str, Any], **values: Any) -> str:
    """The card of a data set (`dataset.md`) or of a model for the hub: a YAML head, then the template's text."""
    from huggingface_hub import DatasetCardData, ModelCardData, RepoCard

    if template == "dataset.md":
        data = DatasetCardData(language="en", **head)
    else:
        data = ModelCardData(language="en", pipeline_tag="text-generation", **head)
    citation = (FOLDER / "citation.bib").read_text(encoding="utf-8").strip()
    card = RepoCard.from_template(data, str(FOLDER / template), paper=PAPER, citation=citation, **values)
    return re.sub(r"\n{3,}", "\n\n", str(card)).strip() + "\n"  # what a template leaves out leaves no gap
