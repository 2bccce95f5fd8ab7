"""The card of a run's data: what the rows are, where they come from, what was left out, what stands there twice.

Once training files are there they are told of too, each loadable by its name: `datasets.load_dataset(folder, "ka")`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from knowtuning.cards.template import card_text
from knowtuning.data.duplicates import duplicate_pairs, leaks, near_duplicates
from knowtuning.data.records import Row
from knowtuning.files import count_lines, read_json, sha256, write_text
from knowtuning.recipe import get_recipe

PARTS = ("train", "valid", "test")
SPLITS = {"valid": "validation"}  # names of parts that are others on the hub
EXAMPLES = 5
SIZES = {"n<1K": 1e3, "1K<n<10K": 1e4, "10K<n<100K": 1e5, "100K<n<1M": 1e6, "1M<n<10M": float("inf")}
QUANTILES = {"min": 0, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "95 %": 0.95, "max": 1}
REPEATS = {
    "duplicates": "rows that repeat an earlier row of the part",
    "near-duplicates": "rows that nearly repeat an earlier row of the part (Jaccard index of 5-word runs ≥ 0.7)",
    "leaks": "questions that train asks too, letter case and blanks aside",
    "near-duplicates of train": "rows that nearly repeat a row of train",
}
# what each training file is, and the step whose manifest tells how it was made
MADE = {
    "ka": ("questions and answers: those of `train`, then those rewritten out of difficult facts", "05_rewriting"),
    "kc": ("preferences: an answer, and a copy made incomplete, false or illogical on purpose", "06_disturbance"),
}
SAMPLED = "preferences: of the fine-tuned model's own answers to one question, the better and the worse"


def data_card(parts: dict[str, list[Row]], origin: dict, removed: dict[str, int]) -> dict:
    """Return all that can be told of a run's data, as one JSON value.

    Args:
        parts: QA rows by part; "train" first, with which the others are compared.
        origin: where they come from (`Loaded.origin`): name, files with SHA-256, repository, revision, licence …
        removed: rows that were left out on the way, by reason (`Loaded.removed`, and rows that were not drawn).

    Returns:
        `origin`, `removed` and for each of `parts`: `rows`, `sha256` (of its JSON lines, hence of the file that
        `write_jsonl` makes of it), quantiles of the `question words` and `answer words`, and of every kind in
        `REPEATS` a `count` with up to five `examples`.
    """
    return {"origin": origin, "removed": removed, "parts": {name: _part(name, parts) for name in parts}}


def _part(part_name: str, parts: dict[str, list[Row]]) -> dict:
    import numpy as np  # here, as every run imports this file and annotators need no more than the core

    rows, train = parts[part_name], parts["train"]
    repeats = {"duplicates": duplicate_pairs(rows), "near-duplicates": near_duplicates(rows)}
    if part_name != "train":
        repeats |= {"leaks": leaks(train, rows), "near-duplicates of train": near_duplicates(train, rows)}
    question = {row["id"]: row["question"] for row in [*train, *rows]}
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    part = {"rows": len(rows), "sha256": hashlib.sha256(lines.encode()).hexdigest()}
    for field in ("question", "answer"):
        words = [len(row[field].split()) for row in rows]
        values = np.quantile(words, list(QUANTILES.values()), method="inverted_cdf") if words else []
        part[f"{field} words"] = dict(zip(QUANTILES, map(int, values), strict=False))
    for kind, pairs in repeats.items():
        part[kind] = {"count": len(pairs), "examples": []}
        for name, like, *similarity in pairs[:EXAMPLES]:
            example = {"id": name, "like": like, "question": question[name]}
            part[kind]["examples"].append(example | ({"similarity": round(*similarity, 3)} if similarity else {}))
    return part


def card_markdown(card: dict, tables: dict[str, dict[str, str]] | None = None, files: Iterable[dict] = ()) -> str:
    """Return the card as the hub shows it: a YAML head that its viewer reads, then text and tables.

    Args:
        card: what `data_card` returned.
        tables: the files that `datasets.load_dataset` finds, by configuration and part; by default the parts'
            `.jsonl` files beside the card.
        files: what is told of training files.
    """
    parts, origin = card["parts"], {"licence": "unknown", "about": "", "files": {}} | card["origin"]
    tables = tables or {"default": {name: f"{name}.jsonl" for name in parts}}
    rows = sum(part["rows"] for part in parts.values())
    configs = [
        {
            "config_name": config,
            "data_files": [{"split": SPLITS.get(part, part), "path": path} for part, path in places.items()],
        }
        for config, places in tables.items()
    ]
    head = {
        "pretty_name": f"KnowTuning: {origin['name']}",
        "license": origin["licence"],
        "task_categories": ["question-answering"],
        "size_categories": [next(name for name, bound in SIZES.items() if rows < bound)],
        "configs": configs,
    }
    told = {"parts": parts, "origin": origin, "removed": card["removed"], "files": list(files)}
    return card_text("dataset.md", head, quantiles=list(QUANTILES), repeats=REPEATS, **told)


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
    """The card of a run with its training `files` (without their endings) as further configurations.

    `datasets.load_dataset(folder, "ka")` loads `ka.json`, and "ka_provenance" what is known of its rows, in order.
    """
    tables = {"default": {part: f"data/{part}.jsonl" for part in PARTS}}
    for file in files:
        name = Path(file).name
        tables[name] = {"train": f"{file}.json"}
        if (root / f"{file}.provenance.jsonl").exists():
            tables[f"{name}_provenance"] = {"train": f"{file}.provenance.jsonl"}
    return card_markdown(read_json(root / "data" / "card.json"), tables, [_training_file(root, file) for file in files])


def _training_file(root: Path, file: str) -> dict[str, Any]:
    """What is told of a training file: its hash, its rows, the numbers and parameters of the step that made it."""
    about, step = MADE.get(file, (SAMPLED, "10_baselines"))
    provenance, manifest = root / f"{file}.provenance.jsonl", root / "manifests" / f"{step}.json"
    made = read_json(manifest) if manifest.exists() else {"numbers": {}, "parameters": {}}
    given = {name: value for name, value in made["parameters"].items() if value != ""}
    if given and "model" not in given:
        given["model"] = get_recipe(given["recipe"]).teacher
    return {
        "name": Path(file).name,
        "path": f"{file}.json",
        "about": about,
        "sha256": sha256(root / f"{file}.json"),
        "rows": count_lines(provenance) if provenance.exists() else None,
        "numbers": {name: value for name, value in made["numbers"].items() if isinstance(value, int)},
        # a file of the user's is told by its name: its folder is of one machine
        "given": {name: Path(str(value)).name for name, value in given.items()},
    }
