"""A shard: a contiguous slice of the training rows, and where its files lie."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from knowtuning.files import DataError, count_lines, shown, stream_jsonl
from knowtuning.run import Run

STAGES = ("extract", "score", "rewrite", "disturb")
OUTPUT = {"extract": "facts", "score": "difficulty", "rewrite": "rewritten", "disturb": "pairs"}
EARLIER = {"score": "extract", "rewrite": "score", "disturb": "extract"}


@dataclass(frozen=True)
class Shard:
    """The `number`-th (from 1) of `of` slices: rows [(number - 1) * N // of, number * N // of) of N.

    >>> shard = Shard(3, 8)
    >>> str(shard), shard.name, shard.bounds(100)
    ('3/8', '3-of-8', (25, 37))
    """

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise DataError(f"shard {self} does not exist: write I/N, with I from 1 to N, such as 3/8.")

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @property
    def name(self) -> str:
        """The name of its folders."""
        return f"{self.number}-of-{self.of}"

    def bounds(self, rows: int) -> tuple[int, int]:
        """Its first row and the first that is no longer its own, of so many rows."""
        return (self.number - 1) * rows // self.of, self.number * rows // self.of

    def output(self, run: Run, stage: str) -> Path:
        """The file of its rows of one stage."""
        return run.path(f"shards/{self.name}/{OUTPUT[stage]}.jsonl")

    def account(self, run: Run, stage: str) -> Path:
        """The file beside it with counts, parameters, seconds and memory."""
        return self.output(run, stage).with_suffix(".json")

    def teacher(self, run: Run) -> Path:
        """The folder of its own cache and quarantine: one that all shared, each would have to read whole."""
        return run.teacher / "shards" / self.name

    def need(self, run: Run, stage: str) -> Path:
        """Its file of an earlier stage; when it is missing, `DataError` names the command that writes it."""
        path = self.output(run, stage)
        if not path.exists():
            command = f"knowtuning shard {stage} {self} --recipe {run.recipe.name} --seed {run.seed}"
            raise DataError(f"{shown(path)} is missing: run `{command}` first.")
        return path


def parse_shard(text: str) -> Shard:
    """A shard as the command line names it.

    >>> parse_shard("3/8")
    Shard(number=3, of=8)
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None:
        raise DataError(f"shard {text!r}: write I/N, such as 3/8 for the third of eight.")
    return Shard(int(match[1]), int(match[2]))


def blocks(rows: Iterator[dict], earlier: Path | None, size: int) -> Iterator[tuple[list[dict], list[dict]]]:
    """Rows in blocks of `size`, each with the rows of the same ids in a file of an earlier stage.

    Both come in the order of the training rows, so that one block is in memory and no more. A row of the file that
    belongs to none is one of other data: `DataError`.
    """
    found = stream_jsonl(earlier) if earlier else iter(())
    waiting = next(found, None)
    while block := list(islice(rows, size)):
        ids, mine = {row["id"] for row in block}, []
        while waiting is not None and waiting["id"] in ids:
            mine.append(waiting)
            waiting = next(found, None)
        yield block, mine
    if waiting is not None:
        raise DataError(
            f"{shown(earlier)}: id {waiting['id']!r} is not where it stands in data/train.jsonl; the file is of other "
            "data: run the stage that wrote it again."
        )


def count_rows(run: Run) -> int:
    """Number of the training rows."""
    return count_lines(Path(run.need("data/train.jsonl")))
