import json

import pytest
from tiny_study import write_study

from knowtuning.display import table
from knowtuning.files import DataError
from study import figures, series, tables
from study.collect import collect


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    collect(write_study(folder / "runs"), folder / "out")
    return tables.load(folder / "out")


def test_a_folder_without_a_study_says_what_to_run(tmp_path):
    with pytest.raises(DataError, match="has no cells.json: run `make results`"):
        tables.load(tmp_path)


@pytest.mark.parametrize("draw", [*tables.TABLES.values(), tables.all_arms], ids=lambda draw: draw.__name__)
def test_every_table_shows_and_prints(study, draw):
    rows = draw(study, "greedy")
    assert rows and str(table(rows)) and tables.markdown(rows).count("\n") == len(rows) + 1


def test_interval_cells():
    assert tables.interval({"difference": 0.8412, "low": 0.74, "high": 0.94}) == "+0.84 [0.74, 0.94]"
    assert tables.interval({"difference": -1.0, "low": None, "high": None}) == "-1.00 [–]"
    assert tables.interval({"difference": None}) == "–"


def test_facts_carry_the_difference_to_sft(study):
    rows = [row for row in tables.facts(study) if row["domain"] == "medical"]
    assert [row["arm"] for row in rows] == ["base", "SFT", "RLAIF", "KnowTuning"]
    assert "(+" in rows[-1]["correct facts"] and "(" not in rows[1]["correct facts"]


def test_coverage_names_what_is_missing():
    row = {"domain": "d", "recipe": "lab", "base_seed": 0, "arms": 2}
    cells = [
        {**row, "seed": 0, "missing": []},
        {**row, "seed": 1, "missing": ["ka.narrow", "sft.narrow"]},
        {**row, "seed": 2, "missing": ["ka.greedy", "ka.narrow"]},
    ]
    [line, unfinished] = tables.coverage({"coverage": cells, "unfinished": ["lab/seed-3"]})
    assert line["missing"] == "seed 1: all arms (narrow); seed 2: ka (greedy, narrow)"
    assert unfinished == {"recipe": "lab/seed-3", "missing": "not finished, not used"}


def test_the_default_point_stands_on_every_axis_in_order(study):
    points = [row for row in tables.regimes(study) if row["metric"] == "correct facts"]
    assert [(row["axis"], row["value"]) for row in points] == [("alpha", 0.25), ("alpha", 0.5)]
    assert points[0]["difference"] == pytest.approx(0.55) and points[0]["each"] == pytest.approx([0.5, 0.6])
    [row, _] = tables.regime_table(study)
    assert row["value"] == "0.25" and row["reward of preferred"] == -0.5 and row["rare recall (%)"] == 25


def test_tuning_stars_the_choice(study):
    assert tables.tuning(study) == [{"arm": "SFT", "rate x 1": "50.0", "rate x 2": "100.0 *", "chosen rate": "0.002"}]


def test_judges_show_a_win_rate_that_was_not_corrected_as_a_dash(study):
    [row] = tables.judges(study)
    assert row["raw"] == "50.0 [40.0, 60.0]" and row["corrected"] == "–" and row["true"] == "75.0"


def test_verdicts_agree_over_domains_or_are_mixed(study):
    rows = {row["claim"]: row for row in tables.verdicts(study)}
    first = rows["more complete than SFT"]
    assert {first["verdict, medical"], first["verdict, generic"]} == {"holds", "cannot be told"}
    assert first["overall"] == "mixed"
    assert rows["wins over FactTune (MC) on logicality"]["gain, medical"] == "–"


def test_markdown_escapes_and_shows_missing_values():
    assert (
        tables.markdown([{"a": "x|y", "b": 1.234}, {"a": None}])
        == "| a | b |\n| --- | --- |\n| x\\|y | 1.23 |\n| – | – |"
    )
    assert tables.markdown([]) == ""


def test_the_report_holds_every_table_and_no_number_of_python(study):
    text = tables.report(study)
    assert all(f"## {title}, greedy answers" in text for title in tables.TABLES)
    assert "## The judge measured (%)" in text and "nan" not in text and "np.float" not in text


def test_the_rows_of_every_figure_draw(study):
    assert figures.win_tie_lose(series.games(study)).axes
    assert figures.correct_and_incorrect(series.told(study)).axes
    assert figures.ablation_differences(series.ablations(study)).axes
    assert figures.cells_by_base(series.cells(study)).axes
    assert figures.regime_map(tables.regimes(study), "correct facts").axes
    costs = series.costs(study, "medical")
    assert [row["set"] for row in costs] == ["KnowTuning", "FactTune FS"] and len(costs[0]["parts"]) == 2
    assert json.dumps(costs) and figures.set_costs(costs).axes
