from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from study import figures

GAMES = [
    {"domain": domain, "aspect": aspect, "against": rival, "win": 60.0, "tie": 35.0, "lose": 5.0}
    for domain in ("medical", "generic")
    for aspect in ("completeness", "factuality", "logicality")
    for rival in ("SFT", "RLAIF")
]
TOLD = [
    {"domain": domain, "arm": arm, "metric": metric, "value": value, "low": value - 0.2, "high": value + 0.2}
    for domain in ("medical", "generic")
    for arm in ("SFT", "KnowTuning")
    for metric, value in (("correct facts", 4.0), ("incorrect facts", 0.5))
]
ABLATED = [
    {"domain": "medical", "arm": "-KA", "metric": "order", "difference": 0.5, "low": -0.5, "high": 1.5},
    {"domain": "generic", "arm": "-KA", "metric": "order", "difference": -2.0, "low": -3.0, "high": -1.0},
    {"domain": "generic", "arm": "-KCC", "metric": "order", "difference": -2.0, "low": None, "high": None},
]
REGIMES = [
    {"axis": axis, "value": value, "metric": "order", "difference": 1.0, "low": 0.5, "high": 1.5, "each": [0.8, 1.2]}
    for axis, values in (("alpha", (0.5, 0.25)), ("selection", ("hardest", "random")))
    for value in values
]
SETS = [
    {"set": "KnowTuning", "parts": [("KA", 0.5), ("KC", 0.25)], "calls": 4000.0, "model": "gpt-3.5-turbo"},
    {"set": "RLAIF", "parts": [("RLAIF", 1.0)], "calls": 8000.0, "model": "gpt-3.5-turbo"},
]
TRAININGS = [
    {"domain": domain, "base": base, "seed": seed, "metric": "order", "difference": base + seed}
    for domain in ("medical", "generic")
    for base in (0, 1)
    for seed in (0, 1, 2)
]
DRAWN = {
    "win_tie_lose": lambda: figures.win_tie_lose(GAMES),
    "correct_and_incorrect": lambda: figures.correct_and_incorrect(TOLD),
    "ablation_differences": lambda: figures.ablation_differences(ABLATED),
    "regime_map": lambda: figures.regime_map(REGIMES, "order"),
    "set_costs": lambda: figures.set_costs(SETS),
    "cells_by_base": lambda: figures.cells_by_base(TRAININGS),
}


@pytest.mark.parametrize("name", DRAWN)
def test_every_figure_labels_its_axes(name):
    figure = DRAWN[name]()
    assert isinstance(figure, Figure)
    shared = figure.axes[0].get_shared_x_axes()
    bottom = [
        axes for axes in figure.axes if axes.get_subplotspec().is_last_row() or not shared.joined(axes, figure.axes[0])
    ]
    assert bottom and all(axes.get_xlabel() for axes in bottom)
    assert figure.axes[0].get_ylabel() or figure.axes[0].get_yticklabels()[0].get_text()


@pytest.mark.parametrize("name", DRAWN)
def test_nothing_to_draw_is_one_sentence(name):
    with pytest.raises(ValueError, match="nothing to draw"):
        getattr(figures, name)([], *(["order"] if name == "regime_map" else []))


def test_win_tie_lose_fills_each_line_and_labels_what_is_wide_enough():
    figure = DRAWN["win_tie_lose"]()
    assert len(figure.axes) == 6
    wins, ties, losses = figure.axes[0].containers
    ends = [bar.get_x() + bar.get_width() for bar in losses]
    assert ends == pytest.approx([100, 100]) and [bar.get_x() for bar in ties] == [60, 60]
    assert losses[0].get_hatch() and not wins[0].get_hatch()
    assert sorted(part.get_text() for part in figure.axes[0].texts) == ["35", "35", "60", "60"]


def test_correct_and_incorrect_draws_intervals_where_there_are_some():
    rows = [{**row, "low": None, "high": None} if row["domain"] == "generic" else row for row in TOLD]
    medical, generic = figures.correct_and_incorrect(rows).axes
    assert len(medical.lines) == 4 and not generic.lines
    assert [part.get_text() for part in medical.texts] == ["4.00", "4.00", "0.50", "0.50"]


def test_ablation_differences_fill_what_is_sure_and_tell_domains_apart():
    [axes] = DRAWN["ablation_differences"]().axes
    dots = [line for line in axes.lines if line.get_marker() not in ("None", "")]
    assert [dot.get_marker() for dot in dots] == ["o", "s", "s"]
    assert [dot.get_markerfacecolor() == "white" for dot in dots] == [True, False, True]


def test_regime_map_sorts_numbers_and_joins_only_those():
    alpha, selection = DRAWN["regime_map"]().axes
    assert [tick.get_text() for tick in alpha.get_xticklabels()] == ["0.25", "0.5"]
    assert [tick.get_text() for tick in selection.get_xticklabels()] == ["hardest", "random"]
    assert len(alpha.lines) == len(selection.lines) + 1


def test_set_costs_stacks_the_parts_and_says_the_sum():
    dollars, calls = DRAWN["set_costs"]().axes
    assert [part.get_text() for part in dollars.texts] == ["0.75", "1.00"]
    assert [part.get_text() for part in calls.texts] == [" 4,000", " 8,000"]
    assert "gpt-3.5-turbo" in dollars.get_xlabel()


def test_cells_by_base_draws_every_training():
    figure = DRAWN["cells_by_base"]()
    [axes] = figure.axes
    dots = [line for line in axes.lines if line.get_marker() not in ("None", "")]
    assert [list(dot.get_ydata()) for dot in dots] == [[0, 1, 2], [1, 2, 3]] * 2
    assert "medical" in "".join(text.get_text() for text in figure.legends[0].get_texts())
