"""A blind sheet of pairs of answers: how it is laid out, and how it and the choices made on it are read.

The sheet is all that an annotator gets. Which model wrote what stands in the key, which only the analysis opens.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from knowtuning.files import DataError, read_jsonl
from knowtuning.knowledge.aspects import ASPECTS
from knowtuning.run import Run

CHOICES = ("left", "tie", "right")
FIELDS = ("item", "question", "left", "right")  # of an item of the sheet; "reference" may stand with them


def make_sheet(
    answers: Mapping[str, Sequence[dict]],
    pairs: Sequence[tuple[str, str]],
    count: int,
    seed: int,
    repeated: float = 0.1,
    references: Mapping[str, str] | None = None,
) -> tuple[list[dict], dict]:
    """Draw questions and lay out their answers blind: `(sheet, key)`.

    Args:
        answers: rows `{"id", "question", "answer"}` of each arm, the same questions in the same order.
        pairs: which arms are compared, (arm, against).
        count: questions per pair; all whose answers differ, where they are fewer.
        repeated: share of the items, up to a half, that come a second time with the sides swapped, to see whether
            annotators agree with themselves. They come in the second half of the sheet.
        references: known good answers by question id, shown with the item.

    Returns:
        sheet: items `{"item", "question", "left", "right"}` (and "reference"), in random order. Each arm of a pair
            is left in half of its items, at random. The id is a hash of place and texts, so that nothing on the sheet
            depends on the names of the arms.
        key: `{"seed", "items": {item: {"id", "arm", "against", "left", "repeats"}}, "pairs": [{"arm", "against",
            "questions", "identical", "drawn"}]}`; `repeats` is the item that this one repeats, or None. Questions
            that both arms answer alike are left out, and counted as `identical` of all `questions`.
    """
    if not 0 <= repeated <= 0.5:
        raise ValueError(f"repeated is {repeated}; at most half of the items can come twice (0 to 0.5).")
    if count < 1:
        raise ValueError(f"count is {count}; a sheet needs one question or more.")
    chance = random.Random(f"sheet {seed}")
    laid, counted = [], []
    for arm, against in pairs:
        items, numbers = _draw(answers, arm, against, count, chance)
        laid += items
        counted.append(numbers)
    chance.shuffle(laid)
    laid = _with_repeats(laid, math.ceil(repeated * len(laid)), chance)
    sheet, items = [], {}
    for place, (entry, question, texts, first) in enumerate(laid):
        shown = {"question": question, **({"reference": references[entry["id"]]} if references else {}), **texts}
        name = hashlib.sha256(json.dumps([place, shown], ensure_ascii=False).encode()).hexdigest()[:10]
        sheet.append({"item": name, **shown})
        items[name] = {**entry, "repeats": None if first is None else sheet[first]["item"]}
    return sheet, {"seed": seed, "items": items, "pairs": counted}


def sheet_of_run(run: Run, arms: Sequence[str], count: int, repeated: float = 0.1) -> Path:
    """Make the sheet that compares the first arm with each of the others, by greedy answers; the run's seed draws.

    It goes to `human/<name>/sheet.jsonl`, its key to `human/keys/<name>.json`, and annotators' choices belong in
    `human/<name>/choices/`. The name is a hash of the sheet: another sheet never takes the place of one that people
    have worked on. Returns the path of the sheet.
    """
    if len(set(arms)) < 2 or len(set(arms)) < len(arms):
        raise DataError(f"arms {','.join(arms)}: name two arms or more, each once, such as knowtuning,sft.")
    answers = {arm: run.read(f"answers/{arm}.greedy.jsonl") for arm in arms}
    references = {row["id"]: row["answer"] for row in run.read("data/test.jsonl")}
    pairs = [(arms[0], other) for other in arms[1:]]
    sheet, key = make_sheet(answers, pairs, count, run.seed, repeated, references)
    name = hashlib.sha256(json.dumps(sheet, ensure_ascii=False).encode()).hexdigest()[:8]
    run.write(f"human/keys/{name}.json", key)
    return run.write(f"human/{name}/sheet.jsonl", sheet)


def read_sheet(path: Path) -> list[dict]:
    """Items of a sheet; anything that is not one, or shows more than an annotator may see, raises `DataError`."""
    items = read_jsonl(path)
    if not items:
        raise DataError(f"{path} holds no items: make a sheet with `knowtuning sheet`.")
    for number, item in enumerate(items, start=1):
        if not set(FIELDS) <= set(item) <= {*FIELDS, "reference"}:
            fields = ", ".join(FIELDS)
            raise DataError(f"{path}, line {number}: an item has the fields {fields}, and reference or not: no others.")
        if wrong := [name for name, value in item.items() if not isinstance(value, str)]:
            raise DataError(f"{path}, line {number}: {wrong[0]} is not a text.")
    names = Counter(item["item"] for item in items)
    if twice := [name for name, times in names.items() if times > 1]:
        raise DataError(f"{path}: two items are called {twice[0]!r}; make the sheet anew with `knowtuning sheet`.")
    return items


def read_choices(path: Path) -> list[dict]:
    """Choices `{"annotator", "item", "aspect", "choice", …}` of a file, or of all .jsonl files of a folder.

    Where an annotator went back, the later choice counts. Unknown aspects or choices raise `DataError`.
    """
    path = Path(path)
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path} holds no choices: collect some with `knowtuning annotate SHEET --as NAME`.")
    last = {}
    for file in files:
        for number, row in enumerate(read_jsonl(file), start=1):
            for field in ("annotator", "item", "aspect", "choice"):
                if not isinstance(row.get(field), str):
                    raise DataError(f"{file}, choice {number}: {field!r} is missing or not a text.")
            for field, known in (("aspect", ASPECTS), ("choice", CHOICES)):
                if row[field] not in known:
                    raise DataError(f"{file}, choice {number}: {field} {row[field]!r} is not in {', '.join(known)}.")
            last[row["annotator"], row["item"], row["aspect"]] = row
    return list(last.values())


def _draw(
    answers: Mapping[str, Sequence[dict]], arm: str, against: str, count: int, chance: random.Random
) -> tuple[list[tuple], dict]:
    """Items of one pair as (entry of the key, question, texts by side, place of the item it repeats), and counts."""
    rows, others = answers[arm], answers[against]
    if [row["id"] for row in rows] != [row["id"] for row in others]:
        raise DataError(f"{arm} and {against} answer other questions; a pair needs the same ones in the same order.")
    plain = [[" ".join(row["answer"].split()) for row in side] for side in (rows, others)]
    differ = [place for place, (text, other) in enumerate(zip(*plain, strict=True)) if text != other]
    if not differ:
        raise DataError(f"{arm} and {against} answer all {len(rows)} questions alike: there is nothing to choose.")
    drawn, start = chance.sample(differ, min(count, len(differ))), chance.randrange(2)
    items = []
    for number, place in enumerate(drawn):  # in random order, so to take turns is to draw half of them
        sides = [(arm, rows[place]), (against, others[place])]
        (left, first), (_, second) = sides if (number + start) % 2 == 0 else sides[::-1]
        entry = {"id": first["id"], "arm": arm, "against": against, "left": left}
        items.append((entry, first["question"], {"left": first["answer"], "right": second["answer"]}, None))
    about = {"arm": arm, "against": against, "questions": len(rows)}
    return items, about | {"identical": len(rows) - len(differ), "drawn": len(drawn)}


def _with_repeats(laid: list[tuple], count: int, chance: random.Random) -> list[tuple]:
    """`count` items of the first half once more, sides swapped, at random places of the second half."""
    half = len(laid) // 2
    tail = laid[half:]
    for place in chance.sample(range(half), min(count, half)):
        entry, question, texts, _ = laid[place]
        left = entry["against"] if entry["left"] == entry["arm"] else entry["arm"]
        swapped = {"left": texts["right"], "right": texts["left"]}
        tail.append(({**entry, "left": left}, question, swapped, place))
    chance.shuffle(tail)
    return laid[:half] + tail
