"""The study: `results` runs all of it, the other words are its steps, one process each, as `study/Snakefile` calls.

python -m study results --cores 2
python -m study cell --recipe lab --seed 0
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from knowtuning.files import ROOT, DataError, read_json, runs_folder, shown, write_json
from knowtuning.progress import FILE_VARIABLE
from knowtuning.recipe import Recipe, get_recipe
from knowtuning.teacher.errors import TeacherError
from study.plan import Method, Study, at_point, get_study

if TYPE_CHECKING:
    from study.cell import Cell


def study_folder(name: str) -> Path:
    """Where the study called `name` is written: `runs/study`, or `runs/study-NAME` beside it."""
    return runs_folder() / ("study" if name == "lab" else f"study-{name}")


def results(name: str, study: Study, cores: int) -> int:
    """Run every step that is missing or older than its inputs, and print the verdicts; Snakemake's exit code."""
    from knowtuning.walk import run_graph
    from study.tables import load, verdicts

    folder = study_folder(name)
    code = run_graph(ROOT / "study" / "Snakefile", folder, f"study {name}", {"study": name}, cores, ["results"])
    if code == 0:
        for row in verdicts(load(folder / "results")):
            print(f"{row['overall']:16} {row['claim']}")
        print(f"The rule stands in study/claims.py, all tables in {shown(folder / 'results')} and notebook 11.")
    return code


def publish(name: str, study: Study) -> None:
    """Copy the notebooks and figures of recipe `name`, seed 0, and the study's results into the repository."""
    from study.publish import publish_run, publish_study

    publish_run(name)
    publish_study(name, study_folder(name) / "results")


def rates(name: str, study: Study, seed: int) -> None:
    """Try the grid of learning rates on one seed of tuning."""
    from study.tuning import try_rates

    folder = study_folder(name) / "tuning" / f"seed-{seed}"
    try_rates(_cell(study, get_recipe(study.tuning), folder, seed, {}), study.arms, study.rates, say=_say)


def choose(name: str, study: Study) -> None:
    """Choose the rate of every arm from what was tried on all seeds of tuning."""
    from study.tuning import choose

    folder = study_folder(name)
    tried = [read_json(folder / "tuning" / f"seed-{seed}" / "rates.json") for seed in study.tuning_seeds]
    write_json(folder / "tuning.json", choose(tried))


def cell(name: str, study: Study, recipe: str, seed: int) -> None:
    """All arms on one base with one training seed."""
    from study.cell import run_cell

    folder = study_folder(name)
    place = folder / recipe / f"seed-{seed}"
    run_cell(_cell(study, get_recipe(recipe), place, seed, _chosen(folder)), study.arms, say=_say)


def point(name: str, study: Study, place: str, seed: int) -> None:
    """SFT, KA and KnowTuning at one point of the map."""
    from study.map import run_point

    folder = study_folder(name)
    at = next(point for point in study.points if point.name == place)
    made = _cell(study, at_point(at), folder / "map" / place / f"seed-{seed}", seed, _chosen(folder), at.method)
    if at.unturned:
        usual = _cell(study, get_recipe(at.recipe), folder / at.recipe / f"seed-{seed}", seed, made.rates)
        made.take(usual, at.unturned)
    run_point(made, at, study.map_arms, say=_say)


def judge(name: str, study: Study) -> None:
    """Judges of known errors on KnowTuning's answers beside SFT's and the baselines', of two cells."""
    from study.judged import judge_cells

    recipe, (tested, calibrated, *_) = next(iter(study.cells.items()))
    judge_cells(study_folder(name), recipe, tested, calibrated, study.judged_against, say=_say)


def tables(name: str, study: Study) -> None:
    """The small result files that tables and figures are made of, from all cells there are."""
    from study.collect import collect

    collect(study_folder(name), study_folder(name) / "results")


def _cell(
    study: Study, recipe: Recipe, folder: Path, seed: int, rates: dict[str, float], method: Method | None = None
) -> Cell:
    from study.cell import Cell

    sizes = (study.responses, study.confidence_samples, study.confidence_tokens)
    return Cell(recipe, seed, folder, method or Method(), rates, *sizes)


def _chosen(folder: Path) -> dict[str, float]:
    return read_json(folder / "tuning.json")["multiples"]


def _say(text: str) -> None:
    print(text, flush=True)


def main(argv: list[str] | None = None) -> int:
    """Run the study or one step; a step's messages go to the log, a failure as the sentence that the walk shows."""
    parser = argparse.ArgumentParser(prog="python -m study", description=__doc__.splitlines()[0])
    words = ("results", "publish", "rates", "choose", "cell", "point", "judge", "tables")
    parser.add_argument("step", choices=words)
    parser.add_argument("--study", default="lab", help="lab, or smoke: does everything run?")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--recipe", default="")
    parser.add_argument("--point", default="")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(argv)
    steps = {
        "publish": publish,
        "rates": partial(rates, seed=given.seed),
        "choose": choose,
        "cell": partial(cell, recipe=given.recipe, seed=given.seed),
        "point": partial(point, place=given.point, seed=given.seed),
        "judge": judge,
        "tables": tables,
    }
    try:
        study = get_study(given.study)
        if given.step == "results":
            return results(given.study, study, given.cores)
        progress = (
            study_folder(given.study) / "progress" / f"{given.point or given.recipe or given.step} {given.seed}.json"
        )
        progress.parent.mkdir(parents=True, exist_ok=True)
        os.environ[FILE_VARIABLE] = str(progress.resolve())
        steps[given.step](given.study, study)
    except (DataError, TeacherError, ValueError) as error:
        print(f"knowtuning: {error}", file=sys.stderr)
        return 1
    progress.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
