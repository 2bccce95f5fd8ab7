"""Texts as a tree of tokens: what several begin with in common is there once."""

from __future__ import annotations

from collections.abc import Sequence

Ids = list[int]


def common(one: Ids, other: Ids) -> int:
    """How many tokens two texts begin with in common.

    Example:
        >>> common([5, 6, 7], [5, 6, 8, 7])
        2
    """
    for number, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return number
    return min(len(one), len(other))


class Tree:
    """Texts laid out depth first, in the order of a dictionary, in which those that begin alike are neighbours.

    Attributes:
        ids: the tokens, in one line.
        positions: of each token, in its texts.
        ends: where the tokens below each token end in the line.
        paths: of each text, in the order given, the places of its tokens in the line.

    Example:
        >>> tree = Tree([[1, 9], [1, 5, 6], [1, 5, 7]])
        >>> tree.ids, tree.positions, tree.ends
        ([1, 5, 6, 7, 9], [0, 1, 2, 2, 1], [5, 4, 3, 4, 5])
        >>> tree.paths
        [[0, 4], [0, 1, 2], [0, 1, 3]]
    """

    def __init__(self, texts: Sequence[Ids]) -> None:
        self.ids: Ids = []
        self.positions: list[int] = []
        self.ends: list[int] = []
        self.paths: list[list[int]] = [[]] * len(texts)
        text: Ids = []
        path: list[int] = []
        for place in sorted(range(len(texts)), key=texts.__getitem__):
            shared, size = common(texts[place], text), len(self.ids)
            for node in path[shared:]:
                self.ends[node] = size
            text = texts[place]
            self.ids += text[shared:]
            self.positions += range(shared, len(text))
            self.ends += [0] * (len(text) - shared)
            self.paths[place] = path = path[:shared] + list(range(size, len(self.ids)))
        for node in path:
            self.ends[node] = len(self.ids)
