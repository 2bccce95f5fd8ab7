"""The learning rate of every arm: the same grid for all, chosen on validation questions, and nothing else is chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import mean

from knowtuning.files import DataError, read_json, write_json
from study.cell import Cell, learning_rate
from study.map import means

CRITERION = "mean F1 of the facts of greedy answers to the validation questions"


def try_rates(
    cell: Cell, arms: Iterable[str], rates: Iterable[float], say: Callable[[str], None] = lambda text: None
) -> Path:
    """Train every arm with every rate of the grid on a cell's seed, score validation answers, and write `rates.json`.

    What an arm starts from (ka, sft) is trained at the recipe's own rate, so that the arms do not depend on each
    other.
    """
    rows = []
    for arm in arms:
        for rate in rates if arm != "base" else ():
            cell.rates, path = {arm: rate}, cell.folder / "scores" / f"{arm}.{rate}.json"
            if not path.exists():
                write_json(path, _tried(cell, arm, rate))
            rows.append(read_json(path))
            say(f"{cell.recipe.name} seed {cell.seed}: {arm} at {rows[-1]['rate']:g}, F1 {rows[-1]['f1']:.3f}")
    return write_json(cell.folder / "rates.json", rows)


def _tried(cell: Cell, arm: str, rate: float) -> dict:
    """Validation scores of one arm at one rate."""
    rows = cell.score(cell.model(arm), cell.data.valid, "greedy")
    shares = means(rows, len(cell.world.relations))
    return {
        "arm": arm,
        "seed": cell.seed,
        "multiple": rate,
        "rate": learning_rate(cell.recipe, arm, rate),
        "f1": shares["f1"] / 100,
        "percent_correct": shares["percent_correct"],
        "completeness": shares["completeness"],
        "questions": len(rows),
    }


def choose(tried: list[list[dict]]) -> dict:
    """The rate of each arm with the best mean criterion over the seeds, the smaller one where two are equal.

    Returns `{"criterion", "grid", "seeds", "rows", "chosen": {arm: rate}, "multiples": {arm: multiple}}`.
    """
    rows = [row for of_seed in tried for row in of_seed]
    if not rows:
        raise DataError("there are no tried learning rates to choose from: run the tuning of one seed first.")
    best = {}
    for arm in dict.fromkeys(row["arm"] for row in rows):
        by_rate: dict[float, list[dict]] = {}
        for row in rows:
            if row["arm"] == arm:
                by_rate.setdefault(row["multiple"], []).append(row)
        best[arm] = max(sorted(by_rate.items()), key=lambda item: mean(row["f1"] for row in item[1]))[1][0]
    return {
        "criterion": CRITERION,
        "grid": sorted({row["multiple"] for row in rows}),
        "seeds": sorted({row["seed"] for row in rows}),
        "rows": rows,
        "chosen": {arm: row["rate"] for arm, row in best.items()},
        "multiples": {arm: row["multiple"] for arm, row in best.items()},
    }
