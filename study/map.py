"""A map of when the method works: one knob of the world, the teacher or the method is turned, all else is as always."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import mean

from knowtuning.evaluation.facts import f1, summarise
from knowtuning.files import read_jsonl, write_json
from knowtuning.run import runs_folder
from study.cell import Cell
from study.plan import Point


def run_point(cell: Cell, point: Point, arms: Iterable[str], say: Callable[[str], None] = lambda text: None) -> Path:
    """Train and evaluate `arms` at one point of the map, and write `point.json`, last.

    It holds the point, the means of every metric of greedy answers by arm, what the base knows, and how far DPO pushed
    the preferred answers' own likelihood.
    """
    scores, drift = {}, {}
    for arm in arms:
        answers = cell.answers(arm, ("greedy",))
        scores[arm] = {decoding: means(rows, len(cell.world.relations)) for decoding, rows in answers.items()}
        say(f"{point.name} seed {cell.seed}: {arm}, F1 {scores[arm]['greedy']['f1']:.3f}")
        drift |= cell.drift(arm)
    record = {
        "point": {"axis": point.axis, "value": point.value},
        "seed": cell.seed,
        "arms": scores,
        "base": recall(point.recipe),
        "chosen reward at the end": drift,
    }
    return write_json(cell.folder / "point.json", record)


def means(rows: list[dict], relations: int) -> dict[str, float | None]:
    """Means over answers, shares in percent, overall and for each tier as "name: tier"."""
    summary = summarise(rows)
    parts = {"": (rows, summary["overall"])}
    for tier in sorted(summary["by_tier"]):
        parts[f": {tier}"] = ([row for row in rows if row["tier"] == tier], summary["by_tier"][tier])
    shares: dict[str, float | None] = {}
    for suffix, (part, mean_of) in parts.items():
        shares |= {f"{name}{suffix}": mean_of[name] for name in ("correct", "incorrect", "percent_correct", "words")}
        for name in ("completeness", "order"):
            shares[f"{name}{suffix}"] = None if mean_of[name] is None else 100 * mean_of[name]
        shares[f"f1{suffix}"] = 100 * mean(f1(row["correct"], row["incorrect"], relations) for row in part)
    return shares


def recall(recipe: str) -> dict[str, float]:
    """Share of the facts that the base of a recipe knows, by tier, as notebook 00 measured it."""
    rows = read_jsonl(runs_folder() / recipe / "base" / "knowledge.jsonl")
    tiers = dict.fromkeys(row["tier"] for row in rows)
    return {f"{tier} recall": mean(row["known"] for row in rows if row["tier"] == tier) for tier in tiers}
