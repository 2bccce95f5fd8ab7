"""From the collected study to the rows that `study.figures` draws."""

from __future__ import annotations

import numpy as np

from study.claims import PRICED_AS
from study.rows import Rows, grouped, where
from study.seeds import over_cells
from study.tables import ABLATIONS, MAIN, NAMES, Study, domains


def games(study: Study, decoding: str = "greedy") -> Rows:
    """For `figures.win_tie_lose`."""
    return [
        {**{name: row[name] for name in ("domain", "aspect", "win", "tie", "lose")}, "against": NAMES[row["against"]]}
        for row in where(study["pairwise"], decoding=decoding)
    ]


def told(study: Study, decoding: str = "greedy") -> Rows:
    """For `figures.correct_and_incorrect`: means of the arms with a t-interval over cells."""
    cells = grouped(where(study["cells"], decoding=decoding), "domain", "arm")
    rows = []
    for domain, arm in ((domain, arm) for domain in domains(study) for arm in MAIN if (domain, arm) in cells):
        for metric in ("correct facts", "incorrect facts"):
            mean = over_cells(np.array([row[metric] for row in cells[domain, arm]]))
            ends = {"low": mean["low"], "high": mean["high"]}
            rows.append({"domain": domain, "arm": NAMES[arm], "metric": metric, "value": mean["difference"], **ends})
    return rows


def ablations(study: Study, decoding: str = "greedy") -> Rows:
    """For `figures.ablation_differences`: arms minus KnowTuning."""
    wanted = ("domain", "metric", "difference", "low", "high")
    compared = where(study["differences"], decoding=decoding, tier="all", against="knowtuning")
    return [
        {**{name: row[name] for name in wanted}, "arm": NAMES[arm]}
        for metric in ("completeness", "% correct", "incorrect facts", "order")
        for arm in ABLATIONS
        for row in where(compared, arm=arm, metric=metric)
    ]


def costs(study: Study, domain: str) -> Rows:
    """For `figures.set_costs`: KnowTuning's two sets stacked, then the baselines."""
    sets = {row["set"]: row for row in where(study["cost"], domain=domain, model=PRICED_AS)}
    stacks = {"KnowTuning": ("KnowTuning KA", "KnowTuning KC")}
    rows = []
    for name in ("KnowTuning", "RLAIF", "FactTune FS", "FactTune MC"):
        parts = [part for part in stacks.get(name, (name,)) if part in sets]
        if parts:
            calls = 1000 * sum(sets[part]["calls"] / sets[part]["training_answers"] for part in parts)
            dollars = [(part, sets[part]["dollars_per_1000"]) for part in parts]
            rows.append({"set": name, "parts": dollars, "calls": calls, "model": PRICED_AS})
    return rows


def cells(study: Study, decoding: str = "greedy") -> Rows:
    """For `figures.cells_by_base`: KnowTuning minus SFT in every cell that has both."""
    bases = {(row["recipe"], row["seed"]): row["base_seed"] for row in study["coverage"]}
    references = {(row["recipe"], row["seed"]): row for row in where(study["cells"], decoding=decoding, arm="sft")}
    rows = []
    for row in where(study["cells"], decoding=decoding, arm="knowtuning"):
        place = row["recipe"], row["seed"]
        for metric in ("correct facts", "% correct", "order") if place in references else ():
            pair = row[metric], references[place][metric]
            if None not in pair:
                about = {"domain": row["domain"], "base": bases[place], "seed": row["seed"], "metric": metric}
                rows.append({**about, "difference": pair[0] - pair[1]})
    return rows
