"""The data card: what the rows of a run are, where they come from, what was left out and what stands there twice."""

from __future__ import annotations

import hashlib
import html
import json
from collections.abc import Sequence

import numpy as np

from knowtuning.data.duplicates import duplicate_pairs, leaks, near_duplicates
from knowtuning.data.records import Row

EXAMPLES = 5
QUANTILES = {"min": 0, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "95 %": 0.95, "max": 1}
REPEATS = {
    "duplicates": "rows that repeat an earlier row of the part",
    "near-duplicates": "rows that nearly repeat an earlier row of the part (Jaccard index of 5-word runs ≥ 0.7)",
    "leaks": "questions that train asks too, letter case and blanks aside",
    "near-duplicates of train": "rows that nearly repeat a row of train",
}
Tables = dict[str, dict[str, str]]


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


def _part(name: str, parts: dict[str, list[Row]]) -> dict:
    rows, train = parts[name], parts["train"]
    repeats = {"duplicates": duplicate_pairs(rows), "near-duplicates": near_duplicates(rows)}
    if name != "train":
        repeats |= {"leaks": leaks(train, rows), "near-duplicates of train": near_duplicates(train, rows)}
    question = {row["id"]: row["question"] for row in [*train, *rows]}
    return {
        "rows": len(rows),
        "sha256": _sha256(rows),
        "question words": _quantiles([len(row["question"].split()) for row in rows]),
        "answer words": _quantiles([len(row["answer"].split()) for row in rows]),
        **{
            kind: {"count": len(pairs), "examples": [_example(pair, question) for pair in pairs[:EXAMPLES]]}
            for kind, pairs in repeats.items()
        },
    }


def _example(pair: Sequence, question: dict[str, str]) -> dict:
    example = {"id": pair[0], "like": pair[1], "question": question[pair[0]]}
    return example | ({"similarity": round(pair[2], 3)} if len(pair) > 2 else {})


def _sha256(rows: list[Row]) -> str:
    return hashlib.sha256("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()).hexdigest()


def _quantiles(counts: list[int]) -> dict[str, int]:
    if not counts:
        return {}
    values = np.quantile(counts, list(QUANTILES.values()), method="inverted_cdf")
    return dict(zip(QUANTILES, map(int, values), strict=True))


def card_markdown(card: dict, tables: Tables | None = None, more: Sequence[str] = ()) -> str:
    """Return the card as the Hugging Face hub shows it: a YAML head that its viewer reads, then text and tables.

    Args:
        card: what `data_card` returned.
        tables: the files that `datasets.load_dataset` finds, by configuration and part; by default the parts'
            `.jsonl` files beside the card.
        more: sections about files beyond the parts.
    """
    parts, origin = card["parts"], card["origin"]
    tables = tables or {"default": {name: f"{name}.jsonl" for name in parts}}
    sections = [
        f"---\n{_head(card, tables)}\n---",
        f"# Questions and answers: {origin['name']}",
        origin.get("about", ""),
        "## Parts",
        _parts_table(parts),
        "Words are counted at blanks. The SHA-256 is that of the part's `.jsonl` file.",
        *more,
        "## What stands there twice",
        "Nothing of this was removed: it is counted.",
        *_repeats(parts),
        "## Where the rows come from",
        _origin(origin),
        "## What was left out",
        "\n".join(f"* {count} {reason}" for reason, count in card["removed"].items()) or "Nothing.",
        "## Licence and citation",
        f"The rows are under the licence of their source: {origin.get('licence', 'unknown')}.",
        f"```bibtex\n{origin['citation'].strip()}\n```" if origin.get("citation") else "",
    ]
    return "\n\n".join(filter(None, sections)) + "\n"


def _head(card: dict, tables: Tables) -> str:
    from huggingface_hub import DatasetCardData

    rows = sum(part["rows"] for part in card["parts"].values())
    bounds = {"n<1K": 1e3, "1K<n<10K": 1e4, "10K<n<100K": 1e5, "100K<n<1M": 1e6}
    size = next((name for name, bound in bounds.items() if rows < bound), "1M<n<10M")
    configs = [
        {
            "config_name": config,
            # the hub's name of the part
            "data_files": [{"split": {"valid": "validation"}.get(k, k), "path": path} for k, path in files.items()],
        }
        for config, files in tables.items()
    ]
    return DatasetCardData(
        pretty_name=f"KnowTuning: {card['origin']['name']}",
        license=card["origin"].get("licence", "unknown"),
        language="en",
        task_categories=["question-answering"],
        size_categories=[size],
        configs=configs,
    ).to_yaml()


def _parts_table(parts: dict[str, dict]) -> str:
    columns = ["part", "rows", "question words, median", *(f"answer words, {name}" for name in QUANTILES), "SHA-256"]
    lines = [f"| {' | '.join(columns)} |", "|---|" + "---:|" * (len(columns) - 2) + "---|"]
    for name, part in parts.items():
        words = [part["question words"].get("median", ""), *(part["answer words"].get(q, "") for q in QUANTILES)]
        lines.append("| " + " | ".join(map(str, [name, part["rows"], *words, f"`{part['sha256']}`"])) + " |")
    return "\n".join(lines)


def _repeats(parts: dict[str, dict]) -> list[str]:
    texts = []
    for name, part in parts.items():
        counts = [f"* {part[kind]['count']} {about}" for kind, about in REPEATS.items() if kind in part]
        texts.append(f"**{name}**\n\n" + "\n".join(counts))
        for kind in REPEATS:
            if examples := part.get(kind, {}).get("examples"):
                lines = [f"{kind.capitalize()} in {name}, for example:", "", *map(_example_line, examples)]
                texts.append("\n".join(lines))
    return texts


def _example_line(example: dict) -> str:
    question = html.escape(" ".join(example["question"].split())[:120])
    similarity = f" ({example['similarity']})" if "similarity" in example else ""
    return f"* `{example['id']}` and `{example['like']}`{similarity}: {question}"


def _origin(origin: dict) -> str:
    told = {key: origin[key] for key in ("homepage", "repository", "revision") if origin.get(key)}
    lines = [f"* {key}: {value}" for key, value in told.items()]
    lines += [f"* `{name}`: SHA-256 `{digest}`" for name, digest in origin.get("files", {}).items()]
    return "\n".join(lines) or "No file: the rows were made by this project."
