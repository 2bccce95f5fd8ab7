"""Answers with their facts marked: what is right, wrong or missing, how hard each fact is, what was made of them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from knowtuning.display.views import BLUE, GREEN, RED, YELLOW, View, columns, rows

if TYPE_CHECKING:
    from knowtuning.lab.world import Statement

_KEY = "<small>✓ correct &nbsp; ✗ incorrect &nbsp; ? unreadable &nbsp; – missing</small>"
_AMBER = "230,159,0"
_DARKEST = 0.45  # on a dark page a darker shade would swallow the text
# words that any two sentences share
_COMMON = "a an and are as at be by for from in is it its of on or that the this to was were what which with"


def answers_side_by_side(answers: Mapping[str, tuple[Sequence[Statement], Sequence[str]]]) -> View:
    """Show the answers of several arms to one question beside one another, every statement marked and counted.

    The marks are ✓ correct, ✗ incorrect, ? unreadable (which is incorrect too) and – missing.

    Args:
        answers: of each arm the statements, as `World.parse` returns them, and what it leaves out: facts as sentences,
            or names of aspects.
    """
    views = {}
    for arm, (statements, missing) in answers.items():
        correct = [statement.correct for statement in statements]
        title = f"{arm}: {correct.count(True)} ✓, {correct.count(False)} ✗, {len(missing)} –"
        views[title] = _marked(statements, missing)
    view = columns(views)
    return View(f"{view.html}{_KEY}", view.text)


def _marked(statements: Sequence[Statement], missing: Sequence[str]) -> View:
    spans, lines = [], []
    for statement in statements:
        mark, name, style = ("✗", "incorrect", RED) if statement.relation else ("?", "unreadable", YELLOW)
        if statement.correct:
            mark, name, style = "✓", "correct", GREEN
        lines.append(f"{mark} {statement.sentence}")
        spans.append(_span(lines[-1], style, name))
    body = " ".join(spans) or "<em>empty answer</em>"
    left_out = " ".join(_span(f"– {fact}", BLUE, "missing") for fact in missing)
    text = [*(lines or ["(empty answer)"]), *(f"– missing: {fact}" for fact in missing)]
    return View(f'<div style="line-height:1.9">{body}<br>{left_out}</div>', "\n".join(text))


def _span(text: str, style: str, title: str) -> str:
    return f'<span title="{title}" style="{style};padding:1px 3px">{escape(text)}</span>'


def shaded_answer(answer: str, facts: Sequence[str], perplexities: Sequence[float], difficult: Sequence[bool]) -> View:
    """Show an answer and its facts, shaded by perplexity: the darker, the harder. The difficult ones are outlined.

    The shade is by the logarithm of the perplexity, from 1 (certainty, no shade) to the hardest fact of the answer.
    Each fact is followed by its perplexity, a difficult one by a star.
    """
    hardest = math.log(max([1, *perplexities])) or 1
    spans, lines = [], []
    for fact, perplexity, hard in zip(facts, perplexities, difficult, strict=True):
        shade = _DARKEST * math.log(max(perplexity, 1)) / hardest
        outline = f";outline:2px solid rgb({_AMBER})" if hard else ""
        style = f"background:rgba({_AMBER},{shade:.2f});padding:2px 4px{outline}"
        told = f"{perplexity:.2f}" + ("&nbsp;★" if hard else "")
        spans.append(f'<span style="{style}">{escape(fact)}&nbsp;<sub style="white-space:nowrap">{told}</sub></span>')
        lines.append(f"{perplexity:8.2f} {'★' if hard else ' '} {fact}")
    key = f"shades from perplexity 1 to {max(perplexities, default=1):.2f}; outlined, ★: difficult"
    shaded = f'<div style="line-height:2.2">{" ".join(spans)}</div><small>{key}</small>'
    text = "\n".join([answer, "perplexity (★ difficult)", *lines])
    return View(rows({"answer": View(escape(answer), ""), "facts": View(shaded, "")}).html, text)


def rewriting(facts: Sequence[str], question: str, answer: str) -> View:
    """Show facts with the question and the answer that the teacher made of them: words of the facts are bold.

    >>> rewriting(["Rust comes from rain."], "What is the cause of rust?", "It comes from rain.")
    facts     Rust comes from rain.
    question  What is the cause of *rust*?
    answer    It *comes* from *rain*.
    """
    known = {word.lower() for fact in facts for word in re.findall(r"\w+", fact)} - set(_COMMON.split())

    def emphasised(text: str, mark: str, clean: Callable[[str], str]) -> str:
        parts = re.split(r"(\w+)", text)
        return "".join(mark.format(clean(part)) if part.lower() in known else clean(part) for part in parts)

    views = {"facts": View("<br>".join(map(escape, facts)), " ".join(facts))}
    for label, text in (("question", question), ("answer", answer)):
        views[label] = View(emphasised(text, "<strong>{}</strong>", escape), emphasised(text, "*{}*", str))
    return rows(views)
