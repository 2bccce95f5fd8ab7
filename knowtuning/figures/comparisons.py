"""Arms of one run side by side: differences, tiers, and what the errors of a teacher cost."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from knowtuning.figures.drawing import BLUE, GREEN, GREY, MARKERS, ORANGE, UNITS, groups, row_of_panels, styled


@styled
def differences(rows: list[dict]) -> Figure:
    """Differences to a reference arm, a panel per metric. Rows: arm, against, metric, difference, low, high.

    A filled marker says that the interval leaves out zero; a difference of None leaves a gap.
    """
    named = [{**row, "arm": f"{row['arm']} - {row['against']}"} for row in rows]
    metrics, arms = groups(named, "metric"), list(groups(named, "arm"))
    down = -(-len(metrics) // 4)
    across = -(-len(metrics) // down)
    figure = Figure(figsize=(1.1 + 2.1 * across, 0.45 + down * (0.75 + 0.26 * len(arms))))
    grid = figure.subplots(down, across, sharey=True, squeeze=False)
    for axes in grid.flat[len(metrics) :]:
        axes.remove()
    for axes, (metric, of_metric) in zip(grid.flat, metrics.items(), strict=False):
        axes.axvline(0, color=GREY, linewidth=0.8)
        for row in (row for row in of_metric if row["difference"] is not None):
            sure = row["low"] > 0 or row["high"] < 0
            place = arms.index(row["arm"])
            axes.plot([row["low"], row["high"]], [place, place], color=BLUE)
            marker = MARKERS[place % len(MARKERS)]
            axes.plot(row["difference"], place, marker, color=BLUE, mfc=BLUE if sure else "white")
        axes.set_xlabel(UNITS.get(metric, metric).replace("%", "points"))
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.grid(axis="y", visible=False)
    grid[0, 0].set_yticks(range(len(arms)), arms)
    grid[0, 0].set_ylim(len(arms) - 0.5, -0.5)
    figure.suptitle("difference with paired 95 % bootstrap interval", x=0.01, ha="left", fontsize=9)
    return figure


@styled
def correct_by_tier(rows: list[dict]) -> Figure:
    """Correct and incorrect facts per answer of each arm, a panel per tier. Rows: arm, tier, correct, incorrect.

    The number at the end of a bar is the share of the facts said that are correct: where an arm says more about the
    entities that the base knows, it rises overall without rising in any tier.
    """
    tiers, arms = groups(rows, "tier"), list(groups(rows, "arm"))
    figure, panels = row_of_panels(len(tiers), height=1.3 + 0.32 * len(arms), sharex=True, sharey=True)
    longest = max(row["correct"] + row["incorrect"] for row in rows)
    for axes, (tier, of_tier) in zip(panels, tiers.items(), strict=True):
        places = [arms.index(row["arm"]) for row in of_tier]
        correct, incorrect = ([row[field] for row in of_tier] for field in ("correct", "incorrect"))
        axes.barh(places, correct, 0.7, color=BLUE, label="correct")
        axes.barh(places, incorrect, 0.7, left=correct, color=ORANGE, hatch="////", ec="white", label="incorrect")
        for place, right, wrong in zip(places, correct, incorrect, strict=True):
            told = right + wrong
            share = f"{100 * right / told:.1f} %" if told else "nothing said"
            axes.text(told + 0.02 * longest, place, share, va="center")
        axes.set(title=tier, xlabel="facts per answer", xlim=(0, 1.25 * longest or 1))
        axes.grid(axis="y", visible=False)
    panels[0].set_yticks(range(len(arms)), arms)
    panels[0].invert_yaxis()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return figure


@styled
def cost_of_errors(rows: list[dict]) -> Figure:
    """Scores of the arms over the teacher's error rate, a panel per metric. Rows: arm, metric, errors (% of the facts),
    value, low, high (95 % interval), n (questions)."""
    metrics, arms = groups(rows, "metric"), list(groups(rows, "arm"))
    rates = sorted({row["errors"] for row in rows})
    nudge = 0.03 * (max(rates) - min(rates) or 1)  # so that intervals do not cover each other
    figure, panels = row_of_panels(len(metrics), height=2.8, sharex=True)
    for axes, (metric, of_metric) in zip(panels, metrics.items(), strict=True):
        for place, (arm, points) in enumerate(groups(of_metric, "arm").items()):
            points = sorted((row for row in points if row["value"] is not None), key=lambda row: row["errors"])
            at = [row["errors"] + nudge * (place - (len(arms) - 1) / 2) for row in points]
            ends = [[abs(row["value"] - row[end]) for row in points] for end in ("low", "high")]
            look = {"color": (GREY, BLUE, ORANGE, GREEN)[place % 4], "marker": MARKERS[place % len(MARKERS)]}
            axes.errorbar(at, [row["value"] for row in points], yerr=ends, capsize=2, label=arm, **look)
        axes.set(ylabel=UNITS.get(metric, metric), xlabel="teacher's errors (% of facts)")
        axes.set_xticks(rates)
        axes.margins(x=0.08)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=len(arms))
    sizes = sorted({row["n"] for row in rows})
    asked = " to ".join(f"{size:,}" for size in dict.fromkeys((sizes[0], sizes[-1])))
    figure.suptitle(f"95 % bootstrap interval, n = {asked} questions", x=0.01, ha="left", fontsize=9)
    return figure
