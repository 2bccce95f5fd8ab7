"""The card of what a run trains on: its questions and answers, D_ka and D_kc, each loadable by its name."""

from __future__ import annotations

import fcntl
from collections.abc import Iterable, Sequence
from pathlib import Path

from knowtuning.data.card import card_markdown
from knowtuning.files import count_lines, read_json, sha256, write_text
from knowtuning.recipe import get_recipe

PAPER = "https://arxiv.org/abs/2402.11176"
PARTS = ("train", "valid", "test")
# what each file is, and the step whose manifest tells how it was made
MADE = {
    "ka": (
        "questions and answers: those of `train`, then those rewritten out of difficult facts",
        "05_rewriting",
    ),
    "kc": ("preferences: an answer, and a copy made incomplete, false or illogical on purpose", "06_disturbance"),
}
SAMPLED = "preferences: of the fine-tuned model's own answers to one question, the better and the worse"


def write_tuning_card(root: Path) -> Path | None:
    """Write the card of all training files that a run holds so far into its folder; none before its data have one."""
    if not (root / "data" / "card.json").exists():
        return None
    # notebooks 05 and 06 may end at the same time: whoever is last sees what both wrote
    with open(root / ".card.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        files = [name for name in ("ka", "kc") if (root / f"{name}.json").exists()]
        files += sorted(f"pairs/{path.stem}" for path in (root / "pairs").glob("*.json"))
        return write_text(root / "README.md", tuning_card(root, files))


def tuning_card(root: Path, files: Iterable[str] = ("ka", "kc")) -> str:
    """The data card of a run with its training `files` (without their endings) as further configurations.

    `datasets.load_dataset(folder, "ka")` loads `ka.json`, and "ka_provenance" what is known of its rows, in order.
    """
    tables = {"default": {part: f"data/{part}.jsonl" for part in PARTS}}
    sections = [
        "## What is trained on",
        f"Made of the part `train` by [KnowTuning]({PAPER}). Row n of a provenance belongs to row n of its file.",
    ]
    for file in files:
        name = Path(file).name
        tables |= {name: {"train": f"{file}.json"}, f"{name}_provenance": {"train": f"{file}.provenance.jsonl"}}
        if not (root / f"{file}.provenance.jsonl").exists():
            del tables[f"{name}_provenance"]
        sections += [f"### {name}", _about(root, file)]
    return card_markdown(read_json(root / "data" / "card.json"), tables, sections)


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence]) -> str:
    """A table in Markdown; the cells hold no bar."""
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)])


def _about(root: Path, file: str) -> str:
    what, step = MADE.get(file, (SAMPLED, "10_baselines"))
    provenance, manifest = root / f"{file}.provenance.jsonl", root / "manifests" / f"{step}.json"
    told = [f"* `{file}.json`: {what}", f"* SHA-256 `{sha256(root / f'{file}.json')}`"]
    if provenance.exists():
        told.append(f"* {count_lines(provenance):,} rows, provenance in `{provenance.name}`")
    if not manifest.exists():
        return "\n".join([*told, "* how it was made is not recorded"])
    made = read_json(manifest)
    told += [f"* {name}: {value:,}" for name, value in made["numbers"].items() if isinstance(value, int)]
    given = {name: value for name, value in made["parameters"].items() if value != ""}
    given |= {"model": given.get("model") or get_recipe(given["recipe"]).teacher}
    # a file of the user's is told by its name: its folder is of one machine
    return "\n".join([*told, "* made with " + ", ".join(f"{name} {Path(str(of)).name}" for name, of in given.items())])
