"""The figures, one function each, in one style: tidy rows (a list of dicts) in, a matplotlib `Figure` out.

Nothing here touches pyplot, so no figure is shown twice or left open. Colours are those of Okabe and Ito, which stay
apart for colour-blind readers; marker, hatch and lightness tell the same things apart in grey.
"""

from knowtuning.figures.arms import arm_comparison, correct_by_tier, cost_of_errors, differences
from knowtuning.figures.base import perplexity_separation, pretraining_loss, recall_by_exposure
from knowtuning.figures.drawing import save, style
from knowtuning.figures.pairs import answer_lengths, facts_per_answer, pair_lengths, perplexity_of_facts
from knowtuning.figures.scale import scale_growth
from knowtuning.figures.study import (
    ablation_differences,
    cells_by_base,
    correct_and_incorrect,
    regime_map,
    set_costs,
    win_tie_lose,
)
from knowtuning.figures.training import dpo_margins, training_loss

__all__ = [
    "ablation_differences",
    "answer_lengths",
    "arm_comparison",
    "cells_by_base",
    "correct_and_incorrect",
    "correct_by_tier",
    "cost_of_errors",
    "differences",
    "dpo_margins",
    "facts_per_answer",
    "pair_lengths",
    "perplexity_of_facts",
    "perplexity_separation",
    "pretraining_loss",
    "recall_by_exposure",
    "regime_map",
    "save",
    "scale_growth",
    "set_costs",
    "style",
    "training_loss",
    "win_tie_lose",
]
