from __future__ import annotations

import importlib.util
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from knowtuning import figures
from knowtuning.files import ROOT


def texts(figure):
    """All the words of a figure: labels, titles, ticks, legends, annotations."""
    figure.draw_without_rendering()
    return "\n".join(part.get_text() for part in figure.findobj(mpl.text.Text) if part.get_visible())


def growth():
    """The module of the benchmark's figure."""
    spec = importlib.util.spec_from_file_location("growth_figure", ROOT / "benchmarks" / "growth" / "figure.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FACTS = [
    {"tier": tier, "exposures": exposures, "known": number < known, "perplexity": perplexity + number}
    for tier, exposures, known, perplexity in (("rare", 13, 3, 8.0), ("unseen", 0, 0, 50.0), ("known", 100, 10, 1.0))
    for number in range(10)
]
PAIRS = [
    {"aspect": aspect, "chosen_words": 30 + number, "rejected_words": 10 + number}
    for aspect in ("completeness", "logicality")
    for number in range(11)
]
STEPS = [
    {"step": step, "aspect": aspect, "margin": step / 10, "accuracy": min(1, step / 20)}
    for aspect in ("completeness", "factuality")
    for step in (0, 10, 20)
]
DIFFERENCES = [
    {"arm": "ka", "metric": "completeness", "difference": 0.5, "low": -0.5, "high": 1.5, "against": "sft"},
    {"arm": "knowtuning", "metric": "completeness", "difference": 2.0, "low": 1.0, "high": 3.0, "against": "ka"},
]
TIERS = [
    {"arm": "sft", "tier": "known", "correct": 3.0, "incorrect": 1.0},
    {"arm": "ka", "tier": "known", "correct": 0.0, "incorrect": 0.0},
    {"arm": "sft", "tier": "rare", "correct": 1.0, "incorrect": 3.0},
    {"arm": "ka", "tier": "rare", "correct": 2.0, "incorrect": 2.0},
]
COSTS = [
    {"arm": arm, "metric": metric, "errors": errors, "value": value - errors, "low": value - 40, "high": value + 5}
    | {"n": 300}
    for metric in ("correct facts", "order")
    for arm, value in (("sft", 40), ("ka", 50))
    for errors in (0, 10, 30)
]
GROWTH = [
    {"rows": rows, "seconds": rows / 1000, "worker_mb": 100.0, "score_mb": 400.0, "server_mb": 90.0}
    for rows in (250_000, 500_000, 750_000, 1_000_000)
]
DRAWN = {
    "pretraining_loss": lambda: figures.pretraining_loss(
        [{"step": 1, "tokens": 1024, "loss": 7.0}, {"step": 2000, "tokens": 2_048_000, "loss": 1.0}]
    ),
    "recall_by_exposure": lambda: figures.recall_by_exposure(FACTS),
    "perplexity_separation": lambda: figures.perplexity_separation(FACTS, 0.987),
    "training_loss": lambda: figures.training_loss([{"step": 5, "loss": 2.0}, {"step": 10, "eval_loss": 1.5}], 10),
    "perplexity_of_facts": lambda: figures.perplexity_of_facts([{"perplexity": 2.0, "difficult": True}]),
    "facts_per_answer": lambda: figures.facts_per_answer([2, 2, 5]),
    "pair_lengths": lambda: figures.pair_lengths(PAIRS),
    "dpo_margins": lambda: figures.dpo_margins(STEPS),
    "differences": lambda: figures.differences(DIFFERENCES),
    "correct_by_tier": lambda: figures.correct_by_tier(TIERS),
    "cost_of_errors": lambda: figures.cost_of_errors(COSTS),
    "scale_growth": lambda: growth().scale_growth(GROWTH),
}


@pytest.mark.parametrize("name", DRAWN)
def test_every_figure_labels_its_axes_and_leaves_the_readers_style_alone(name):
    before = dict(mpl.rcParams)
    figure = DRAWN[name]()
    assert isinstance(figure, Figure)
    assert dict(mpl.rcParams) == before
    shared = figure.axes[0].get_shared_x_axes()
    bottom = [
        axes for axes in figure.axes if axes.get_subplotspec().is_last_row() or not shared.joined(axes, figure.axes[0])
    ]
    assert bottom and all(axes.get_xlabel() for axes in bottom)
    assert figure.axes[0].get_ylabel() or figure.axes[0].get_yticklabels()[0].get_text()


@pytest.mark.parametrize("name", DRAWN)
def test_nothing_to_draw_is_one_sentence(name):
    draw = growth().scale_growth if name == "scale_growth" else getattr(figures, name)
    with pytest.raises(ValueError, match="nothing to draw"):
        draw([])


def test_no_pyplot_is_imported():
    code = "import sys, knowtuning.figures; assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_pretraining_loss_in_millions_of_tokens():
    figure = DRAWN["pretraining_loss"]()
    [line] = figure.axes[0].lines
    assert line.get_xdata() == pytest.approx([0.001024, 2.048])
    assert "2,000 steps" in texts(figure) and "nats per token" in texts(figure)


def test_recall_by_exposure_draws_recall_median_and_n():
    figure = DRAWN["recall_by_exposure"]()
    left, right = figure.axes
    drawn = {float(line.get_xdata()[0]): float(line.get_ydata()[0]) for line in left.lines}
    assert drawn == {0: 0, 13: 0.3, 100: 1}
    assert {line.get_marker() for line in left.lines} == {"o", "s", "D"}
    medians = {float(box[0].get_xdata()[0]): float(box[0].get_ydata()[0]) for box in right.containers}
    assert medians == {0: 54.5, 13: 12.5, 100: 5.5}
    assert "known (n = 10)" in texts(figure) and right.get_yscale() == "log"


def test_perplexity_separation_shows_shares_and_the_auc_given():
    figure = DRAWN["perplexity_separation"]()
    known, unknown = figure.axes[0].containers
    assert sum(bar.get_height() for bar in known) == pytest.approx(1)
    assert sum(bar.get_height() for bar in unknown) == pytest.approx(1)
    assert unknown[0].get_hatch() and not known[0].get_hatch()
    words = texts(figure)
    assert "AUC 0.987" in words and "known (n = 13)" in words and "unknown (n = 17)" in words
    assert "AUC" not in texts(figures.perplexity_separation(FACTS))


def test_training_loss_draws_both_curves_and_the_kept_step():
    figure = DRAWN["training_loss"]()
    training, validation, kept = figure.axes[0].lines
    assert (training.get_xdata(), validation.get_ydata(), kept.get_xdata()) == ((5,), (1.5,), [10, 10])
    assert "kept: step 10" in texts(figure)


def test_perplexity_of_facts_counts_every_fact_once():
    rows = [{"perplexity": 1.5**number, "difficult": number > 5} for number in range(10)]
    figure = figures.perplexity_of_facts(rows)
    bars = [bar for bars in figure.axes[0].containers for bar in bars]
    assert sum(bar.get_height() for bar in bars) == 10
    assert sum(bar.get_height() for bar in bars if bar.get_hatch()) == 4
    assert "difficult (n = 4)" in texts(figure)


def test_facts_per_answer_counts_answers():
    figure = DRAWN["facts_per_answer"]()
    assert [bar.get_height() for bar in figure.axes[0].containers[0]] == [0, 0, 2, 0, 0, 1]
    assert "n = 3 answers, 3.0 facts on average" in texts(figure)


def test_pair_lengths_draws_the_medians():
    figure = DRAWN["pair_lengths"]()
    boxes = [patch for patch in figure.axes[0].patches]
    assert len(boxes) == 4 and sum(bool(box.get_hatch()) for box in boxes) == 2
    vertical = [line for line in figure.axes[0].lines if line.get_linewidth() == 1.6]
    assert sorted(line.get_xdata()[0] for line in vertical) == [15, 15, 35, 35]
    assert "completeness\n(n = 11 pairs)" in texts(figure) and "rejected" in texts(figure)


def test_dpo_margins_start_at_step_zero_and_average_rows_of_one_step():
    figure = figures.dpo_margins([*STEPS, {"step": 20, "aspect": "factuality", "margin": 4.0, "accuracy": 0}])
    assert len(figure.axes) == 4
    margin, accuracy = (figure.axes[place].lines[1] for place in (1, 3))
    assert list(margin.get_xdata()) == [0, 10, 20]
    assert list(margin.get_ydata()) == [0, 1, 3] and list(accuracy.get_ydata()) == [0, 0.5, 0.5]
    assert [axes.get_title(loc="left") for axes in figure.axes[:2]] == ["completeness", "factuality"]


def test_differences_fill_only_what_leaves_out_zero_and_name_the_reference():
    figure = DRAWN["differences"]()
    zero, _, unsure, _, sure = figure.axes[0].lines
    assert list(zero.get_xdata()) == [0, 0]
    assert to_hex(unsure.get_markerfacecolor()) == "#ffffff" and to_hex(sure.get_markerfacecolor()) != "#ffffff"
    words = texts(figure)
    assert "ka - sft" in words and "knowtuning - ka" in words and "completeness (points)" in words


def test_a_value_that_does_not_exist_leaves_a_gap():
    gap = {**DIFFERENCES[0], "arm": "base", "difference": None, "low": None, "high": None}
    figure = figures.differences([*DIFFERENCES, gap])
    assert [len(axes.lines) for axes in figure.axes] == [5] and "base - sft" in texts(figure)


def test_correct_by_tier_stacks_and_says_the_share():
    figure = DRAWN["correct_by_tier"]()
    known, rare = figure.axes
    assert rare.get_title(loc="left") == "rare"
    correct, incorrect = rare.containers
    assert [bar.get_width() for bar in correct] == [1, 2] and [bar.get_x() for bar in incorrect] == [1, 2]
    assert [part.get_text() for part in known.texts] == ["75.0 %", "nothing said"]
    assert [part.get_text() for part in rare.texts] == ["25.0 %", "50.0 %"]


def test_save_writes_picture_and_vectors_without_software_and_date(tmp_path):
    first = figures.save(DRAWN["facts_per_answer"](), tmp_path / "a", "03_facts_per_answer")
    second = figures.save(DRAWN["facts_per_answer"](), tmp_path / "b", "03_facts_per_answer")
    assert first == tmp_path / "a" / "03_facts_per_answer.png"
    vectors = first.with_suffix(".pdf")
    assert sorted((tmp_path / "a").iterdir()) == [vectors, first]
    assert first.read_bytes() == second.read_bytes()
    assert vectors.read_bytes() == second.with_suffix(".pdf").read_bytes()
    assert b"Software" not in first.read_bytes() and b"tIME" not in first.read_bytes()
    assert vectors.read_bytes().startswith(b"%PDF") and b"CreationDate" not in vectors.read_bytes()
    assert b"Matplotlib" not in vectors.read_bytes()
    width = int.from_bytes(first.read_bytes()[16:20], "big")
    assert width == round(150 * DRAWN["facts_per_answer"]().get_figwidth())


def test_log_axes_carry_plain_numbers():
    figure = DRAWN["perplexity_separation"]()
    figure.draw_without_rendering()
    labels = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert {"1", "2", "5", "10", "20", "50"} <= set(labels)
    assert np.all(np.diff(figure.axes[0].get_xticks()) > 0)


def test_cost_of_errors_draws_a_line_per_arm_and_leaves_a_gap_where_there_is_no_value():
    gap = {"arm": "ka", "metric": "order", "errors": 20, "value": None, "low": None, "high": None, "n": 300}
    figure = figures.cost_of_errors([*COSTS, gap])
    assert [axes.get_ylabel() for axes in figure.axes] == ["correct facts per answer", "order (%)"]
    for axes in figure.axes:
        lines = [container.lines[0] for container in axes.containers]
        assert [len(line.get_xdata()) for line in lines] == [3, 3]
        assert list(axes.get_xticks()) == [0, 10, 20, 30]
    assert "ka" in texts(figure)


def test_a_name_with_dots_keeps_them_in_both_files(tmp_path):
    figures.save(DRAWN["facts_per_answer"](), tmp_path, "09_differences.sft")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["09_differences.sft.pdf", "09_differences.sft.png"]


def test_growth_on_a_line_is_drawn_on_the_line_between_its_ends():
    time, memory = DRAWN["scale_growth"]().axes
    line, measured = time.lines
    assert list(line.get_xdata()) == [250, 1000] and list(line.get_ydata()) == pytest.approx([250 / 60, 1000 / 60])
    assert list(measured.get_xdata()) == [250, 500, 750, 1000]
    assert [list(line.get_ydata()) for line in memory.lines] == [[100] * 4, [400] * 4, [90] * 4]
    assert memory.get_ylim()[0] == 0 == time.get_ylim()[0]
