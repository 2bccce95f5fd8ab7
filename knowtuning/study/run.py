"""The steps of the study, one process each, as the Snakefile calls them: rates, choose, cell, point, judge, tables.

python -m knowtuning.study.run cell --study lab --recipe lab --seed 0
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from knowtuning.files import DataError, read_json, shown, write_json
from knowtuning.progress import FILE_VARIABLE
from knowtuning.recipe import Recipe, get_recipe
from knowtuning.run import runs_folder
from knowtuning.study.plan import Method, Study, at_point, get_study
from knowtuning.teacher.errors import TeacherError

if TYPE_CHECKING:
    from knowtuning.study.cell import Cell


def study_folder(name: str) -> Path:
    """Where the study called `name` is written: `runs/study`, or `runs/study-NAME` beside it."""
    return runs_folder() / ("study" if name == "lab" else f"study-{name}")


def rates(name: str, study: Study, seed: int) -> None:
    """Try the grid of learning rates on one seed of tuning."""
    from knowtuning.study.tuning import try_rates

    folder = study_folder(name) / "tuning" / f"seed-{seed}"
    try_rates(_cell(study, get_recipe(study.tuning), folder, seed, {}), study.arms, study.rates, say=_say)


def choose(name: str, study: Study) -> None:
    """Choose the rate of every arm from what was tried on all seeds of tuning."""
    from knowtuning.study.tuning import choose

    folder = study_folder(name)
    tried = [read_json(folder / "tuning" / f"seed-{seed}" / "rates.json") for seed in study.tuning_seeds]
    write_json(folder / "tuning.json", choose(tried))


def cell(name: str, study: Study, recipe: str, seed: int) -> None:
    """All arms on one base with one training seed."""
    from knowtuning.study.cell import run_cell

    folder = study_folder(name)
    place = folder / recipe / f"seed-{seed}"
    run_cell(_cell(study, get_recipe(recipe), place, seed, _chosen(folder)), study.arms, say=_say)


def point(name: str, study: Study, place: str, seed: int) -> None:
    """SFT, KA and KnowTuning at one point of the map."""
    from knowtuning.study.map import run_point

    folder = study_folder(name)
    at = next(point for point in study.points if point.name == place)
    made = _cell(study, at_point(at), folder / "map" / place / f"seed-{seed}", seed, _chosen(folder), at.method)
    if at.unturned:
        made.take(
            _cell(study, get_recipe(at.recipe), folder / at.recipe / f"seed-{seed}", seed, made.rates), at.unturned
        )
    run_point(made, at, study.map_arms, say=_say)


def judge(name: str, study: Study) -> None:
    """Judges of known errors on KnowTuning's answers beside SFT's and the baselines', of two cells."""
    from knowtuning.study.judged import judge_cells

    recipe, (tested, calibrated, *_) = next(iter(study.cells.items()))
    judge_cells(study_folder(name), recipe, tested, calibrated, "knowtuning", study.judged_against, say=_say)


def tables(name: str, study: Study) -> None:
    """The small result files that tables and figures are made of, from all cells there are."""
    from knowtuning.study.collect import collect

    collect(study_folder(name), study_folder(name) / "results")


def _cell(
    study: Study, recipe: Recipe, folder: Path, seed: int, rates: dict[str, float], method: Method | None = None
) -> Cell:
    from knowtuning.study.cell import Cell

    sizes = (study.responses, study.confidence_samples, study.confidence_tokens)
    return Cell(recipe, seed, folder, method or Method(), rates, *sizes)


def _chosen(folder: Path) -> dict[str, float]:
    return read_json(folder / "tuning.json")["multiples"]


def _say(text: str) -> None:
    print(text, flush=True)


def results(study: str, cores: int) -> int:
    """Run every step of a study that is missing or older than its inputs, and print what became of the claims."""
    from knowtuning.cluster import here
    from knowtuning.study.tables import load, verdicts
    from knowtuning.walk import alone, snakemake

    get_study(study)
    folder = study_folder(study)
    with alone(folder, f"another run of the study {study}") as lock:
        code = snakemake(folder, lock, {"study": study}, here(cores), ["results"])
    if code == 0:
        for row in verdicts(load(folder / "results")):
            print(f"{row['overall']:16} {row['claim']}")
        print(f"The rule stands in claims.py, all tables in {shown(folder / 'results')} and notebook 11.")
    return code


def main(argv: list[str] | None = None) -> int:
    """Run one step; its messages go to the log of the walk, a failure as the sentence that the walk shows."""
    parser = argparse.ArgumentParser(prog="python -m knowtuning.study.run", description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=("rates", "choose", "cell", "point", "judge", "tables"))
    parser.add_argument("--study", default="lab")
    parser.add_argument("--recipe", default="")
    parser.add_argument("--point", default="")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(argv)
    study, folder = get_study(given.study), study_folder(given.study)
    what = given.point or given.recipe or given.step
    (folder / "progress").mkdir(parents=True, exist_ok=True)
    progress = folder / "progress" / f"{what} {given.seed}.json"
    os.environ[FILE_VARIABLE] = str(progress.resolve())
    steps = {
        "rates": partial(rates, seed=given.seed),
        "choose": choose,
        "cell": partial(cell, recipe=given.recipe, seed=given.seed),
        "point": partial(point, place=given.point, seed=given.seed),
        "judge": judge,
        "tables": tables,
    }
    try:
        steps[given.step](given.study, study)
    except (DataError, TeacherError, ValueError) as error:
        print(f"knowtuning: {error}", file=sys.stderr)
        return 1
    progress.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
