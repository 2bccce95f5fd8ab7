"""From the collected study to the rows that `knowtuning.figures` draws."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from knowtuning.study.claims import PRICED_AS
from knowtuning.study.cost import mean_over_cells
from knowtuning.study.tables import ABLATIONS, MAIN, NAMES, Rows, Study


def games(study: Study, decoding: str = "greedy") -> Rows:
    """For `figures.win_tie_lose`."""
    return [
        {**{name: row[name] for name in ("domain", "aspect", "win", "tie", "lose")}, "against": NAMES[row["against"]]}
        for row in study["pairwise"]
        if row["decoding"] == decoding
    ]


def told(study: Study, decoding: str = "greedy", arms: Sequence[str] = MAIN) -> Rows:
    """For `figures.correct_and_incorrect`: means of the arms with a t-interval over cells."""
    rows = []
    for domain in dict.fromkeys(row["domain"] for row in study["cells"]):
        for arm in arms:
            own = [
                row for row in study["cells"] if (row["domain"], row["arm"], row["decoding"]) == (domain, arm, decoding)
            ]
            for metric in ("correct facts", "incorrect facts") if own else ():
                found = mean_over_cells(np.array([row[metric] for row in own]))
                ends = {"low": found["low"], "high": found["high"]}
                rows.append(
                    {"domain": domain, "arm": NAMES[arm], "metric": metric, "value": found["difference"], **ends}
                )
    return rows


def ablations(
    study: Study,
    decoding: str = "greedy",
    metrics: Sequence[str] = ("completeness", "% correct", "incorrect facts", "order"),
    arms: Sequence[str] = ABLATIONS,
) -> Rows:
    """For `figures.ablation_differences`: arms minus KnowTuning."""
    wanted = ("domain", "metric", "difference", "low", "high")
    return [
        {**{name: row[name] for name in wanted}, "arm": NAMES[row["arm"]]}
        for metric in metrics
        for arm in arms
        for row in study["differences"]
        if (row["decoding"], row["tier"], row["against"]) == (decoding, "all", "knowtuning")
        and (row["arm"], row["metric"]) == (arm, metric)
    ]


def costs(study: Study, domain: str, model: str = PRICED_AS) -> Rows:
    """For `figures.set_costs`: KnowTuning's two sets stacked, then the baselines."""
    found = {row["set"]: row for row in study["cost"] if (row["domain"], row["model"]) == (domain, model)}
    stacks = {"KnowTuning": ("KnowTuning KA", "KnowTuning KC")}
    rows = []
    for name in ("KnowTuning", "RLAIF", "FactTune FS", "FactTune MC"):
        parts = [part for part in stacks.get(name, (name,)) if part in found]
        if parts:
            calls = 1000 * sum(found[part]["calls"] / found[part]["training_answers"] for part in parts)
            dollars = [(part, found[part]["dollars_per_1000"]) for part in parts]
            rows.append({"set": name, "parts": dollars, "calls": calls, "model": model})
    return rows


def cells(
    study: Study,
    decoding: str = "greedy",
    metrics: Sequence[str] = ("correct facts", "% correct", "order"),
    arm: str = "knowtuning",
    against: str = "sft",
) -> Rows:
    """For `figures.cells_by_base`: the difference of two arms in every cell that has both."""
    bases = {(row["recipe"], row["seed"]): row["base_seed"] for row in study["coverage"]}
    scores = {(row["recipe"], row["seed"], row["arm"]): row for row in study["cells"] if row["decoding"] == decoding}
    rows = []
    for (recipe, seed, name), row in scores.items():
        other = scores.get((recipe, seed, against))
        for metric in metrics if name == arm and other else ():
            if None in (row[metric], other[metric]):
                continue
            about = {"domain": row["domain"], "base": bases[recipe, seed], "seed": seed, "metric": metric}
            rows.append({**about, "difference": row[metric] - other[metric]})
    return rows
