"""Copy what a run and the study left into the repository, for readers: executed notebooks, figures and results."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from knowtuning.arms import ARMS
from knowtuning.execute import NOTEBOOKS, SOLUTIONS, code_hash
from knowtuning.files import ROOT, DataError, runs_folder, shown, write_json, write_text
from study.overview import COMPARED, method, method_numbers

KINDS = ("png", "svg", "pdf")
ARM = "knowtuning"  # whose notebooks 08 and 09 are shown


def publish_run(recipe: str, seed: int = 0) -> None:
    """Replace the notebooks and their solutions by their executed copies, figures/ and data/results/ by the run's own.

    A notebook that this run did not execute keeps the outputs that it has. A copy whose code differs from the
    notebook's is refused: it was executed before the code was changed; and so is a notebook without any outputs.
    """
    folder = runs_folder() / recipe
    run, results = folder / f"seed-{seed}", ROOT / "data" / "results" / recipe / f"seed-{seed}"
    executed = {}
    for source in sorted([*NOTEBOOKS.glob("[0-9A]*.ipynb"), *SOLUTIONS.glob("*.ipynb")]):
        places = [folder / "base" / "notebooks" / source.name, run / "notebooks" / source.name]
        places.append(run / "notebooks" / f"{source.stem}.{ARM}.ipynb")
        if source.parent == SOLUTIONS:
            places = [run / "solutions" / source.name]
        copy = next((place for place in places if place.exists()), source)
        if _stamp(copy) != code_hash(source):
            raise DataError(f"{shown(copy)} was not executed as {source.name} stands now: `make` lists what runs it.")
        executed[source] = copy
    for source, copy in executed.items():
        if copy != source:
            _copy(copy, source)
    for scores in sorted((run / "scores").glob("*.json")):
        _copy(scores, results / scores.name)
    for place in (folder / "base" / "figures", run / "figures"):
        for figure in sorted(path for kind in KINDS for path in place.glob(f"*.{kind}")):
            if figure.stem.rpartition(".")[2] not in ARMS.keys() - {ARM}:
                _copy(figure, ROOT / "figures" / figure.name)
    if all((run / "scores" / f"{name}.json").exists() for name in COMPARED):
        numbers = method_numbers(run)
        write_json(results / "method.json", numbers)
        print(f"{shown(run)} -> {shown(write_text(ROOT / 'figures' / 'method.svg', method(numbers)))}")


def publish_study(name: str, collected: Path) -> None:
    """Copy what the study collected, where it collected anything, into data/results/<name>/study."""
    target = ROOT / "data" / "results" / name / "study"
    if (collected / "claims.json").exists():
        print(f"{shown(collected)} -> {shown(shutil.copytree(collected, target, dirs_exist_ok=True))}")


def _stamp(notebook: Path) -> str | None:
    """The hash of the code that a notebook was executed with; None where it was not."""
    return json.loads(notebook.read_text(encoding="utf-8"))["metadata"].get("knowtuning", {}).get("code")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    print(f"{shown(source)} -> {shown(target)}")
