"""Where the files of a run lie, and the manifest that each notebook leaves."""

from __future__ import annotations

import resource
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from knowtuning.cards.model_cards import write_cards
from knowtuning.files import DataError, read_json, read_jsonl, runs_folder, sha256, shown, write_json, write_jsonl
from knowtuning.recipe import get_recipe, keep, lab_of

# What a notebook leaves behind, by the beginning of its name inside the run: the longest beginning wins.
WRITTEN_BY = {
    "base": "00_base_model",
    "data": "01_questions_and_answers",
    "adapters/sft": "02_vanilla_sft",
    "facts.jsonl": "03_extraction",
    "difficulty.jsonl": "04_difficult_knowledge",
    "ka": "05_rewriting",
    "kc": "06_disturbance",
    "adapters/ka": "07_knowledge_augmentation",
    "pairs": "10_baselines",
    "adapters": "08_knowledge_comparison",
    "answers": "09_evaluation",
    "scores": "09_evaluation",
    "teacher_quality.json": "A1_teacher_errors",
}
PACKAGES = ("knowtuning", "torch", "transformers", "trl", "peft", "bitsandbytes", "openai", "evaluate", "papermill")


def versions() -> dict[str, str]:
    """Installed versions of the packages that the numbers depend on."""
    found = {"python": sys.version.split()[0]}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def peak_memory_mb(process: int | str = "self") -> float:
    """Largest resident memory of this process so far, in MB; on Linux also that of another, by its number."""
    status = Path(f"/proc/{process}/status")
    if status.exists():  # Linux, where getrusage counts the process that started this one too
        [peak] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(peak.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


class Run:
    """The files of one (recipe, seed), and what one notebook read and wrote of them.

    Example:
        run = Run("03_extraction", recipe="lab", seed=0)
        rows = run.read("data/train.jsonl")        # a missing file names the notebook that writes it
        run.write("facts.jsonl", facts)
        run.finish(answers=len(rows))              # the manifest, last: its presence means complete
    """

    def __init__(self, notebook: str, recipe: str, seed: int | None = None, arm: str = "", **parameters: Any) -> None:
        self.recipe = get_recipe(recipe)
        recipe = keep(self.recipe)  # the name, where a path was given
        self.seed = seed
        self.step = f"{notebook}.{arm}" if arm else notebook
        self.runs = runs_folder()
        # the base is shared by all seeds, so notebook 00 has none and its files lie beside the base
        self.root = self.runs / recipe / ("base" if seed is None else f"seed-{seed}")
        self.teacher = self.runs / recipe / "teacher"
        self.parameters = {"recipe": recipe, "seed": seed, **({"arm": arm} if arm else {}), **parameters}
        self._read: dict[str, Path] = {}
        self._wrote: dict[str, Path] = {}
        self._start = time.time()

    def __repr__(self) -> str:
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"recipe {self.recipe.name} ({self.recipe.about}){seed}"

    @property
    def base(self) -> str | Path:
        """The base model: the folder that notebook 00 wrote, or the recipe's own folder or hub name."""
        if lab_of(self.recipe.base):
            return self.runs / self.recipe.base / "base"
        return self.recipe.base

    def path(self, name: str) -> Path:
        """Where the artefact called `name` ("facts.jsonl", "adapters/sft", "base") lies."""
        return Path(self.base) if name == "base" else self.root / name

    def need(self, name: str) -> str | Path:
        """Return the path of an input; when it is missing, `DataError` names the notebook to run first."""
        if name == "base" and isinstance(self.base, str):
            return self.base
        path = self.path(name)
        if not path.exists():
            writer = WRITTEN_BY[max((key for key in WRITTEN_BY if name.startswith(key)), key=len)]
            recipe = self.recipe.base if name == "base" else self.recipe.name
            raise DataError(
                f"{shown(path)} is missing: run notebook {writer} first (recipe {recipe}, seed {self.seed})."
            )
        self._read[name] = path
        return path

    def read(self, name: str) -> Any:
        """Read an input written by an earlier notebook: rows of a .jsonl, the value of a .json."""
        path = Path(self.need(name))
        return read_jsonl(path) if path.suffix == ".jsonl" else read_json(path)

    def write(self, name: str, value: Any) -> Path:
        """Write an artefact: rows as .jsonl, any JSON value as .json."""
        write = write_jsonl if name.endswith(".jsonl") else write_json
        return self.wrote(name, write(self.path(name), value))

    def wrote(self, name: str, path: Path | None = None) -> Path:
        """Enter an artefact that something else wrote (a trainer, a checkpoint) into the manifest."""
        self._wrote[name] = path or self.path(name)
        return self._wrote[name]

    def figure(self, figure: Any, name: str) -> Any:
        """Save a figure under `figures/`, and return it as an image for the notebook to show."""
        from IPython.display import Image

        from knowtuning.figures import save

        path = save(figure, self.root / "figures", name)
        self.wrote(f"figures/{path.name}", path)
        return Image(data=path.read_bytes(), width=figure.get_figwidth() * 96)

    def teacher_failures(self) -> str:
        """What the teacher could not do in the stages of this run so far, as every table after them says it.

        Notebooks that ask the teacher hand `teacher_asked` and `teacher_failed` (rows) to `finish`.
        """
        asked = failed = 0
        for path in sorted((self.root / "manifests").glob("*.json")):
            numbers = read_json(path)["numbers"]
            asked, failed = asked + numbers.get("teacher_asked", 0), failed + numbers.get("teacher_failed", 0)
        return f"{failed:,} of {asked:,} ({failed / asked:.1%})" if asked else "nothing asked"

    def finish(self, **numbers: Any) -> dict[str, Any]:
        """Write the manifest of this notebook, last, and return the row of numbers that it ends with.

        The cards of the models and training files that it wrote are made of it.
        """
        manifest = {
            "step": self.step,
            "parameters": self.parameters,
            "numbers": numbers,
            # of a model its own files: beside them lie the notebook that made it, and its times
            "reads": {name: sha256(path, deep=False) for name, path in self._read.items()},
            "writes": {name: sha256(path, deep=False) for name, path in self._wrote.items()},
            "seconds": round(time.time() - self._start, 1),
            "peak_memory_mb": round(peak_memory_mb()),
            "versions": versions(),
        }
        write_json(self.root / "manifests" / f"{self.step}.json", manifest)
        write_cards(self, self._wrote)
        failures = {"teacher requests failed": self.teacher_failures()}
        return {**numbers, **failures, "seconds": manifest["seconds"], "peak memory (MB)": manifest["peak_memory_mb"]}
