"""Batches of sequences of like length, bounded by their size with padding and so by the memory that they take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def batches(lengths: Sequence[int], max_tokens: int, most: int | None = None) -> Iterator[list[int]]:
    """Places of the sequences, shortest first, in batches that padding to the longest leaves within `max_tokens`.

    Args:
        lengths: tokens of each sequence.
        max_tokens: rows times longest of a batch; a sequence that is longer on its own is a batch of its own.
        most: sequences per batch.

    Example:
        >>> list(batches([5, 2, 3, 9], max_tokens=6))
        [[1, 2], [0], [3]]
    """
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and ((len(batch) + 1) * lengths[place] > max_tokens or len(batch) == most):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
