"""The pairwise judge of the paper, measured: raw, corrected and true win rates, for judges of known errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from knowtuning.evaluation.judge import judge_pairs, measure, summarise_verdicts, true_verdicts
from knowtuning.files import read_jsonl, write_json
from knowtuning.knowledge.aspects import ASPECTS
from knowtuning.recipe import get_recipe
from knowtuning.teacher.server import open_teacher
from study.correction import confusion, corrected_win_rate

ARM = "knowtuning"
JUDGES = tuple(f"lab-judge-errors-{how}" for how in ("0", "10", "20", "30", "20-first-15", "20-long-15"))


def judge_cells(
    folder: Path,
    recipe: str,
    tested: int,
    calibrated: int,
    others: Sequence[str],
    say: Callable[[str], None] = lambda text: None,
) -> Path:
    """Let every judge compare KnowTuning's greedy answers with those of each of `others`, and write `judge.json`.

    The pairs of seed `tested` are judged and corrected; the judge's errors are measured on those of seed `calibrated`,
    which are other models' answers to the same questions, as a sample labelled by people would measure them.
    """
    settings = get_recipe(recipe)
    rows = []
    for judge in JUDGES:
        with open_teacher(judge, folder / "judges", settings.base, settings.concurrency) as teacher:
            for other in others:
                cells = [folder / recipe / f"seed-{seed}" for seed in (tested, calibrated)]
                sides = [_judged(teacher, cell, ARM, other) for cell in cells]
                rows += [{"judge": judge, "arm": ARM, "against": other, **row} for row in _compared(*sides)]
                say(f"{judge}: {ARM} against {other}")
    return write_json(
        folder / "judge.json", {"recipe": recipe, "seed": tested, "calibration seed": calibrated, "rows": rows}
    )


def _judged(teacher, cell: Path, arm: str, other: str) -> tuple[list[dict], list[str]]:
    """Verdicts on one cell's pairs, and their truth."""
    first, second = (read_jsonl(cell / "answers" / f"{name}.greedy.jsonl") for name in (arm, other))
    verdicts = judge_pairs(teacher, first, second, {})
    return verdicts, true_verdicts(verdicts, first, second)


def _compared(tested: tuple[list[dict], list[str]], calibration: tuple[list[dict], list[str]]) -> list[dict]:
    """One row per aspect: what is true, what the judge says, what is left of it after correction."""
    verdicts, truth = tested
    measured = measure(*calibration)
    summaries = {row["aspect"]: row for row in summarise_verdicts(verdicts)}
    rows = []
    for aspect in ASPECTS:
        true = [outcome for verdict, outcome in zip(verdicts, truth, strict=True) if verdict["aspect"] == aspect]
        row = {"aspect": aspect, "questions": len(true), "unreadable": summaries[aspect]["unreadable"]}
        row["true"] = {name: true.count(name) / len(true) for name in ("win", "tie", "lose")}
        row["true"]["win_rate"] = row["true"]["win"] + row["true"]["tie"] / 2
        row["measured"] = measured[aspect]
        try:
            row |= corrected_win_rate(summaries[aspect], confusion(*calibration, aspect))
        except ValueError as error:  # too few pairs of some truth to correct by: the reason stands in the table
            row["refused"] = str(error)
        rows.append(row)
    return rows
