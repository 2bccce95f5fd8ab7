"""How facts, answers and pairs are spread: perplexities, numbers of facts, lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from knowtuning.figures.drawing import BLUE, MARKERS, ORANGE, groups, log, log_bins, row_of_panels, styled


@styled
def recall_by_exposure(rows: list[dict]) -> Figure:
    """Recall and median perplexity by how often the base has read a fact. Rows, one per fact: tier, exposures, known,
    perplexity. Bars on the right hold the middle half of the facts."""
    figure = Figure(figsize=(8.4, 3.2))
    left, right = figure.subplots(1, 2)
    tiers = sorted(groups(rows, "tier").items(), key=lambda item: item[1][0]["exposures"])
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
    log(right, "y", "median perplexity")
    right.set_title("bars: middle half of the facts")
    figure.legend(loc="outside right upper", title="tier (n facts)")
    return figure


@styled
def perplexity_separation(rows: list[dict], auc: float | None = None) -> Figure:
    """Perplexity of facts that the base knows and of those it does not. Rows: known, perplexity."""
    figure, [axes] = row_of_panels(1)
    bins = log_bins([row["perplexity"] for row in rows])
    for name, known, color, hatch in (("known", True, BLUE, None), ("unknown", False, ORANGE, "////")):
        values = [row["perplexity"] for row in rows if bool(row["known"]) == known]
        label = f"{name} (n = {len(values):,})"
        weights = np.full(len(values), 1 / max(1, len(values)))
        axes.hist(values, bins, weights=weights, color=color, alpha=0.6, hatch=hatch, edgecolor="white", label=label)
    log(axes, "x", "perplexity of the fact")
    axes.set_ylabel("share of the facts of that kind (%)")
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    axes.legend()
    if auc is not None:
        axes.set_title(f"perplexity tells unknown from known facts: AUC {auc:.3f}")
    return figure


@styled
def perplexity_of_facts(rows: list[dict]) -> Figure:
    """Perplexity of the facts of the answers, the difficult ones marked. Rows, one per fact: perplexity, difficult.

    Difficult is relative to the answer that a fact stands in, so the two kinds overlap.
    """
    figure, [axes] = row_of_panels(1)
    kinds = [[row["perplexity"] for row in rows if bool(row["difficult"]) == kind] for kind in (False, True)]
    labels = [f"{name} (n = {len(kind):,})" for name, kind in zip(("other", "difficult"), kinds, strict=True)]
    bins = log_bins([row["perplexity"] for row in rows])
    _, _, drawn = axes.hist(kinds, bins, stacked=True, color=[BLUE, ORANGE], label=labels, edgecolor="white")
    for bar in drawn[1]:
        bar.set_hatch("////")
    log(axes, "x", "perplexity of the fact")
    axes.set_ylabel("facts")
    axes.legend()
    return figure


@styled
def facts_per_answer(counts: Sequence[int]) -> Figure:
    """How many answers yield how many facts, from one count per answer."""
    figure, [axes] = row_of_panels(1)
    sizes = np.bincount(counts)
    bars = axes.bar(range(len(sizes)), sizes, color=BLUE, width=0.8)
    axes.bar_label(bars, [f"{size:,}" if size else "" for size in sizes], padding=1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(axis="x", visible=False)
    axes.margins(y=0.1)
    axes.set(xlabel="facts in the answer", ylabel="answers", xlim=(min(counts) - 0.7, max(counts) + 0.7))
    axes.set_title(f"n = {len(counts):,} answers, {np.mean(counts):.1f} facts on average")
    return figure


@styled
def answer_lengths(words: Mapping[str, Sequence[int]]) -> Figure:
    """Distribution of answer lengths, a panel per split. `words` maps a split to one number of words per answer."""
    figure, panels = row_of_panels(len(words), height=2.8, sharex=True)
    bins = np.linspace(0, max(map(max, words.values())) + 1, 25)
    for axes, (split, lengths) in zip(panels, words.items(), strict=True):
        axes.hist(lengths, bins, color=BLUE, edgecolor="white")
        axes.set(xlabel="words in the answer", title=f"{split} (n = {len(lengths):,})")
    panels[0].set_ylabel("answers")
    return figure


@styled
def pair_lengths(rows: list[dict]) -> Figure:
    """Length of chosen and rejected answers by aspect. Rows, one per pair: aspect, chosen_words, rejected_words.

    Boxes hold the middle half, whiskers the 5th to the 95th percentile. A length that differs can be learnt in place
    of what the pair is meant to teach.
    """
    aspects = groups(rows, "aspect")
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
