"""The answers of all cells of the study, as arrays of one number per cell and question."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from knowtuning.files import DataError, read_json, read_jsonl, shown

FIELDS = ("correct", "incorrect", "unreadable", "repeated", "completeness", "precision", "order", "words")
TEXT_FIELDS = ("meteor", "bertscore")  # not every decoding has them
NO_CELLS = ("tuning", "map", "judges")  # folders beside those of the recipes
DECODINGS = ("greedy", "sampled", "narrow")


@dataclass(frozen=True)
class Cell:
    """One training of all arms: a recipe (world and base) and a training seed."""

    recipe: str
    seed: int
    world: str
    base_seed: int
    folder: Path
    about: dict  # the whole of cell.json

    @property
    def name(self) -> str:
        return f"{self.recipe}/seed-{self.seed}"


@dataclass
class Answers:
    """What one arm of one domain answered in one decoding: `fields[name]` is (cells, questions), NaN where undefined.

    `cells` holds the places, in the domain's list of cells, of those that have this arm and decoding.
    """

    cells: list[int] = field(default_factory=list)
    fields: dict[str, np.ndarray] = field(default_factory=dict)

    def of(self, places: list[int]) -> dict[str, np.ndarray]:
        """The fields of some of the cells, given by their places in the domain."""
        rows = [self.cells.index(place) for place in places]
        return {name: values[rows] for name, values in self.fields.items()}


@dataclass
class Domain:
    """The cells of one world, which share their held-out questions. `answers` is keyed by (arm, decoding)."""

    world: str
    cells: list[Cell]
    answers: dict[tuple[str, str], Answers]
    tiers: dict[str, np.ndarray]  # per decoding, the tier of each question

    @property
    def decodings(self) -> list[str]:
        """The decodings of the answers, in the order of their files."""
        return list(dict.fromkeys(decoding for _, decoding in self.answers))

    def arms(self, decoding: str) -> list[str]:
        """The arms that at least one cell has in this decoding."""
        return [arm for arm, has in self.answers if has == decoding]

    def both(self, arm: str, other: str, decoding: str) -> list[int]:
        """The places of the cells that have both arms."""
        first, second = (self.answers.get((name, decoding), Answers()).cells for name in (arm, other))
        return [place for place in first if place in second]


def find_cells(folder: Path) -> tuple[list[Cell], list[str]]:
    """The cells under `<folder>/<recipe>/seed-<S>/`, and the names of those that have answers and no `cell.json`."""
    cells, unfinished = [], []
    for place in sorted(Path(folder).glob("*/seed-*/"), key=_recipe_and_seed):
        if place.parent.name in NO_CELLS or not (place / "answers").is_dir():
            continue
        path = place / "cell.json"
        if not path.exists():
            unfinished.append(f"{place.parent.name}/{place.name}")
            continue
        about = read_json(path)
        try:
            names = (about["recipe"], about["seed"], about["world"], about["base_seed"])
        except KeyError as error:
            raise DataError(f"{shown(path)} has no field {error}: run this cell again.") from None
        cells.append(Cell(*names, folder=place, about=about))
    if not cells:
        raise DataError(f"{shown(folder)} holds no finished cell (<recipe>/seed-<S>/cell.json): run `make results`.")
    return cells, unfinished


def load_domains(cells: list[Cell]) -> Iterator[Domain]:
    """Read the answers of the cells, one world at a time."""
    worlds = defaultdict(list)
    for cell in cells:
        worlds[cell.world].append(cell)
    for world, members in worlds.items():
        yield _load_domain(world, members)


def _load_domain(world: str, cells: list[Cell]) -> Domain:
    answers: dict[tuple[str, str], Answers] = {}
    questions: dict[str, list[str]] = {}
    tiers: dict[str, np.ndarray] = {}
    for place, cell in enumerate(cells):
        for path in sorted((cell.folder / "answers").glob("*.jsonl")):
            arm, _, decoding = path.stem.rpartition(".")
            if decoding not in DECODINGS or not arm:
                names = ", ".join(DECODINGS)
                raise DataError(f"{shown(path)}: name answers <arm>.<decoding>.jsonl, decoding one of {names}.")
            rows = read_jsonl(path)
            asked = [row.get("question") for row in rows]
            if questions.setdefault(decoding, asked) != asked:
                raise DataError(
                    f"{shown(path)} answers other questions than the cells of {world} read before it: "
                    "evaluate all cells of a world on the same held-out questions."
                )
            tiers.setdefault(decoding, np.array([row.get("tier", "") for row in rows]))
            _add(answers.setdefault((arm, decoding), Answers()), place, _columns(path, rows), path)
    return Domain(world, cells, answers, tiers)


def _columns(path: Path, rows: list[dict]) -> dict[str, np.ndarray]:
    names = [*FIELDS, *(name for name in TEXT_FIELDS if rows and name in rows[0])]
    try:
        values = [[np.nan if row[name] is None else row[name] for name in names] for row in rows]
    except KeyError as error:
        raise DataError(f"{shown(path)}: an answer has no field {error}; evaluate this arm again.") from None
    return dict(zip(names, np.array(values, dtype=float).reshape(-1, len(names)).T, strict=True))


def _add(answers: Answers, place: int, columns: dict[str, np.ndarray], path: Path) -> None:
    """Add the answers of one more cell, which must have the fields of those before it."""
    if answers.cells and set(answers.fields) != set(columns):
        odd = ", ".join(sorted(set(answers.fields) ^ set(columns)))
        raise DataError(f"{shown(path)}: {odd} stands in some cells and not in others; evaluate this arm again.")
    answers.cells.append(place)
    for name, column in columns.items():
        above = answers.fields.get(name, np.empty((0, len(column))))
        answers.fields[name] = np.vstack([above, column])


def _recipe_and_seed(place: Path) -> tuple[str, int]:
    number = place.name.removeprefix("seed-")
    return place.parent.name, int(number) if number.isdigit() else -1
