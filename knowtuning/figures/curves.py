"""Curves over the steps of a training: losses, what a base learns, margins of DPO."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from knowtuning.figures.drawing import BLUE, GREY, MARKERS, ORANGE, groups, log, row_of_panels, styled


@styled
def pretraining_loss(rows: list[dict]) -> Figure:
    """Loss of the base over the tokens it has read. Rows: step, tokens, loss (nats per token).

    Where some rows have a recall (share of facts known), a second panel shows it.
    """
    probed = [row for row in rows if "recall" in row]
    figure, [axes, *others] = row_of_panels(2 if probed else 1, **({"height": 3.2} if probed else {}))
    axes.plot([row["tokens"] / 1e6 for row in rows], [row["loss"] for row in rows], color=BLUE)
    axes.set(xlabel="tokens read (millions)", xlim=(0, None))
    log(axes, "y", "training loss (nats per token)")
    for panel in others:
        panel.plot([row["tokens"] / 1e6 for row in probed], [100 * row["recall"] for row in probed], "o-", color=ORANGE)
        panel.set(xlabel="tokens read (millions)", ylabel="facts known (%)", xlim=(0, None), ylim=(0, 100))
    axes.set_title(f"{rows[-1]['step']:,} steps, {rows[-1]['tokens'] / 1e6:.1f} M tokens")
    return figure


@styled
def training_loss(rows: list[dict], best_step: int | None = None) -> Figure:
    """Training and validation loss over steps. Rows: step, loss, eval_loss (either may be missing or None)."""
    figure, [axes] = row_of_panels(1)
    looks = {"loss": ("training", BLUE, "-"), "eval_loss": ("validation", ORANGE, "o--")}
    for field, (label, color, look) in looks.items():
        points = [(row["step"], row[field]) for row in rows if row.get(field) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), look, color=color, label=label)
    if best_step is not None:
        axes.axvline(best_step, color=GREY, linestyle=":", label=f"kept: step {best_step}")
    axes.set(xlabel="optimiser step", ylabel="loss (nats per answer token)", xlim=(0, None))
    axes.legend()
    return figure


@styled
def dpo_margins(rows: list[dict]) -> Figure:
    """Reward margin and accuracy of DPO from step 0, a column per aspect. Rows: step, aspect, margin, accuracy.

    Rows of the same step and aspect are averaged. At step 0 policy and reference are one, so every margin is 0.
    """
    aspects = groups(rows, "aspect")
    figure = Figure(figsize=(1.2 + 2.1 * len(aspects), 4.2))
    grid = figure.subplots(2, len(aspects), sharex=True, sharey="row", squeeze=False)
    for number, (aspect, of_aspect) in enumerate(aspects.items()):
        steps = sorted(groups(of_aspect, "step").items())
        for axes, field, usual in zip(grid[:, number], ("margin", "accuracy"), (0, 0.5), strict=True):
            means = [np.mean([row[field] for row in same]) for _, same in steps]
            axes.axhline(usual, color=GREY, linewidth=0.8, linestyle=":")
            axes.plot([step for step, _ in steps], means, MARKERS[number % len(MARKERS)] + "-", color=BLUE)
        grid[0, number].set_title(aspect)
        grid[1, number].set(xlabel="optimiser step", ylim=(-0.04, 1.04))
    grid[0, 0].set_ylabel("reward margin (β × nats)")
    grid[1, 0].set_ylabel("pairs ranked right (%)")
    grid[1, 0].yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    return figure
