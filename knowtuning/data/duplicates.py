"""Rows that say the same twice: inside one part, or in training and in what is held out."""

from __future__ import annotations

import math
import re
from collections import Counter

from knowtuning.data.records import Row

SHINGLE_WORDS = 5
NEAR = 0.7


def same_question(row: Row) -> str:
    """Return what two rows share when they ask the same question: its words, without letter case and spacing.

    Example:
        >>> same_question({"question": " What  is Rust?"}) == same_question({"question": "what is rust?"})
        True
    """
    return " ".join(row["question"].casefold().split())


def duplicate_pairs(rows: list[Row]) -> list[tuple[str, str]]:
    """Return (id, id of the first such row) for every row that repeats an earlier question with the same answer."""
    first: dict[tuple[str, str], str] = {}
    pairs = [(row["id"], first.setdefault((row["question"], row["answer"]), row["id"])) for row in rows]
    return [pair for pair in pairs if pair[0] != pair[1]]


def leaks(train: list[Row], test: list[Row]) -> list[tuple[str, str]]:
    """Return (test id, train id) for every test question that stands in train too, whatever its answer there.

    Questions count as the same when they differ in letter case or blanks alone.
    """
    first: dict[str, str] = {}
    for row in train:
        first.setdefault(same_question(row), row["id"])
    return [(row["id"], first[key]) for row in test if (key := same_question(row)) in first]


def near_duplicates(rows: list[Row], others: list[Row] | None = None) -> list[tuple[str, str, float]]:
    """Return (id, id, similarity) for every row that says nearly the same as another.

    Similarity is the Jaccard index of the two rows' sets of five-word runs (question and answer together, without
    letter case and punctuation); 0.7 and more is near, 1 includes the exact duplicates. Every pair that can reach it
    is found, without comparing all: of two such sets A and B, one of the |A| - ceil(0.7 |A|) + 1 runs of A that are
    rarest in the data is also one of B's (the prefix filter of Chaudhuri et al., ICDE 2006).

    Args:
        rows: QA rows, say of the training part.
        others: QA rows, say of the test part; None compares `rows` with each other.

    Returns:
        For each row of `others` the first row of `rows` that is near to it, or, without `others`, for each row the
        first earlier one: at most one entry per row, so that their number is the number of rows concerned.
    """
    among = others is None
    sets = [_shingles(row) for row in (rows if among else rows + others)]
    frequency = Counter(shingle for shingles in sets for shingle in shingles)
    rank = {shingle: place for place, shingle in enumerate(sorted(frequency, key=frequency.__getitem__))}
    sets = [frozenset(map(rank.__getitem__, shingles)) for shingles in sets]
    with_shingle: dict[int, list[int]] = {}
    pairs = []
    for index, ranks in enumerate(sets):
        rarest = sorted(ranks)[: len(ranks) - math.ceil(NEAR * len(ranks)) + 1]
        if among or index >= len(rows):
            candidates = sorted({earlier for shingle in rarest for earlier in with_shingle.get(shingle, ())})
            similar = ((i, _jaccard(ranks, sets[i])) for i in candidates)
            first, similarity = next((pair for pair in similar if pair[1] >= NEAR), (None, 0.0))
            if first is not None:
                row = rows[index] if among else others[index - len(rows)]
                pairs.append((row["id"], rows[first]["id"], similarity))
        if index < len(rows):
            for shingle in rarest:
                with_shingle.setdefault(shingle, []).append(index)
    return pairs


def _shingles(row: Row) -> set[str]:
    words = re.findall(r"\w+", f"{row['question']} {row['answer']}".casefold())
    return {" ".join(words[i : i + SHINGLE_WORDS]) for i in range(max(1, len(words) - SHINGLE_WORDS + 1))}


def _jaccard(a: frozenset[int], b: frozenset[int]) -> float:
    if min(len(a), len(b)) < NEAR * max(len(a), len(b)):
        return 0.0
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)
