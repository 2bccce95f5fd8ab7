"""Where in two answers a policy departs from its reference, token by token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import accumulate

from knowtuning.display.views import View, rows

LIKELIER, LESS_LIKELY = "0,158,115", "213,94,0"  # also of the two answers' lines: chosen, rejected
WIDTH, HEIGHT = 420, 110  # of the picture's plotting area

Tokens = Sequence[tuple[str, float]]


def log_ratios(answers: Mapping[str, tuple[Tokens, Tokens]]) -> View:
    """Show a preference pair with what each of its tokens adds to the margin.

    Args:
        answers: the chosen answer first, then the rejected one, each under its name: its tokens with their
            log-probabilities in nats, by the policy and by the reference, as `token_log_probs` gives them.

    Green tokens are likelier under the policy than under the reference, red ones less likely. The margin of DPO is the
    sum over the chosen answer minus that over the rejected one. The picture adds the tokens up from left to right.

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
    """The tokens of an answer over their log-ratios, where they are worth telling: most of a pair hardly change."""
    html, text = "", ""
    for token, ratio in tokens:
        told = f"{ratio:+.1f}" if abs(ratio) >= 0.05 else ""
        style = f"background:rgba({LIKELIER if ratio > 0 else LESS_LIKELY},{0.45 * abs(ratio) / most:.2f})"
        shown = escape(token.strip(" ").replace("\n", "⏎"))
        under = f'<rt style="font-size:.65em">{told}</rt>'
        html += f'{" " * token.startswith(" ")}<ruby style="{style};ruby-position:under">{shown}{under}</ruby>'
        text += token + (f"[{told}]" if told else "")
    return View(f'<div style="line-height:2.4">{html}</div>sum {total:+.2f}', f"{total:+.2f}  {text}")


def _picture(ratios: Mapping[str, Tokens]) -> str:
    """Sums of the log-ratios up to each token, one line an answer, as SVG."""
    paths = {name: list(accumulate((ratio for _, ratio in tokens), initial=0.0)) for name, tokens in ratios.items()}
    values = [value for path in paths.values() for value in path]
    low, high = min(values), max(values)
    across = WIDTH / (max(map(len, paths.values())) - 1 or 1)  # of one token
    scale = HEIGHT / ((high - low) or 1)  # of one nat

    def at(step: int, value: float) -> tuple[float, float]:
        return 40 + across * step, 10 + (high - value) * scale

    drawn = f'<path d="M40 {at(0, 0)[1]:.1f}h{WIDTH}" stroke="currentColor" stroke-opacity=".5"/>'
    for (name, path), color, dash in zip(paths.items(), (LIKELIER, LESS_LIKELY), ("0", "6 3"), strict=True):
        points = [at(step, value) for step, value in enumerate(path)]
        line = f'fill="none" stroke="rgb({color})" stroke-width="2" stroke-dasharray="{dash}"'
        drawn += f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}" {line}/>'
        x, y = points[-1]
        drawn += f'<text x="{x + 6:.1f}" y="{y + 4:.1f}">{escape(name)}</text>'
    for value in sorted({low, 0.0, high}):
        if value == 0 or abs(value) * scale > 12:  # else it would stand on the zero
            drawn += f'<text x="36" y="{at(0, value)[1] + 4:.1f}" text-anchor="end">{value:+.0f}</text>'
    about = f"Sums of the log-ratios from the first token to the last: {', '.join(paths)}."
    return (
        f'<svg role="img" aria-label="{escape(about)}" viewBox="0 0 {WIDTH + 120} {HEIGHT + 20}" '
        f'style="max-width:{WIDTH + 120}px;width:100%" fill="currentColor" font-size="11" font-family="sans-serif">'
        f"{drawn}</svg><br><small>sum of the log-ratios so far, in nats, token by token</small>"
    )
