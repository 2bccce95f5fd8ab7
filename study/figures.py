"""The figures of the whole study: many cells, two domains, intervals for other trainings and other questions."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from knowtuning.figures.drawing import BLUE, GREEN, GREY, MARKERS, ORANGE, UNITS, groups, styled

AXES = {"exposure": "tellings of a known fact", "annotator errors": "annotators' errors"}


@styled
def win_tie_lose(rows: list[dict]) -> Figure:
    """Shares of games won, tied and lost, a panel per aspect and domain. Rows: domain, aspect, against, win, tie, lose
    (% of the games, which add up to 100)."""
    domains, aspects, rivals = (groups(rows, field) for field in ("domain", "aspect", "against"))
    names = list(rivals)
    figure = Figure(figsize=(7.0, 0.75 + len(domains) * (0.35 + 0.36 * len(names))))
    grid = figure.subplots(len(domains), len(aspects), sharex=True, sharey=True, squeeze=False)
    looks = (("win", BLUE, None, "white"), ("tie", "#d9d9d9", None, "black"), ("lose", ORANGE, "////", "black"))
    for line, (domain, of_domain) in zip(grid, domains.items(), strict=True):
        for axes, aspect in zip(line, aspects, strict=True):
            games = [row for row in of_domain if row["aspect"] == aspect]
            places, left = [names.index(row["against"]) for row in games], np.zeros(len(games))
            for share, color, hatch, ink in looks:
                widths = np.array([row[share] for row in games], dtype=float)
                axes.barh(places, widths, 0.72, left=left, color=color, hatch=hatch, ec="white", lw=0.5, label=share)
                for place, start, width in zip(places, left, widths, strict=True):
                    if width >= (12 if hatch else 9):
                        box = {"facecolor": color, "edgecolor": "none", "pad": 0.8} if hatch else None
                        axes.text(
                            start + width / 2, place, f"{width:.0f}", ha="center", va="center", color=ink, bbox=box
                        )
                left = left + widths
            axes.grid(visible=False)
            axes.set_title(f"{domain}: {aspect}")
            axes.set_xlim(0, 100)
        line[0].set_yticks(range(len(names)), [f"against {name}" for name in names])
    grid[0, 0].invert_yaxis()
    for axes in grid[-1]:
        axes.set_xlabel("share of games (%)")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
    return figure


@styled
def correct_and_incorrect(rows: list[dict]) -> Figure:
    """Correct and incorrect facts per answer of each arm with their intervals over cells. Rows: domain, arm, metric
    ("correct facts" or "incorrect facts"), value, low, high (None where one cell is all there is)."""
    domains, arms = groups(rows, "domain"), list(groups(rows, "arm"))
    looks = {"correct facts": (BLUE, None, -0.19), "incorrect facts": (ORANGE, "////", 0.19)}
    figure = Figure(figsize=(7.0, 1.0 + 0.42 * len(arms)))
    grid = figure.subplots(1, len(domains), sharex=True, sharey=True, squeeze=False)[0]
    widest = max(row["high"] or row["value"] for row in rows)
    for axes, (domain, of_domain) in zip(grid, domains.items(), strict=True):
        for metric, (color, hatch, offset) in looks.items():
            for row in (row for row in of_domain if row["metric"] == metric):
                place = arms.index(row["arm"]) + offset
                axes.barh(place, row["value"], 0.36, color=color, hatch=hatch, ec="white", lw=0.5, label=metric)
                if row["low"] is not None:
                    axes.plot([row["low"], row["high"]], [place, place], color="black", lw=1.2)
                end = row["high"] or row["value"]
                axes.text(end + 0.02 * widest, place, f"{row['value']:.2f}", va="center", fontsize=8)
        axes.set(title=domain, xlabel="facts per answer", xlim=(0, 1.16 * widest))
        axes.grid(axis="y", visible=False)
    grid[0].set_yticks(range(len(arms)), arms)
    grid[0].set_ylim(len(arms) - 0.5, -0.5)
    handles = dict(zip(*reversed(grid[0].get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles, loc="outside upper right", ncols=2)
    figure.suptitle("mean of the trainings, 95 % t-interval over them", x=0.01, ha="left", fontsize=9)
    return figure


@styled
def ablation_differences(rows: list[dict], reference: str = "KnowTuning") -> Figure:
    """Differences to the whole method, a panel per metric, a marker per domain. Rows: domain, arm, metric, difference,
    low, high (for other trainings and other questions). A filled marker says that the interval leaves out zero."""
    metrics, arms, domains = groups(rows, "metric"), list(groups(rows, "arm")), list(groups(rows, "domain"))
    figure = Figure(figsize=(7.0, 1.1 + (0.13 + 0.19 * len(domains)) * len(arms)))
    grid = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axes, (metric, of_metric) in zip(grid, metrics.items(), strict=True):
        axes.axvline(0, color=GREY, linewidth=0.8)
        for row in (row for row in of_metric if row["difference"] is not None):
            number = domains.index(row["domain"])
            place = arms.index(row["arm"]) + 0.24 * (number - (len(domains) - 1) / 2)
            _dot(axes, row, place, _color(number), MARKERS[number])
        axes.set_xlabel(_points(metric))
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.grid(axis="y", visible=False)
    grid[0].set_yticks(range(len(arms)), arms)
    grid[0].set_ylim(len(arms) - 0.5, -0.5)
    _legend_of_domains(figure, domains)
    note = f"arm minus {reference}, 95 % interval (filled: without zero)"
    figure.suptitle(note, x=0.01, ha="left", fontsize=9)
    return figure


@styled
def regime_map(rows: list[dict], metric: str) -> Figure:
    """The difference of two arms over each axis of the map: small multiples. Rows: axis, value, metric, difference,
    low, high, each (the difference of every seed, small dots)."""
    rows = [row for row in rows if row["metric"] == metric]
    axes_of = groups(rows, "axis")
    across = min(3, len(axes_of))
    down = -(-len(axes_of) // across)
    figure = Figure(figsize=(7.0, 0.4 + 2.0 * down))
    grid = figure.subplots(down, across, sharey=True, squeeze=False)
    for axes in grid.flat[len(axes_of) :]:
        axes.remove()
    for axes, (name, points) in zip(grid.flat, axes_of.items(), strict=False):
        numbers = all(isinstance(row["value"], int | float) for row in points)
        points = sorted(points, key=lambda row: row["value"]) if numbers else points
        axes.axhline(0, color=GREY, linewidth=0.8)
        for place, row in enumerate(points):
            axes.plot(np.full(len(row["each"]), place + 0.16), row["each"], ".", color=GREY, ms=4)
            if row["low"] is not None:
                axes.plot([place, place], [row["low"], row["high"]], color=BLUE)
            sure = row["low"] is not None and (row["low"] > 0 or row["high"] < 0)
            axes.plot(place, row["difference"], "o", color=BLUE, mfc=BLUE if sure else "white", zorder=3)
        if numbers:
            axes.plot([row["difference"] for row in points], color=BLUE, lw=0.8, alpha=0.6, zorder=1)
        axes.set_xticks(range(len(points)), [f"{row['value']:g}" if numbers else row["value"] for row in points])
        axes.set(xlabel=AXES.get(name, name), xlim=(-0.5, len(points) - 0.5))
        axes.grid(axis="x", visible=False)
    for line in grid:
        line[0].set_ylabel(_points(metric))
    bars = any(row["low"] is not None for row in rows)
    note = "KnowTuning minus SFT; " + ("bar: 95 % t-interval over seeds, " if bars else "") + "small dots: seeds"
    figure.suptitle(note, x=0.01, ha="left", fontsize=9)
    return figure


@styled
def set_costs(rows: list[dict]) -> Figure:
    """Dollars and calls per 1,000 training answers of each method's sets. Rows: set, parts (a list of (name, dollars)
    that are stacked), calls (per 1,000 answers), model."""
    figure = Figure(figsize=(7.0, 0.9 + 0.36 * len(rows)))
    dollars, calls = figure.subplots(1, 2, sharey=True)
    highest = max(sum(value for _, value in row["parts"]) for row in rows)
    for place, row in enumerate(rows):
        left = 0.0
        for number, (name, value) in enumerate(row["parts"]):
            color, hatch = ((BLUE, None), ("#8fc1e3", "...."))[number % 2] if len(row["parts"]) > 1 else (GREY, None)
            dollars.barh(place, value, 0.6, left=left, color=color, hatch=hatch, ec="white", lw=0.5, label=name)
            left += value
        dollars.text(left + 0.02 * highest, place, f"{left:.2f}", va="center")
        calls.barh(place, row["calls"], 0.6, color=GREY)
        calls.text(row["calls"], place, f" {row['calls']:,.0f}", va="center")
    dollars.set(xlabel=f"US dollars per 1,000 answers ({rows[0]['model']})", xlim=(0, 1.18 * highest or 1))
    calls.set(xlabel="calls per 1,000 answers", xlim=(0, 1.25 * max(row["calls"] for row in rows) or 1))
    calls.xaxis.set_major_formatter("{x:,.0f}")
    calls.xaxis.set_major_locator(MaxNLocator(4))
    dollars.set_yticks(range(len(rows)), [row["set"] for row in rows])
    dollars.invert_yaxis()
    for axes in (dollars, calls):
        axes.grid(axis="y", visible=False)
    stacked = {name for row in rows if len(row["parts"]) > 1 for name, _ in row["parts"]}
    handles = dict(zip(*reversed(dollars.get_legend_handles_labels()), strict=True))
    handles = {name: handle for name, handle in handles.items() if name in stacked}
    if handles:
        figure.legend(handles.values(), handles, loc="outside upper right", ncols=len(handles))
    return figure


@styled
def cells_by_base(rows: list[dict]) -> Figure:
    """Each cell's difference as one dot, by domain and base: how far trainings agree. Rows: domain, base, seed, metric,
    difference. A line marks the mean of each base."""
    metrics, domains = groups(rows, "metric"), list(groups(rows, "domain"))
    places = sorted({(domains.index(row["domain"]), row["base"]) for row in rows})
    figure = Figure(figsize=(7.0, 2.8))
    grid = figure.subplots(1, len(metrics), squeeze=False)[0]
    for axes, (metric, of_metric) in zip(grid, metrics.items(), strict=True):
        axes.axhline(0, color=GREY, linewidth=0.8)
        for place, (number, base) in enumerate(places):
            here = [row for row in of_metric if (row["domain"], row["base"]) == (domains[number], base)]
            values = [row["difference"] for row in sorted(here, key=lambda row: row["seed"])]
            nudge = np.linspace(-0.22, 0.22, len(values)) if len(values) > 1 else np.zeros(len(values))
            axes.plot(place + nudge, values, MARKERS[number], color=_color(number), mfc="none", ms=4)
            if values:
                axes.plot([place - 0.35, place + 0.35], [np.mean(values)] * 2, color="black", lw=1.2)
        axes.set_xticks(range(len(places)), [str(base) for _, base in places])
        axes.set(xlabel="seed of the base", ylabel=_points(metric), xlim=(-0.6, len(places) - 0.4))
        axes.grid(axis="x", visible=False)
    _legend_of_domains(figure, domains)
    figure.suptitle("one marker per training; line: mean of the base", x=0.01, ha="left", fontsize=9)
    return figure


def _color(number: int) -> str:
    return (BLUE, ORANGE, GREEN)[number % 3]


def _dot(axes: Axes, row: dict, place: float, color: str, marker: str) -> None:
    if row["low"] is not None:
        axes.plot([row["low"], row["high"]], [place, place], color=color)
    sure = row["low"] is not None and (row["low"] > 0 or row["high"] < 0)
    axes.plot(row["difference"], place, marker, color=color, mfc=color if sure else "white")


def _points(metric: str) -> str:
    """The label of a difference: points where the metric is in percent; broken, for narrow panels."""
    label = UNITS.get(metric, metric).replace("(%)", "(points)")
    return label.replace(" per answer", "\nper answer").replace(" (points)", "\n(points)")


def _legend_of_domains(figure: Figure, domains: list[str]) -> None:
    handles = [
        Line2D([], [], color=_color(number), marker=MARKERS[number], label=domain)
        for number, domain in enumerate(domains)
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(domains))
