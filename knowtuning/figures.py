"""The figures, one function each, in one style: tidy rows (a list of dicts) in, a matplotlib `Figure` out.

Nothing here touches pyplot, so no figure is shown twice or left open. Colours are those of Okabe and Ito, which stay
apart for colour-blind readers; marker, hatch and lightness tell the same things apart in grey.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#E69F00", "#009E73", "#666666"
MARKERS = "osD^vPX*"
STYLE = {
    "figure.dpi": 96,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 150,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.5,
    "lines.markersize": 5,
    "legend.framealpha": 0.9,
    "legend.edgecolor": "none",
    "hatch.linewidth": 0.6,
}
# metric -> axis label with its unit
UNITS = {
    "correct facts": "correct facts per answer",
    "incorrect facts": "incorrect facts per answer",
    "% correct": "correct of all facts told (%)",
    "completeness": "completeness (%)",
    "order": "order (%)",
    "METEOR": "METEOR (0 to 100)",
    "BERTScore": "BERTScore F1 (0 to 100)",
    "words": "words per answer",
}


@contextmanager
def style() -> Iterator[None]:
    """Apply the style, and nothing outside it: `with style(): …`, or `@style()` above a function that draws."""
    with mpl.rc_context(STYLE):
        yield


def save(figure: Figure, directory: Path, name: str) -> Path:
    """Write `<directory>/<name>.png` at 150 dpi, the same bytes for the same figure, and return its path."""
    path = Path(directory) / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = io.BytesIO()
    with style():
        # without the entry "Software" another version of matplotlib can give the same file
        figure.savefig(picture, format="png", metadata={"Software": None})
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_bytes(picture.getvalue())
    partial.replace(path)
    return path


# --- the base model


@style()
def pretraining_loss(rows: list[dict]) -> Figure:
    """Loss of the base over the tokens it has read. Rows: step, tokens, loss (nats per token).

    Where some rows have a recall (share of facts known), a second panel shows it.
    """
    _check(rows, "step", "tokens", "loss")
    probed = [row for row in rows if "recall" in row]
    figure, [axes, *others] = _panels(2 if probed else 1, **({"height": 3.2} if probed else {}))
    axes.plot([row["tokens"] / 1e6 for row in rows], [row["loss"] for row in rows], color=BLUE)
    axes.set(xlabel="tokens read (millions)", ylabel="training loss (nats per token)", xlim=(0, None))
    _log(axes, "y", "training loss (nats per token)")
    for panel in others:
        panel.plot([row["tokens"] / 1e6 for row in probed], [100 * row["recall"] for row in probed], "o-", color=ORANGE)
        panel.set(xlabel="tokens read (millions)", ylabel="facts known (%)", xlim=(0, None), ylim=(0, 100))
    axes.set_title(f"{rows[-1]['step']:,} steps, {rows[-1]['tokens'] / 1e6:.1f} M tokens")
    return figure


@style()
def recall_by_exposure(rows: list[dict]) -> Figure:
    """Recall and median perplexity by how often the base has read a fact. Rows, one per fact: tier, exposures, known,
    perplexity. Bars on the right hold the middle half of the facts."""
    _check(rows, "tier", "exposures", "known", "perplexity")
    figure = Figure(figsize=(8.4, 3.2))
    left, right = figure.subplots(1, 2)
    tiers = sorted(_groups(rows, "tier").items(), key=lambda item: item[1][0]["exposures"])
    for number, (tier, facts) in enumerate(tiers):
        exposures = facts[0]["exposures"]
        recall = np.mean([bool(fact["known"]) for fact in facts])
        low, median, high = np.quantile([fact["perplexity"] for fact in facts], [0.25, 0.5, 0.75])
        look = {"color": BLUE, "marker": MARKERS[number % len(MARKERS)], "linestyle": "none"}
        left.plot(exposures, recall, **look, label=f"{tier} (n = {len(facts):,})")
        right.errorbar(exposures, median, yerr=[[median - low], [high - median]], capsize=3, **look)
    for axes in (left, right):
        axes.set_xscale("symlog", linthresh=1, linscale=0.4)
        axes.set_xticks(sorted({facts[0]["exposures"] for _, facts in tiers}))
        axes.set_xticks([], minor=True)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("exposures in training (log scale)")
        axes.margins(x=0.08)
    left.set(ylabel="recall (% of facts said right)", ylim=(-0.04, 1.04))
    left.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    _log(right, "y", "median perplexity")
    right.set_title("bars: middle half of the facts")
    figure.legend(loc="outside right upper", title="tier (n facts)")
    return figure


@style()
def perplexity_separation(rows: list[dict], auc: float | None = None) -> Figure:
    """Perplexity of facts that the base knows and of those it does not. Rows: known, perplexity."""
    _check(rows, "known", "perplexity")
    figure, [axes] = _panels(1)
    bins = _log_bins([row["perplexity"] for row in rows])
    for known, color, hatch in ((True, BLUE, None), (False, ORANGE, "////")):
        values = [row["perplexity"] for row in rows if bool(row["known"]) == known]
        label = f"{'known' if known else 'unknown'} (n = {len(values):,})"
        weights = np.full(len(values), 1 / max(1, len(values)))
        axes.hist(values, bins, weights=weights, color=color, alpha=0.6, hatch=hatch, edgecolor="white", label=label)
    _log(axes, "x", "perplexity of the fact")
    axes.set_ylabel("share of the facts of that kind (%)")
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    axes.legend()
    if auc is not None:
        axes.set_title(f"perplexity tells unknown from known facts: AUC {auc:.3f}")
    return figure


# --- training


@style()
def training_loss(rows: list[dict], best_step: int | None = None) -> Figure:
    """Training and validation loss over steps. Rows: step, loss, eval_loss (either may be missing or None)."""
    _check(rows, "step")
    figure, [axes] = _panels(1)
    for field, label, color, look in (
        ("loss", "training", BLUE, "-"),
        ("eval_loss", "validation", ORANGE, "o--"),
    ):
        points = [(row["step"], row[field]) for row in rows if row.get(field) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), look, color=color, label=label)
    if best_step is not None:
        axes.axvline(best_step, color=GREY, linestyle=":", label=f"kept: step {best_step}")
    axes.set(xlabel="optimiser step", ylabel="loss (nats per answer token)", xlim=(0, None))
    axes.legend()
    return figure


@style()
def dpo_margins(rows: list[dict]) -> Figure:
    """Reward margin and accuracy of DPO from step 0, a column per aspect. Rows: step, aspect, margin, accuracy.

    Rows of the same step and aspect are averaged. At step 0 policy and reference are one, so every margin is 0.
    """
    _check(rows, "step", "aspect", "margin", "accuracy")
    aspects = _groups(rows, "aspect")
    figure = Figure(figsize=(1.2 + 2.1 * len(aspects), 4.2))
    grid = figure.subplots(2, len(aspects), sharex=True, sharey="row", squeeze=False)
    for number, (aspect, found) in enumerate(aspects.items()):
        steps = sorted(_groups(found, "step").items())
        for axes, field, usual in zip(grid[:, number], ("margin", "accuracy"), (0, 0.5), strict=True):
            means = [np.mean([row[field] for row in same]) for _, same in steps]
            axes.axhline(usual, color=GREY, linewidth=0.8, linestyle=":")
            axes.plot([step for step, _ in steps], means, MARKERS[number % len(MARKERS)] + "-", color=BLUE)
        grid[0, number].set_title(aspect)
        grid[1, number].set(xlabel="optimiser step", ylim=(-0.04, 1.04))
    grid[0, 0].set_ylabel("reward margin (nats)")
    grid[1, 0].set_ylabel("pairs ranked right (%)")
    grid[1, 0].yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    return figure


# --- facts and pairs


@style()
def perplexity_of_facts(rows: list[dict]) -> Figure:
    """Perplexity of the facts of the answers, the difficult ones marked; a panel per tier where rows have one.

    Rows, one per fact: perplexity, difficult, and tier or not. Difficult is relative to the answer that a fact stands
    in, so the two kinds overlap.
    """
    _check(rows, "perplexity", "difficult")
    tiers = _groups(rows, "tier") if all(row.get("tier") for row in rows) else {"": rows}
    figure, panels = _panels(len(tiers), sharex=True)
    bins = _log_bins([row["perplexity"] for row in rows])
    for axes, (tier, facts) in zip(panels, tiers.items(), strict=True):
        kinds = [[row["perplexity"] for row in facts if bool(row["difficult"]) == kind] for kind in (False, True)]
        labels = [f"{name} (n = {len(kind):,})" for name, kind in zip(("other", "difficult"), kinds, strict=True)]
        _, _, drawn = axes.hist(kinds, bins, stacked=True, color=[BLUE, ORANGE], label=labels, edgecolor="white")
        for bar in drawn[1]:
            bar.set_hatch("////")
        axes.set_title(tier)
        _log(axes, "x", "perplexity of the fact")
        axes.legend()
    panels[0].set_ylabel("facts")
    return figure


@style()
def facts_per_answer(counts: Sequence[int]) -> Figure:
    """How many answers yield how many facts, from one count per answer."""
    if not len(counts):
        raise ValueError("there is nothing to draw: give one count per answer.")
    figure, [axes] = _panels(1)
    sizes = np.bincount(counts)
    bars = axes.bar(range(len(sizes)), sizes, color=BLUE, width=0.8)
    axes.bar_label(bars, [f"{size:,}" if size else "" for size in sizes], padding=1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(axis="x", visible=False)
    axes.margins(y=0.1)
    axes.set(xlabel="facts in the answer", ylabel="answers", xlim=(min(counts) - 0.7, max(counts) + 0.7))
    axes.set_title(f"n = {len(counts):,} answers, {np.mean(counts):.1f} facts on average")
    return figure


@style()
def answer_lengths(words: Mapping[str, Sequence[int]]) -> Figure:
    """Distribution of answer lengths, a panel per split. `words` maps a split to one number of words per answer."""
    if not any(words.values()):
        raise ValueError("there is nothing to draw: give one number of words per answer.")
    figure, panels = _panels(len(words), height=2.8, sharex=True)
    bins = np.linspace(0, max(map(max, words.values())) + 1, 25)
    for axes, (split, lengths) in zip(panels, words.items(), strict=True):
        axes.hist(lengths, bins, color=BLUE, edgecolor="white")
        axes.set(xlabel="words in the answer", title=f"{split} (n = {len(lengths):,})")
    panels[0].set_ylabel("answers")
    return figure


@style()
def pair_lengths(rows: list[dict]) -> Figure:
    """Length of chosen and rejected answers by aspect. Rows, one per pair: aspect, chosen_words, rejected_words.

    Boxes hold the middle half, whiskers the 5th to the 95th percentile. A length that differs can be learnt in place
    of what the pair is meant to teach.
    """
    _check(rows, "aspect", "chosen_words", "rejected_words")
    aspects = _groups(rows, "aspect")
    figure = Figure(figsize=(6.4, 1.1 + 0.75 * len(aspects)))
    axes = figure.subplots()
    for field, color, hatch, offset in (("chosen_words", BLUE, None, 0.17), ("rejected_words", ORANGE, "////", -0.17)):
        boxes = axes.boxplot(
            [[pair[field] for pair in pairs] for pairs in aspects.values()],
            positions=[-number + offset for number in range(len(aspects))],
            orientation="horizontal",
            widths=0.28,
            whis=(5, 95),
            showfliers=False,
            patch_artist=True,
            boxprops={"facecolor": color, "hatch": hatch, "edgecolor": "black", "linewidth": 0.6},
            medianprops={"color": "black", "linewidth": 1.6},
            manage_ticks=False,
        )
        boxes["boxes"][0].set_label(field.removesuffix("_words"))
    labels = [f"{aspect}\n(n = {len(pairs):,} pairs)" for aspect, pairs in aspects.items()]
    axes.set_yticks([-number for number in range(len(aspects))], labels)
    axes.grid(axis="y", visible=False)
    axes.set(xlabel="words in the answer (box: middle half, whiskers: 5 to 95 %)", xlim=(0, None))
    figure.legend(loc="outside upper right", ncols=2)
    return figure


# --- arms


@style()
def arm_comparison(rows: list[dict]) -> Figure:
    """Arms side by side, a panel per metric. Rows: arm, metric, value, low, high (95 % interval), n or not."""
    _check(rows, "arm", "metric", "value", "low", "high")
    return _forest(rows, "value", f"95 % bootstrap interval{_questions(rows)}")


@style()
def differences(rows: list[dict], reference: str = "sft") -> Figure:
    """Differences to a reference arm, a panel per metric. Rows: arm, metric, difference, low, high, n or not.

    Rows may name the arm that each is compared with in `against`; else it is `reference`. A filled marker says that the
    interval leaves out zero.
    """
    _check(rows, "arm", "metric", "difference", "low", "high")
    named = [{**row, "arm": f"{row['arm']} - {row.get('against', reference)}"} for row in rows]
    figure = _forest(
        named, "difference", f"difference with paired 95 % bootstrap interval{_questions(rows)}", zero=True
    )
    for axes in figure.axes:
        axes.set_xlabel(axes.get_xlabel().replace("%", "points"))
    return figure


@style()
def correct_by_tier(rows: list[dict]) -> Figure:
    """Correct and incorrect facts per answer of each arm, a panel per tier. Rows: arm, tier, correct, incorrect, n or
    not.

    The number at the end of a bar is the share of the facts said that are correct: where an arm says more about the
    entities that the base knows, it rises overall without rising in any tier.
    """
    _check(rows, "arm", "tier", "correct", "incorrect")
    tiers, arms = _groups(rows, "tier"), list(_groups(rows, "arm"))
    figure, panels = _panels(len(tiers), height=1.3 + 0.32 * len(arms), sharex=True, sharey=True)
    longest = max(row["correct"] + row["incorrect"] for row in rows)
    for axes, (tier, found) in zip(panels, tiers.items(), strict=True):
        places = [arms.index(row["arm"]) for row in found]
        correct, incorrect = ([row[field] for row in found] for field in ("correct", "incorrect"))
        axes.barh(places, correct, 0.7, color=BLUE, label="correct")
        axes.barh(places, incorrect, 0.7, left=correct, color=ORANGE, hatch="////", ec="white", label="incorrect")
        for place, right, wrong in zip(places, correct, incorrect, strict=True):
            said = right + wrong
            share = f"{100 * right / said:.1f} %" if said else "nothing said"
            axes.text(said + 0.02 * longest, place, share, va="center")
        axes.set(title=f"{tier}{_questions(found)}", xlabel="facts per answer", xlim=(0, 1.25 * longest or 1))
        axes.grid(axis="y", visible=False)
    panels[0].set_yticks(range(len(arms)), arms)
    panels[0].invert_yaxis()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return figure


@style()
def cost_of_errors(rows: list[dict]) -> Figure:
    """Scores of the arms over the teacher's error rate, a panel per metric. Rows: arm, metric, errors (% of the facts),
    value, low, high (95 % interval), n or not."""
    _check(rows, "arm", "metric", "errors", "value", "low", "high")
    metrics, arms = _groups(rows, "metric"), list(_groups(rows, "arm"))
    rates = sorted({row["errors"] for row in rows})
    nudge = 0.03 * (max(rates) - min(rates) or 1)  # so that intervals do not cover each other
    figure, panels = _panels(len(metrics), height=2.8, sharex=True)
    for axes, (metric, found) in zip(panels, metrics.items(), strict=True):
        for place, (arm, points) in enumerate(_groups(found, "arm").items()):
            points = sorted((row for row in points if row["value"] is not None), key=lambda row: row["errors"])
            at = [row["errors"] + nudge * (place - (len(arms) - 1) / 2) for row in points]
            ends = [[abs(row["value"] - row[end]) for row in points] for end in ("low", "high")]
            look = {"color": (GREY, BLUE, ORANGE, GREEN)[place % 4], "marker": MARKERS[place % len(MARKERS)]}
            axes.errorbar(at, [row["value"] for row in points], yerr=ends, capsize=2, label=arm, **look)
        axes.set(ylabel=UNITS.get(metric, metric), xlabel="teacher's errors (% of facts)")
        axes.set_xticks(rates)
        axes.margins(x=0.08)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=len(arms))
    figure.suptitle(f"95 % bootstrap interval{_questions(rows)}", x=0.01, ha="left", fontsize=9)
    return figure


# --- what the figures share


def _forest(rows: list[dict], field: str, note: str, zero: bool = False) -> Figure:
    """Small multiples of values with intervals: a panel per metric, a line per arm; a value of None leaves a gap."""
    metrics, arms = _groups(rows, "metric"), list(_groups(rows, "arm"))
    down = -(-len(metrics) // 4)
    across = -(-len(metrics) // down)
    figure = Figure(figsize=(1.1 + 2.1 * across, 0.45 + down * (0.75 + 0.26 * len(arms))))
    grid = figure.subplots(down, across, sharey=True, squeeze=False)
    for axes in grid.flat[len(metrics) :]:
        axes.remove()
    for axes, (metric, found) in zip(grid.flat, metrics.items(), strict=False):
        if zero:
            axes.axvline(0, color=GREY, linewidth=0.8)
        for row in (row for row in found if row[field] is not None):
            sure = not zero or row["low"] > 0 or row["high"] < 0
            place = arms.index(row["arm"])
            axes.plot([row["low"], row["high"]], [place, place], color=BLUE)
            axes.plot(row[field], place, MARKERS[place % len(MARKERS)], color=BLUE, mfc=BLUE if sure else "white")
        axes.set_xlabel(UNITS.get(metric, metric))
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.grid(axis="y", visible=False)
    grid[0, 0].set_yticks(range(len(arms)), arms)
    grid[0, 0].set_ylim(len(arms) - 0.5, -0.5)
    figure.suptitle(note, x=0.01, ha="left", fontsize=9)
    return figure


def _panels(count: int, height: float = 3.2, **shared: bool) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels in one row."""
    figure = Figure(figsize=(5.2 if count == 1 else min(3.4 * count, 10), height))
    return figure, list(figure.subplots(1, count, squeeze=False, **shared)[0])


def _check(rows: list[dict], *fields: str) -> None:
    if not rows:
        raise ValueError(f"there is nothing to draw: give rows with {', '.join(fields)}.")
    for number, row in enumerate(rows):
        if missing := [field for field in fields if field not in row]:
            raise ValueError(f"row {number} has no {missing[0]!r}; the figure needs {', '.join(fields)}.")


def _groups(rows: list[dict], field: str) -> dict:
    """Rows by the value of a field, values in the order in which they come."""
    groups: dict = {}
    for row in rows:
        groups.setdefault(row[field], []).append(row)
    return groups


def _questions(rows: list[dict]) -> str:
    """Say over how many questions, where the rows tell."""
    sizes = sorted({row["n"] for row in rows if row.get("n")})
    return f", n = {' to '.join(f'{size:,}' for size in sorted({*sizes[:1], *sizes[-1:]}))} questions" if sizes else ""


def _log_bins(values: Sequence[float], count: int = 40) -> np.ndarray:
    low, high = min(values), max(values)
    return np.geomspace(low, high if high > low else low * 1.01, count + 1)


def _log(axes: Axes, axis: str, label: str) -> None:
    """Make an axis logarithmic, with plain numbers: 1, 2, 5, 10 over a short range, powers of ten over a long one."""
    axes.set(**{f"{axis}scale": "log", f"{axis}label": f"{label} (log scale)"})
    drawn = axes.xaxis if axis == "x" else axes.yaxis
    low, high = drawn.get_view_interval()
    drawn.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
    drawn.set_major_formatter("{x:g}")
    drawn.set_minor_formatter(NullFormatter())
