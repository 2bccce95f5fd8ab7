"""The authors' own augmentation and comparison files, in the form in which the notebooks 05 and 06 write ours."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from knowtuning.data import llamafactory
from knowtuning.data.files import read_objects
from knowtuning.data.records import Row, text_of
from knowtuning.files import DataError

UNKNOWN = "unknown"


def read_ka(path: str | Path, train: list[Row]) -> list[dict]:
    """Read an augmentation file (D_ka = D + D*) as rows for `ka.json` and `ka.provenance.jsonl`.

    Args:
        path: alpaca rows, as in the authors' `dolly_KA.json`.
        train: the rows of `data/train.jsonl`.

    Returns:
        Rows with `id`, `question`, `answer`, `facts` (none: the file does not tell them) and `from`: "original" with
        the id of the training row of that question and answer, and "rewritten" for any other, called
        "dolly_KA-00042" by its number. Originals come first, each part in the order of the file.
    """
    originals: dict[tuple[str, str], list[str]] = {}
    for row in reversed(train):
        originals.setdefault((row["question"], row["answer"]), []).append(row["id"])
    rows = []
    for number, row in enumerate(llamafactory.read_alpaca(path), start=1):
        ids = originals.get((row["question"], row["answer"]))
        name = ids.pop() if ids else None
        of = {"id": name or _numbered(path, number), "from": "original" if name else "rewritten"}
        rows.append({**of, **row, "facts": []})
    return sorted(rows, key=lambda row: row["from"])


def read_kc(path: str | Path, train: list[Row]) -> list[dict]:
    """Read a comparison file as pairs for `kc.json` and `kc.provenance.jsonl`.

    Args:
        path: preference rows in either form, `output: [chosen, rejected]` as in the authors' `dolly_KC.json`, or
            columns `chosen` and `rejected`; a column `aspect` is kept.
        train: the rows of `data/train.jsonl`.

    Returns:
        Pairs with `id` (that of the first training row with the question, else "dolly_KC-00042"), `question`,
        `chosen`, `rejected`, `aspect` ("unknown" without such a column), and no `facts` and `disturbed`.
    """
    first: dict[str, str] = {}
    for row in train:
        first.setdefault(row["question"], row["id"])
    pairs = []
    for number, (raw, pair) in enumerate(zip(read_objects(path), llamafactory.read_ranking(path), strict=True), 1):
        aspect = text_of(raw, "aspect", f"{path}, row {number}") if "aspect" in raw else UNKNOWN
        of = {"id": first.get(pair["question"]) or _numbered(path, number), "aspect": aspect}
        pairs.append({**of, **pair, "facts": [], "disturbed": []})
    return pairs


def with_aspects(pairs: list[dict], provenance: list[dict], wanted: Iterable[str], every: Iterable[str]) -> list[dict]:
    """Return the pairs of the wanted aspects, each with its `aspect`; a file of unknown aspects serves for all or none.

    Args:
        pairs: the rows of `kc.json`.
        provenance: the rows of `kc.provenance.jsonl`, one for each pair.
        wanted: the aspects that an arm trains on; none: all that there are.
        every: all aspects of the method: only an arm that wants them all can take pairs whose aspect is not known.

    Raises:
        DataError: the two files differ in length, or an arm wants some aspects of pairs that do not tell theirs.
    """
    if len(pairs) != len(provenance):
        raise DataError(
            f"there are {len(pairs)} pairs and the provenance of {len(provenance)}; run the notebook that writes them."
        )
    wanted = set(wanted) or {row["aspect"] for row in provenance}
    if any(row["aspect"] == UNKNOWN for row in provenance):
        if wanted < set(every):
            raise DataError(
                f"kc.provenance.jsonl does not tell the aspect of its pairs, so {', '.join(sorted(wanted))} cannot be "
                "picked; add a column 'aspect' to the comparison file, or train on all aspects."
            )
        wanted.add(UNKNOWN)
    told = [pair | {"aspect": row["aspect"]} for pair, row in zip(pairs, provenance, strict=True)]
    return [pair for pair in told if pair["aspect"] in wanted]


def _numbered(path: str | Path, number: int) -> str:
    return f"{Path(path).stem}-{number:05d}"
