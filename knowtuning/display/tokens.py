"""Where in two answers a policy departs from its reference, token by token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import accumulate

from knowtuning.display.views import View, rows

LIKELIER, LESS_LIKELY = "0,158,115", "213,94,0"
COLORS = ("rgb(0,158,115)", "rgb(213,94,0)")  # of the two answers' lines: chosen, rejected
WIDTH, HEIGHT = 420, 110  # of the picture's plotting area

Tokens = Sequence[tuple[str, float]]


def log_ratios(answers: Mapping[str, tuple[Tokens, Tokens]]) -> View:
    """Show a preference pair with what each of its tokens adds to the margin.

    Args:
        answers: the chosen answer first, then the rejected one, each under its name: its tokens with their
            log-probabilities in nats, by the policy and by the reference, as `token_log_probs` gives them.

    Green tokens are likelier under the policy than under the reference, red ones less likely.
    The margin of DPO is the sum over the chosen answer minus the sum over the rejected one. The picture adds
    the tokens up from left to right.

    >>> chosen = [("It", -1.0), (" is", -0.5)], [("It", -1.5), (" is", -0.75)]
    >>> log_ratios({"chosen": chosen, "rejected": ([("Moss", -3.0)], [("Moss", -1.0)])})
    chosen    +0.75  It[+0.5] is[+0.2]
    rejected  -2.00  Moss[-2.0]
    margin    2.75 nats
    """
    chosen, rejected = answers
    ratios = {name: differences(policy, reference) for name, (policy, reference) in answers.items()}
    sums = {name: sum(ratio for _, ratio in tokens) for name, tokens in ratios.items()}
    most = max((abs(ratio) for tokens in ratios.values() for _, ratio in tokens), default=0) or 1
    views = {name: _tokens(tokens, sums[name], most) for name, tokens in ratios.items()}
    margin = f"{sums[chosen] - sums[rejected]:.2f} nats"
    views["margin"] = View(f"{margin} = {sums[chosen]:+.2f} − ({sums[rejected]:+.2f})", margin)
    view = rows(views)
    return View(f"{view.html}{_picture(ratios)}", view.text)


def differences(policy: Tokens, reference: Tokens) -> list[tuple[str, float]]:
    """The log-ratio of every token of an answer: its log-probability by the policy less that by the reference."""
    return [(token, value - other) for (token, value), (_, other) in zip(policy, reference, strict=True)]


def _tokens(tokens: Tokens, total: float, most: float) -> View:
    html = []
    for token, ratio in tokens:
        style = f"background:rgba({LIKELIER if ratio > 0 else LESS_LIKELY},{0.45 * abs(ratio) / most:.2f})"
        shown = escape(token.strip(" ").replace("\n", "⏎"))
        under = f'<rt style="font-size:.65em">{_told(ratio)}</rt>'
        space = " " if token.startswith(" ") else ""
        html.append(f'{space}<ruby style="{style};ruby-position:under">{shown}{under}</ruby>')
    text = "".join(token + (f"[{told}]" if (told := _told(ratio)) else "") for token, ratio in tokens)
    return View(f'<div style="line-height:2.4">{"".join(html)}</div>sum {total:+.2f}', f"{total:+.2f}  {text}")


def _told(ratio: float) -> str:
    """A log-ratio worth telling: most tokens of a pair hardly change."""
    return f"{ratio:+.1f}" if abs(ratio) >= 0.05 else ""


def _picture(ratios: Mapping[str, Tokens]) -> str:
    """Sums of the log-ratios up to each token, one line an answer."""
    paths = {name: list(accumulate((ratio for _, ratio in tokens), initial=0.0)) for name, tokens in ratios.items()}
    steps = max(map(len, paths.values())) - 1 or 1
    low, high = (bound(value for path in paths.values() for value in path) for bound in (min, max))
    scale = HEIGHT / ((high - low) or 1)

    def across(step: int) -> float:
        return 40 + WIDTH * step / steps

    def down(value: float) -> float:
        return 10 + (high - value) * scale

    drawn = [f'<path d="M40 {down(0):.1f}h{WIDTH}" stroke="currentColor" stroke-opacity=".5"/>']
    for (name, path), color, dash in zip(paths.items(), COLORS, ("0", "6 3"), strict=True):
        line = " ".join(f"{across(step):.1f},{down(value):.1f}" for step, value in enumerate(path))
        drawn.append(
            f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2" stroke-dasharray="{dash}"/>'
        )
        drawn.append(f'<text x="{across(len(path) - 1) + 6:.1f}" y="{down(path[-1]) + 4:.1f}">{escape(name)}</text>')
    for value in sorted({low, 0.0, high}):
        if value == 0 or abs(value) * scale > 12:  # else it would stand on the zero
            drawn.append(f'<text x="36" y="{down(value) + 4:.1f}" text-anchor="end">{value:+.0f}</text>')
    about = f"Sums of the log-ratios from the first token to the last: {', '.join(paths)}."
    return (
        f'<svg role="img" aria-label="{escape(about)}" viewBox="0 0 {WIDTH + 120} {HEIGHT + 20}" '
        f'style="max-width:{WIDTH + 120}px;width:100%" fill="currentColor" font-size="11" font-family="sans-serif">'
        f"{''.join(drawn)}</svg><br><small>sum of the log-ratios so far, in nats, token by token</small>"
    )
