"""The committed study: every file that can be made of other committed files is made again, and is the same."""

import pytest

from knowtuning.files import ROOT
from study import claims, tables
from study.collect import power_rows
from study.multiple import holm
from study.rows import grouped, read_rows, where, write_rows
from study.seeds import over_cells

STUDY = ROOT / "data" / "results" / "lab" / "study"


@pytest.fixture(scope="module")
def study():
    return tables.load(STUDY)


def rounded(path, rows):
    """The rows as they come back from a file, so that numbers are compared as they are written."""
    return read_rows(write_rows(path, rows))


def changes(rows, committed, apart=()):
    """The values in which two tables differ; the fields `apart` may by what rounding their inputs has moved."""
    assert len(rows) == len(committed) > 0
    changed = []
    for row, kept in zip(rows, committed, strict=True):
        assert row.keys() == kept.keys()
        for name, value in row.items():
            expected = kept[name]
            if name in apart and expected is not None:
                expected = pytest.approx(expected, rel=2e-3, abs=2e-3)
            if value != expected:
                changed.append((name, value, kept[name]))
    return changed


def test_the_page_of_all_tables_is_made_of_the_files_byte_for_byte(study):
    assert tables.report(study) == (STUDY / "tables.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [*tables.FILES, *tables.OPTIONAL])
def test_a_file_is_written_as_it_was_read(name, tmp_path):
    text = (STUDY / f"{name}.json").read_text(encoding="utf-8")
    again = write_rows(tmp_path / "again.json", read_rows(STUDY / f"{name}.json")).read_text(encoding="utf-8")
    assert text[text.index(' "columns"') :] == again[again.index(' "columns"') :]


def test_every_verdict_follows_from_the_differences(study, tmp_path):
    places = grouped(study["differences"], "domain", "decoding")
    rows = [
        row
        for place in places
        for row in claims.judge(*place, study["differences"], study["pairwise"], study["cost_differences"])
    ]
    assert not changes(rounded(tmp_path / "claims.json", rows), study["claims"], ["p_holm"])


def test_the_power_follows_from_the_variances(study, tmp_path):
    rows = rounded(tmp_path / "power.json", power_rows(study["differences"]))
    assert not changes(rows, study["power"], [name for name in rows[0] if name.startswith(("sd_", "detectable"))])


def test_holm_follows_from_the_p_values(study):
    for file, family in (
        ("differences", ("domain", "decoding", "tier", "against", "metric")),
        ("pairwise", ("domain", "decoding")),
    ):
        for rows in grouped(study[file], *family).values():
            adjusted = [{"p_holm": p} for p in holm([row["p"] for row in rows])]
            assert not changes(adjusted, [{"p_holm": row["p_holm"]} for row in rows], ["p_holm"])


def test_differences_and_their_t_intervals_follow_from_the_cells(study):
    """The intervals over questions, and over both, need the answers, which are not committed."""
    checked = 0
    for row in where(study["differences"], tier="all"):
        place = {"domain": row["domain"], "decoding": row["decoding"]}
        sides = [where(study["cells"], **place, arm=arm) for arm in (row["arm"], row["against"])]
        scores, others = ({(cell["recipe"], cell["seed"]): cell[row["metric"]] for cell in side} for side in sides)
        if (
            row["missing"] == 0 and row["cells"] > 1
        ):  # else the questions that one side lacks are left out of the other side too
            assert len(scores.keys() & others.keys()) == row["cells"]
            again = over_cells([scores[cell] - others[cell] for cell in scores if cell in others])
            assert row["difference"] == pytest.approx(again["difference"], abs=2e-3)
            assert (row["seeds_low"], row["seeds_high"]) == pytest.approx((again["low"], again["high"]), abs=5e-3)
            checked += 1
    assert checked > 300
