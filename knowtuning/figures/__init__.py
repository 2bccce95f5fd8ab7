"""The figures, one function each, in one style: tidy rows (a list of dicts) in, a matplotlib `Figure` out.

Nothing here touches pyplot, so no figure is shown twice or left open. Colours are those of Okabe and Ito, which stay
apart for colour-blind readers; marker, hatch and lightness tell the same things apart in grey.
"""

# ruff: noqa: F401 (notebooks take every figure from here)
from knowtuning.figures.comparisons import correct_by_tier, cost_of_errors, differences
from knowtuning.figures.curves import dpo_margins, pretraining_loss, training_loss
from knowtuning.figures.distributions import (
    answer_lengths,
    facts_per_answer,
    pair_lengths,
    perplexity_of_facts,
    perplexity_separation,
    recall_by_exposure,
)
from knowtuning.figures.drawing import save
