"""What the benchmarks share: the server and the client as processes of their own, rows to ask about, a results file."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from knowtuning.files import ROOT, write_json
from knowtuning.run import versions

HERE = ROOT / "benchmarks" / "teacher"
ENDPOINTS = ROOT / "tests" / "endpoints"
RESULTS = ROOT / "benchmarks" / "results"
_WORDS = (
    "the",
    "of",
    "a",
    "basin",
    "canal",
    "engine",
    "law",
    "river",
    "season",
    "signal",
    "treaty",
    "valley",
    "copper",
)


@contextmanager
def serving(*options: str) -> Iterator[str]:
    """An endpoint as a process, of a model that costs nearly nothing; yields its address."""
    command = [sys.executable, str(ENDPOINTS), *options]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield server.stdout.readline().strip()
    finally:
        server.stdin.close()
        server.wait(timeout=20)


def client(base_url: str, rows: Path, folder: Path, *options: str) -> list[str]:
    """The command line of our client over a file of rows."""
    return [sys.executable, str(HERE / "ours.py"), base_url, str(rows), str(folder), *options]


def write_rows(path: Path, count: int, data: str = "", poison: int = 0) -> Path:
    """Write `count` questions and answers: those of a data file over and over, each made different, or invented ones.

    Every `poison`-th row (0: none) holds the word that the server always refuses.
    """
    from knowtuning.data.sources import load

    known = load(data) if data else [_invented(number) for number in range(1000)]
    with open(path, "w", encoding="utf-8") as file:
        for number in range(count):
            row = known[number % len(known)]
            mark = "POISON. " if poison and number % poison == poison - 1 else ""
            answer = f"{mark}{row['answer']} This is row {number}."
            file.write(json.dumps({"question": row["question"], "answer": answer}) + "\n")
    return path


def _invented(number: int) -> dict:
    words = [_WORDS[(number * 7 + place * place) % len(_WORDS)] for place in range(70)]
    sentences = [" ".join(words[start : start + 10]).capitalize() + "." for start in range(0, 70, 10)]
    return {"question": f"What is known of thing {number}?", "answer": " ".join(sentences)}


def publish(name: str, measured: dict) -> None:
    """Write a result file with the versions that it was measured with, and say where."""
    path = write_json(RESULTS / f"{name}.json", {**measured, "versions": versions()})
    print(f"-> {path.relative_to(ROOT)}")
