"""The whole method in one picture, with the numbers of a run."""

from __future__ import annotations

import re
from pathlib import Path

from knowtuning.files import read_json

COMPARED = ("sft", "knowtuning")
TEMPLATE = Path(__file__).with_suffix(".svg")  # the drawing, with {names} where the numbers stand
# beginning of a step's manifest, and the numbers that the picture tells of it
STEPS = {
    "02_vanilla_sft": ("rows",),
    "03_extraction": ("answers", "facts"),
    "04_difficult_knowledge": ("difficult",),
    "05_rewriting": ("rewritten", "training_rows"),
    "06_disturbance": ("pairs: completeness", "pairs: factuality", "pairs: logicality"),
    "08_knowledge_comparison.knowtuning": ("pairs",),
}


def method_numbers(run: Path) -> dict[str, float]:
    """What the picture tells of a finished run: counts from its manifests, greedy scores of SFT and KnowTuning.

    Raises:
        DataError: a notebook of the walk has not finished.
    """
    numbers: dict[str, float] = {}
    for step, names in STEPS.items():
        manifest = read_json(run / "manifests" / f"{step}.json")
        numbers |= {name: manifest["numbers"][name] for name in names}
    for arm in COMPARED:
        scores = read_json(run / "scores" / f"{arm}.json")["decodings"]["greedy"]["overall"]
        numbers |= {f"{arm}: {name}": scores[name]["value"] for name in ("correct facts", "incorrect facts")}
    return numbers


def method(numbers: dict[str, float]) -> str:
    """The picture as SVG, without scripts or outside fonts, on a ground of its own that suits light and dark pages.

    Args:
        numbers: as `method_numbers` returns them.
    """
    shown = {name: f"{value:,}" if isinstance(value, int) else f"{value:.2f}" for name, value in numbers.items()}
    return re.sub(r"\{(.+?)\}", lambda match: shown[match[1]], TEMPLATE.read_text(encoding="utf-8"))
