"""Copy the executed notebooks, figures and scores of a run into the repository: what readers see."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from knowtuning.arms import ARMS
from knowtuning.execute import NOTEBOOKS, SOLUTIONS, code_hash
from knowtuning.figures.overview import COMPARED, method, method_numbers
from knowtuning.files import ROOT, DataError, shown, write_json, write_text
from knowtuning.run import runs_folder

KINDS = ("png", "svg", "pdf")


def publish(recipe: str, seed: int, arm: str) -> None:
    """Replace the notebooks and their solutions by their executed copies, figures/ and data/results/ by the run's own.

    A notebook that this run did not execute keeps the outputs that it has. A copy whose code differs from the
    notebook's is refused: it was executed before the code was changed; and so is a notebook without any outputs.
    """
    folder = runs_folder() / recipe
    run = folder / f"seed-{seed}"
    executed = {}
    for source in sorted([*NOTEBOOKS.glob("[0-9A]*.ipynb"), *SOLUTIONS.glob("*.ipynb")]):
        places = [folder / "base" / "notebooks" / source.name, run / "notebooks" / source.name]
        places.append(run / "notebooks" / f"{source.stem}.{arm}.ipynb")
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
        _copy(scores, ROOT / "data" / "results" / recipe / f"seed-{seed}" / scores.name)
    for place in (folder / "base" / "figures", run / "figures"):
        for figure in sorted(path for kind in KINDS for path in place.glob(f"*.{kind}")):
            if figure.stem.rpartition(".")[2] not in ARMS.keys() - {arm}:
                _copy(figure, ROOT / "figures" / figure.name)
    if all((run / "scores" / f"{name}.json").exists() for name in COMPARED):
        numbers = method_numbers(run)
        results = write_json(ROOT / "data" / "results" / recipe / f"seed-{seed}" / "method.json", numbers)
        print(f"{shown(results)} -> {shown(write_text(ROOT / 'figures' / 'method.svg', method(numbers)))}")


def _stamp(notebook: Path) -> str | None:
    """The hash of the code that a notebook was executed with; None where it was not."""
    return json.loads(notebook.read_text(encoding="utf-8"))["metadata"].get("knowtuning", {}).get("code")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    print(f"{shown(source)} -> {shown(target)}")
