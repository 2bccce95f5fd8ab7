"""What it costs to build the training sets of each method: calls, tokens and dollars, as the paper's table of costs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import yaml

from knowtuning.files import DataError
from knowtuning.teacher.budget import TABLE, load_price
from study.answers import Cell
from study.seeds import over_cells

# set -> the teacher's record in cell.json, and which of its tasks build the set; None: all of them
SETS: dict[str, tuple[str, tuple[str, ...] | None]] = {
    "KnowTuning KA": ("knowtuning", ("extract", "rewrite")),
    "KnowTuning KC": ("knowtuning", ("rephrase", "revise")),
    "KnowTuning": ("knowtuning", None),
    "RLAIF": ("rlaif", None),
    "FactTune FS": ("facttune", None),
    "FactTune MC": ("facttune_mc", None),
}
COMPARED = (("KnowTuning", "FactTune FS"), ("KnowTuning", "FactTune MC"), ("KnowTuning", "RLAIF"))
COUNTS = ("calls", "prompt_tokens", "completion_tokens")


def models() -> list[str]:
    """The models of the price table that cost something."""
    named = yaml.safe_load(TABLE.read_text(encoding="utf-8"))["models"]
    prices = {name: load_price(name) for name in named}
    return [name for name, price in prices.items() if price and price.input + price.output > 0]


def cost_rows(cells: Iterable[Cell]) -> list[dict]:
    """Rows per domain, set and model: mean calls and tokens of a cell, dollars per cell and per 1,000 answers.

    Tokens are those that the cell's teacher counted. A cell whose teacher was not asked has no such set.
    """
    rows = []
    for (world, name), used in _sets(cells).items():
        counts = {count: float(np.mean([row[count] for row in used])) for count in (*COUNTS, "training_answers")}
        for model in models():
            dollars = load_price(model).dollars(counts["prompt_tokens"], counts["completion_tokens"])
            per_1000 = float(np.mean(_per_1000(used, model)))
            rows.append(
                {"domain": world, "set": name, "model": model, "cells": len(used), **counts}
                | {"dollars": dollars, "dollars_per_1000": per_1000}
            )
    return rows


def cost_differences(cells: Iterable[Cell]) -> list[dict]:
    """Rows per domain, model and pair of sets: dollars per 1,000 answers, first - second, t-interval over cells."""
    rows, sets = [], _sets(cells)
    for world in dict.fromkeys(world for world, _ in sets):
        for first, second in COMPARED:
            both = [{row["cell"]: row for row in sets.get((world, name), [])} for name in (first, second)]
            shared = [name for name in both[0] if name in both[1]]
            for model in models() if shared else []:
                ours, theirs = (_per_1000([side[name] for name in shared], model) for side in both)
                row = {"domain": world, "model": model, "first": first, "second": second, "cells": len(shared)}
                rows.append({**row, **over_cells(ours - theirs)})
    return rows


def _sets(cells: Iterable[Cell]) -> dict[tuple[str, str], list[dict]]:
    """(domain, set) -> what each cell used for it."""
    sets = defaultdict(list)
    for cell in cells:
        _refuse_unknown_tasks(cell)
        answers = cell.about.get("training", {}).get("sft", {}).get("rows")
        for name, (record, tasks) in SETS.items():
            used = cell.about.get("teacher", {}).get(record, {})
            chosen = [counts for task, counts in used.items() if tasks is None or task in tasks]
            if answers and chosen:
                total = {count: sum(counts[count] for counts in chosen) for count in COUNTS}
                sets[cell.world, name].append({"cell": cell.name, "training_answers": answers, **total})
    return sets


def _refuse_unknown_tasks(cell: Cell) -> None:
    """A task of KnowTuning's record that is in neither of its two sets would be in their sum only."""
    known = {task for record, tasks in SETS.values() if record == "knowtuning" for task in tasks or ()}
    if unknown := sorted(set(cell.about.get("teacher", {}).get("knowtuning", {})) - known):
        raise DataError(f"cell.json of {cell.name}: no set is made of the task {unknown[0]!r}; enter it in cost.SETS.")


def _per_1000(used: list[dict], model: str) -> np.ndarray:
    price = load_price(model)
    dollars = [price.dollars(row["prompt_tokens"], row["completion_tokens"]) for row in used]
    return 1000 * np.array(dollars) / [row["training_answers"] for row in used]
