"""The arms: which adapter a model starts from, and which preference pairs it is trained on."""

from __future__ import annotations

from dataclasses import dataclass

from knowtuning.knowledge.aspects import ASPECTS


@dataclass(frozen=True)
class Arm:
    """One line of the paper's tables. `start` is the adapter that notebook 08 goes on from; None: it trains none."""

    about: str
    start: str | None = None
    aspects: tuple[str, ...] = ()
    against: tuple[str, ...] = ("sft",)


def _without(aspect: str) -> tuple[str, ...]:
    return tuple(name for name in ASPECTS if name != aspect)


ARMS = {
    "base": Arm("the base model, untuned"),
    "sft": Arm("vanilla fine-tuning", against=()),
    "ka": Arm("knowledge augmentation only (-KC)"),
    "knowtuning": Arm("the whole method", "ka", ASPECTS, ("sft", "ka")),
    "no_ka": Arm("without augmentation (-KA)", "sft", ASPECTS),
    "no_kcc": Arm("without completeness pairs (-KCC)", "ka", _without("completeness")),
    "no_kfc": Arm("without factuality pairs (-KFC)", "ka", _without("factuality")),
    "no_klc": Arm("without logicality pairs (-KLC)", "ka", _without("logicality")),
}
