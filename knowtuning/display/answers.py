"""Answers with their facts marked: what is right, what is wrong, what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from knowtuning.display.view import BLUE, GREEN, RED, YELLOW, View, columns, marked

_KEY = "<small>✓ correct &nbsp; ✗ incorrect &nbsp; ? unreadable &nbsp; – missing</small>"


class Said(Protocol):
    """What is needed of a statement of `knowtuning.lab.world`; `relation` is None where it could not be read."""

    sentence: str
    relation: str | None
    correct: bool


def marked_answer(statements: Iterable[Said], missing: Sequence[str] = ()) -> View:
    """Show an answer with every statement marked: ✓ correct, ✗ incorrect, ? unreadable; then what it leaves out.

    Args:
        statements: as `World.parse` returns them.
        missing: the facts, as sentences or names of relations, that the answer does not state.
    """
    view = _marked(list(statements), missing)
    return View(f"{view.html}{_KEY}", view.text)


def answers_side_by_side(answers: Mapping[str, tuple[Iterable[Said], Sequence[str]]]) -> View:
    """Show the answers of several arms to one question beside one another, each marked and counted.

    Args:
        answers: (statements, missing) of each arm, as `marked_answer` takes them.
    """
    views = {}
    for arm, (statements, missing) in answers.items():
        said = list(statements)
        correct = sum(one.correct for one in said)
        views[f"{arm}: {correct} ✓, {len(said) - correct} ✗, {len(missing)} –"] = _marked(said, missing)
    view = columns(views)
    return View(f"{view.html}{_KEY}", view.text)


def _marked(statements: Sequence[Said], missing: Sequence[str]) -> View:
    spans, lines = [], []
    for said in statements:
        mark, name, style = _verdict(said)
        spans.append(marked(f"{mark} {said.sentence}", style, name))
        lines.append(f"{mark} {said.sentence}")
    left_out = [marked(f"– {fact}", BLUE, "missing") for fact in missing]
    text = [*(lines or ["(empty answer)"]), *(f"– missing: {fact}" for fact in missing)]
    body = " ".join(spans) or "<em>empty answer</em>"
    return View(f'<div style="line-height:1.9">{body}<br>{" ".join(left_out)}</div>', "\n".join(text))


def _verdict(said: Said) -> tuple[str, str, str]:
    if said.correct:
        return "✓", "correct", GREEN
    if said.relation is None:
        return "?", "unreadable", YELLOW
    return "✗", "incorrect", RED
