"""Facts on their way through the method: how hard they are, and what is made of them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from html import escape

from knowtuning.display.view import View, rows

AMBER = "230,159,0"
DARKEST = 0.45  # on a dark page a darker shade would swallow the text
OUTLINE = f"outline:2px solid rgb({AMBER})"
# words that any two sentences share
COMMON = frozenset(
    re.findall(
        r"\w+", "a an and are as at be by for from in is it its of on or that the this to was were what which with"
    )
)


def shaded_answer(answer: str, facts: Sequence[str], perplexities: Sequence[float], difficult: Sequence[bool]) -> View:
    """Show an answer and its facts, shaded by perplexity: the darker, the harder. The difficult ones are outlined.

    The shade is by the logarithm of the perplexity, from 1 (certainty, no shade) to the hardest fact of the answer.
    Each fact is followed by its perplexity, a difficult one by a star.
    """
    hardness = [math.log(max(perplexity, 1)) for perplexity in perplexities]
    spans, lines = [], []
    for fact, perplexity, weight, hard in zip(facts, perplexities, hardness, difficult, strict=True):
        shade = f"background:rgba({AMBER},{DARKEST * weight / (max(hardness) or 1):.2f})"
        style = f"{shade};padding:2px 4px;{OUTLINE}" if hard else f"{shade};padding:2px 4px"
        told = f"{perplexity:.2f}" + ("&nbsp;★" if hard else "")
        spans.append(f'<span style="{style}">{escape(fact)}&nbsp;<sub style="white-space:nowrap">{told}</sub></span>')
        lines.append(f"{perplexity:8.2f} {'★' if hard else ' '} {fact}")
    shaded = f'<div style="line-height:2.2">{" ".join(spans)}</div>{_scale(max(perplexities, default=1))}'
    text = "\n".join([answer, "perplexity (★ difficult)", *lines])
    return View(rows({"answer": View(escape(answer), ""), "facts": View(shaded, "")}).html, text)


def _scale(hardest: float) -> str:
    """A key of the shades, as a picture."""
    box = 'y="3" width="20" height="12"'
    steps = "".join(
        f'<rect x="{30 + 20 * i}" {box} fill="rgb({AMBER})" fill-opacity="{DARKEST * i / 5:.2f}"/>' for i in range(6)
    )
    about = f"Shades from perplexity 1 to {hardest:.2f}; difficult facts are outlined and have a star."
    return (
        f'<svg role="img" aria-label="{about}" viewBox="0 0 330 18" style="width:330px;max-width:100%" '
        f'fill="currentColor" font-size="11" font-family="sans-serif"><text x="18" y="13">1</text>{steps}'
        f'<text x="155" y="13">{hardest:.2f}</text><rect x="200" {box} fill="none" '
        f'stroke="rgb({AMBER})" stroke-width="2"/><text x="226" y="13">★ difficult</text></svg>'
    )


def rewriting(facts: Sequence[str], question: str, answer: str) -> View:
    """Show facts with the question and the answer that the teacher made of them: words of the facts are bold.

    >>> rewriting(["Rust comes from rain."], "What is the cause of rust?", "It comes from rain.")
    facts     Rust comes from rain.
    question  What is the cause of *rust*?
    answer    It *comes* from *rain*.
    """
    known = {word.lower() for fact in facts for word in re.findall(r"\w+", fact)} - COMMON
    views = {"facts": View("<br>".join(map(escape, facts)), " ".join(facts))}
    for label, text in (("question", question), ("answer", answer)):
        views[label] = View(
            _emphasised(text, known, "<strong>{}</strong>", escape), _emphasised(text, known, "*{}*", str)
        )
    return rows(views)


def _emphasised(text: str, known: set[str], mark: str, clean: Callable[[str], str]) -> str:
    parts = re.split(r"(\w+)", text)
    return "".join(mark.format(clean(part)) if part.lower() in known else clean(part) for part in parts)
