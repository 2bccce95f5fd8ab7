"""Which rows are tuned on, which choose a checkpoint, which are held out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from knowtuning.data.duplicates import same_question
from knowtuning.data.records import Row


class Splits(NamedTuple):
    """Three disjoint lists of QA rows, each in the order of the file."""

    train: list[Row]
    valid: list[Row]
    test: list[Row]


def split(rows: list[Row], valid: int, test: int, seed: int, train: int | None = None) -> Splits:
    """Draw `test`, `valid` and `train` rows at random; a question never stands on two sides.

    Rows that ask the same question (letter case and blanks aside) stay together: they move as one group.

    Args:
        rows: QA rows.
        valid: number of validation rows, exactly.
        test: number of test rows, exactly.
        seed: seeds `numpy.random.default_rng`; the same seed gives the same split everywhere, and the same held-out
            rows whatever `train` is.
        train: number of training rows at most; None takes all that are not held out.

    Raises:
        ValueError: the sizes leave no row for training, or repeated questions make them unreachable.
    """
    if min(valid, test) < 0 or valid + test >= len(rows):
        raise ValueError(f"valid={valid} and test={test} leave no training row of {len(rows)}; make them smaller.")
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(same_question(row), []).append(index)
    members = list(groups.values())
    sizes = {"test": test, "valid": valid, "train": len(rows) if train is None else train}
    taken: dict[str, list[int]] = {name: [] for name in sizes}
    for position in np.random.default_rng(seed).permutation(len(members)):
        for name, size in sizes.items():
            if len(taken[name]) + len(members[position]) <= size:
                taken[name] += members[position]
                break
    if (len(taken["valid"]), len(taken["test"])) != (valid, test):
        raise ValueError(
            f"valid={valid} and test={test} cannot be drawn from {len(rows)} rows with {len(members)} different "
            "questions, as repeated questions stay together; change a size by one or more."
        )
    return Splits(*([rows[index] for index in sorted(taken[name])] for name in Splits._fields))


def holdout(n: int, size: int, seed: int = 42) -> list[int]:
    """Return the indices of the rows that LLaMA-Factory's `val_size` sets aside for choosing a checkpoint.

    They are the first `size` of `numpy.random.default_rng(seed).permutation(n)`, in that order.

    Example:
        >>> holdout(5, 2)
        [4, 2]
    """
    if not 0 <= size < n:
        raise ValueError(f"val_size={size} leaves no training row of {n}; give a number from 0 to {n - 1}.")
    return np.random.default_rng(seed).permutation(n)[:size].tolist()
