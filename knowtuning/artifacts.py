"""Where the files of a run lie, and how they are read and written so that a kill at any moment leaves no half file."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any

from knowtuning.profiles import PROFILES, get_profile

ROOT = Path(__file__).resolve().parents[1]

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


class DataError(ValueError):
    """A file or a row that cannot be used; the message names the file, the row, the field and the cure."""


def write_text(path: Path, text: str) -> Path:
    """Write `text` to `path` atomically: a reader sees the old file or the whole new one."""
    return write_parts(path, [text])


def write_parts(path: Path, parts: Iterable[str]) -> Path:
    """Write pieces of text to `path` one by one, atomically; nothing but the piece at hand is in memory."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "w", encoding="utf-8") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def write_json(path: Path, value: Any) -> Path:
    """Write one JSON value, indented, UTF-8, keys in the order given."""
    return write_text(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def write_array(path: Path, rows: Iterable[dict]) -> Path:
    """Write flat rows (no list, no object in them) as one JSON array, in the very bytes of `write_json`, one by one."""

    def parts() -> Iterator[str]:
        opening = "[\n "
        for row in rows:
            fields = (f"{_in_json(name)}: {_in_json(value)}" for name, value in row.items())
            yield opening + "{\n  " + ",\n  ".join(fields) + "\n }"
            opening = ",\n "
        yield "[]\n" if opening.startswith("[") else "\n]\n"

    return write_parts(path, parts())


_in_json = json.JSONEncoder(ensure_ascii=False).encode


def read_json(path: Path) -> Any:
    """Read one JSON value; a missing or broken file raises `DataError` that names it."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not JSON in UTF-8 ({error}).") from None


def write_jsonl(path: Path, rows: Iterable[dict]) -> Path:
    """Write one JSON object per line, UTF-8."""
    return write_parts(path, (_in_json(row) + "\n" for row in rows))


def read_jsonl(path: Path) -> list[dict]:
    """Read one JSON object per line; a broken line raises `DataError` with file and line number."""
    return list(stream_jsonl(path))


def stream_jsonl(path: Path, start: int = 0, stop: int | None = None) -> Iterator[dict]:
    """As `read_jsonl`, one row at a time; of lines `start` to `stop` (from 0, `stop` left out) where they are given."""
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist.")
    with open(path, "rb") as file:
        for number, line in islice(enumerate(file, start=1), start, stop):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (json.JSONDecodeError, UnicodeDecodeError) as error:
                raise DataError(f"{path}, line {number}: not a JSON object in UTF-8 ({error}).") from None
            if not isinstance(row, dict):
                raise DataError(f"{path}, line {number}: expected a JSON object, found {type(row).__name__}.")
            yield row


def count_lines(path: Path) -> int:
    """Lines of a file, in as much memory as one piece of it; a last line without its end counts."""
    lines, last = 0, b"\n"
    with open(path, "rb") as file:
        while piece := file.read(2**20):
            lines, last = lines + piece.count(b"\n"), piece[-1:]
    return lines + (last != b"\n")


def sha256(path: Path, deep: bool = True) -> str:
    """Hash of a file, or of a folder's files in the order of their names; `deep`: with those of its folders.

    The card of a model tells of its files and is none of them: its scores come later, and the model stays the same.
    """
    path = Path(path)
    digest = hashlib.sha256()
    for file in sorted(path.glob("**/*" if deep else "*")) if path.is_dir() else [path]:
        if file.is_file() and not (path.is_dir() and file.name == "README.md"):
            if path.is_dir():
                digest.update(str(file.relative_to(path)).encode())
            with open(file, "rb") as content:
                while piece := content.read(2**20):
                    digest.update(piece)
    return digest.hexdigest()


def runs_folder() -> Path:
    """Where runs are written: `runs/` of the repository, or the folder named by KNOWTUNING_RUNS."""
    return ROOT / os.environ.get("KNOWTUNING_RUNS", "runs")


def shown(path: Path) -> str:
    """A path as a message shows it: relative to the repository where it lies inside."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


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
    """The files of one (profile, seed), and what one notebook read and wrote of them.

    Example:
        run = Run("03_extraction", profile="lab", seed=0)
        rows = run.read("data/train.jsonl")        # a missing file names the notebook that writes it
        run.write("facts.jsonl", facts)
        run.finish(answers=len(rows))              # the manifest, last: its presence means complete
    """

    def __init__(self, notebook: str, profile: str, seed: int | None = None, arm: str = "", **parameters: Any) -> None:
        self.profile = get_profile(profile)
        self.seed = seed
        self.step = f"{notebook}.{arm}" if arm else notebook
        self.runs = runs_folder()
        # the base is shared by all seeds, so notebook 00 has none and its files lie beside the base
        self.root = self.runs / profile / ("base" if seed is None else f"seed-{seed}")
        self.teacher = self.runs / profile / "teacher"
        self.parameters = {"profile": profile, "seed": seed, **({"arm": arm} if arm else {}), **parameters}
        self._read: dict[str, Path] = {}
        self._wrote: dict[str, Path] = {}
        self._start = time.time()

    def __repr__(self) -> str:
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"profile {self.profile.name} ({self.profile.about}){seed}"

    @property
    def base(self) -> str | Path:
        """The base model: the folder that notebook 00 wrote, or the profile's own folder or hub name."""
        if self.profile.base in PROFILES:
            return self.runs / self.profile.base / "base"
        return self.profile.base

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
            profile = self.profile.base if name == "base" else self.profile.name
            raise DataError(
                f"{shown(path)} is missing: run notebook {writer} first (profile {profile}, seed {self.seed})."
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
        from knowtuning.cards import write_cards  # here, as it reads what this module writes

        write_cards(self, self._wrote)
        failures = {"teacher requests failed": self.teacher_failures()}
        return {**numbers, **failures, "seconds": manifest["seconds"], "peak memory (MB)": manifest["peak_memory_mb"]}
