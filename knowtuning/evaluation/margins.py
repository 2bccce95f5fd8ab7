"""Where DPO's margin comes from: what a policy holds against the worse answers, by the part of the text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from knowtuning.display.tokens import Tokens, differences
from knowtuning.lab.world import World

PARTS = NAME, FALSE, OTHER = "subject's name", "false values", "other words"
COLUMNS = ("margin", "chosen", "rejected", *PARTS)


def margin_parts(world: World, pairs: Sequence[dict], after: Sequence[dict], before: Sequence[dict]) -> list[dict]:
    """Split the margins of some pairs of the lab by what the tokens of the rejected answer tell.

    Args:
        pairs: `{"aspect", "question", "rejected"}`.
        after, before: for each pair `{"chosen": tokens, "rejected": tokens}` by the policy and by the reference, as
            `token_log_probs` gives them.

    Returns:
        One row per aspect, in nats per pair: the `margin` = `chosen` − `rejected`, and the log-ratio of the rejected
        answer at the `subject's name`, at `false values`, and at all `other words`.
    """
    rows = {}
    for pair, policy, reference in zip(pairs, after, before, strict=True):
        row = rows.setdefault(pair["aspect"], {"pairs": 0} | dict.fromkeys(COLUMNS, 0.0))
        chosen, rejected = (differences(policy[side], reference[side]) for side in ("chosen", "rejected"))
        row["pairs"] += 1
        row["chosen"] += sum(ratio for _, ratio in chosen)
        for part, ratio in _by_part(world, pair["question"], pair["rejected"], rejected):
            row[part] += ratio
            row["rejected"] += ratio
    for row in rows.values():
        row["margin"] = row["chosen"] - row["rejected"]
        row |= {name: row[name] / row["pairs"] for name in COLUMNS}
    return [{"aspect": aspect, **row} for aspect, row in rows.items()]


def _by_part(world: World, question: str, answer: str, ratios: Tokens) -> Iterable[tuple[str, float]]:
    """Each token's part and log-ratio; a token belongs where its last character lies."""
    name = world.find_entity(question)
    wrong = [said.value for said in world.parse(answer, name) if said.value and not said.correct]
    spans = [(NAME, *found.span()) for found in re.finditer(re.escape(name), answer)]
    spans += [(FALSE, *found.span()) for value in wrong for found in re.finditer(re.escape(value), answer)]
    end = 0
    for token, ratio in ratios:
        end += len(token)
        yield next((part for part, start, stop in spans if start < end <= stop), OTHER), ratio
