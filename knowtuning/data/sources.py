"""Questions and answers from a named source or a reader's own files, with what was left out and where they are from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from knowtuning.data import hub, medquad, published
from knowtuning.data.llamafactory import from_alpaca
from knowtuning.data.records import Row, check_rows
from knowtuning.data.registry import registry
from knowtuning.data.splits import Splits, split
from knowtuning.data.tables import TABLES, read_objects
from knowtuning.files import DataError, sha256


@dataclass(frozen=True)
class Loaded:
    """Rows, and what a data card says of how they came about.

    `removed` counts the rows left out by reason, in the order of the steps; `origin` holds the name, the files with
    their SHA-256 and, for a named source, its repository, commit, licence, homepage and citation.
    """

    rows: list[Row]
    removed: dict[str, int]
    origin: dict


def load(source: str | Path, path: str | Path | None = None) -> list[Row]:
    """Return the rows of `read_source`, for a caller who looks at nothing else."""
    return read_source(source, path).rows


def draw(source: str, copy: str, rows: int, valid: int, test: int, seed: int) -> tuple[Splits, dict, dict[str, int]]:
    """Read a source and draw its splits: the splits, the origin and what was left out by reason, for the data card.

    A named source gives as many training rows as the paper took of it, a file all that are left; `rows` above 0 uses
    only the first rows of either.
    """
    loaded = read_source(source, copy or None)
    named = registry().get(source)
    train = named.sizes["train"] if named and not rows else None
    splits = split(loaded.rows[: rows or None], valid, test, seed, train)
    left = len(loaded.rows) - sum(len(part) for part in splits)
    return splits, loaded.origin, loaded.removed | ({"not drawn": left} if left else {})


def read_source(source: str | Path, path: str | Path | None = None) -> Loaded:
    """Read questions and answers into checked QA rows, in the order of the source; what is left out is counted.

    Args:
        source: a name in `data/registry.yaml` (dolly, medquad, lima, nq, eli5), downloaded at its pinned commit, or
            the path of a file, of which the columns decide how it is read:
            * `.json`, `.jsonl`, `.csv` or `.parquet` with `question` and `answer` (also `query` and `answer`), `id`
              and `source` if it likes, or with the alpaca columns `instruction`, `input`, `output`; a non-empty
              `input` follows the instruction on a new line, as in LLaMA-Factory. An empty question or answer stops
              the load, or is counted and left out where the source is a named one.
            * Dolly's own columns, LIMA's conversations, a table of MedQuAD: with the selection of `published.select`.
            * `.xml`, `.zip`, `.tar.xz` or a folder: MedQuAD's documents.
        path: a local copy of the named source, in place of the download.

    Returns:
        QA rows with what was removed and their origin. Where a row names no id it gets the file's stem and its row
        number ("dolly-00001"), where it names no source the stem.

    Raises:
        DataError: an unknown name, a file that is missing, empty, changed or of another form, a row that cannot be
            used; one sentence with file, row, field and cure.

    Example:
        read_source("dolly").removed        # {'of another category': …, 'with a context': …, …}
    """
    entry = registry().get(str(source))
    if entry is None and (path is not None or not Path(source).exists() and not Path(source).suffix):
        raise DataError(f"{str(source)!r} is neither a file nor a source; use one of {', '.join(registry())}.")
    if entry is None:
        rows, removed = _read(Path(source))
        return Loaded(rows, removed, {"name": Path(source).stem.removesuffix(".tar"), "files": _hashes([Path(source)])})
    origin = {field: getattr(entry, field) for field in ("name", "about", "licence", "homepage", "citation")}
    files = [Path(path)] if path is not None else []
    if not files:
        files, origin["revision"] = hub.download(entry)
        origin["repository"] = entry.repo
    rows, removed = [], {}
    for file in files:
        more, left_out = _read(file, named=True)
        rows += more
        removed = {reason: removed.get(reason, 0) + count for reason, count in left_out.items()}
    return Loaded(check_rows(rows, files[0]), removed, origin | {"files": _hashes(files)})


def _read(path: Path, named: bool = False) -> tuple[list[Row], dict[str, int]]:
    if path.suffix not in TABLES and medquad.is_xml(path):
        rows, removed = medquad.read_xml(path)
        return check_rows(rows, path), removed
    raw = read_objects(path)
    if selected := published.select(raw, path):
        return check_rows(selected[0], path), selected[1]
    # a reader can fill a gap in a file of their own, but not one in a file that others published
    kept = [(number, row) for number, row in enumerate(raw, start=1) if not (named and _has_gap(row))]
    removed = {"without a question or an answer": len(raw) - len(kept)} if named else {}
    return check_rows([_qa_row(row, path, number) for number, row in kept], path), removed


def _has_gap(raw: dict) -> bool:
    texts = (raw[field] for field in ("question", "query", "answer", "output") if field in raw)
    return any(text is None or (isinstance(text, str) and not text.strip()) for text in texts)


def _hashes(files: list[Path]) -> dict[str, str]:
    return {file.absolute().name: sha256(file) for file in files}


def _qa_row(raw: dict, path: Path, number: int) -> dict:
    row = {"id": f"{path.stem}-{number:05d}"} | {key: raw[key] for key in ("id", "source") if key in raw}
    if "query" in raw and "answer" in raw:
        raw = {"question": raw["query"], **raw}
    if "question" in raw or "answer" in raw:
        return row | {key: raw[key] for key in ("question", "answer") if key in raw}
    question, answer = from_alpaca(raw, f"{path}, row {number}")
    return row | {"question": question, "answer": answer}
