"""Copy the executed notebooks, figures and scores of a run into the repository: what readers see."""

from __future__ import annotations

import shutil

from knowtuning.artifacts import ROOT, DataError, runs_folder, shown
from knowtuning.execute import NOTEBOOKS, code_hash


def publish(profile: str, seed: int, arm: str) -> None:
    """Replace notebooks/*.ipynb by their executed copies, figures/ and data/results/ by the run's figures and scores.

    A copy whose code differs from the notebook's is refused: it was executed before the code was changed.
    """
    folder = runs_folder() / profile
    run = folder / f"seed-{seed}"
    executed = {}
    for source in sorted(NOTEBOOKS.glob("[0-9A]*.ipynb")):
        places = [folder / "base" / "notebooks" / source.name, run / "notebooks" / source.name]
        places.append(run / "notebooks" / f"{source.stem}.{arm}.ipynb")
        copy = next((place for place in places if place.exists()), None)
        if copy is None:
            raise DataError(
                f"{shown(run)} has no executed copy of {source.name}: run `make lab`, for the appendices `make errors`."
            )
        if code_hash(copy) != code_hash(source):
            raise DataError(f"{shown(copy)} was executed from other code than {source.name} has: run the walk again.")
        executed[source] = copy
    for source, copy in executed.items():
        shutil.copyfile(copy, source)
        print(f"{shown(copy)} -> {shown(source)}")
    for scores in sorted((run / "scores").glob("*.json")):
        target = ROOT / "data" / "results" / profile / f"seed-{seed}" / scores.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(scores, target)
        print(f"{shown(scores)} -> {shown(target)}")
    figures = ROOT / "figures"
    for old in figures.glob("*.png"):
        old.unlink()
    for place in (folder / "base" / "figures", run / "figures"):
        for figure in sorted(place.glob("*.png")):
            if figure.stem.count(".") == 0 or figure.stem.endswith(f".{arm}"):
                shutil.copyfile(figure, figures / figure.name)
                print(f"{shown(figure)} -> figures/{figure.name}")
