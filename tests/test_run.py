"""Files of a run: whole or absent, named when missing, and entered into the manifest; recipes that refuse nonsense."""

import hashlib
import json

import pytest

from knowtuning.files import (
    DataError,
    count_lines,
    read_json,
    read_jsonl,
    sha256,
    stream_jsonl,
    write_array,
    write_json,
    write_jsonl,
)
from knowtuning.progress import FILE_VARIABLE, of_calls, progress
from knowtuning.recipe import get_recipe, keep
from knowtuning.run import Run


def test_rows_survive_the_way_to_disk_and_back(tmp_path):
    rows = [{"id": "a", "text": "naïve\u2028break — 語"}, {"id": "b", "text": ""}]
    assert read_jsonl(write_jsonl(tmp_path / "rows.jsonl", rows)) == rows
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = write_json(tmp_path / "value.json", [1])
    with pytest.raises(TypeError):
        write_json(path, {1, 2})
    assert read_json(path) == [1]


@pytest.mark.parametrize("rows", [[], [{"a": "x\ny \u2028 語", "b": None, "c": 1.5}], [{"a": 1}, {"b": "q"}]])
def test_an_array_written_row_by_row_has_the_bytes_of_one_written_whole(tmp_path, rows):
    one_by_one = write_array(tmp_path / "one.json", iter(rows))
    assert one_by_one.read_bytes() == write_json(tmp_path / "whole.json", rows).read_bytes()


def test_rows_that_cannot_be_written_leave_the_old_file_and_nothing_else(tmp_path):
    path = write_jsonl(tmp_path / "rows.jsonl", [{"a": 1}])
    with pytest.raises(TypeError):
        write_jsonl(path, iter([{"a": 2}, {"a": {3}}]))
    assert read_jsonl(path) == [{"a": 1}] and [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_a_slice_is_read_without_the_lines_before_it(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('broken\n{"a": 1}\n\n{"a": 2}\n{"a": 3}')
    assert list(stream_jsonl(path, 1, 4)) == [{"a": 1}, {"a": 2}]
    with pytest.raises(DataError, match="line 1: not a JSON object"):
        next(stream_jsonl(path))
    assert count_lines(path) == 5


def test_the_hash_of_a_model_is_of_its_own_files_and_not_of_the_notebook_beside_them(tmp_path):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "model.safetensors").write_text("weights")
    whole, own = sha256(tmp_path), sha256(tmp_path, deep=False)
    (tmp_path / "notebooks" / "00.ipynb").write_text("12 seconds")
    assert sha256(tmp_path, deep=False) == own and sha256(tmp_path) != whole
    (tmp_path / "model.safetensors").write_text("others")
    assert sha256(tmp_path, deep=False) != own


def test_the_hash_of_a_file_longer_than_a_piece_is_that_of_the_whole(tmp_path):
    content = bytes(range(256)) * 10_000
    (tmp_path / "long").write_bytes(content)
    assert sha256(tmp_path / "long") == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b'{"a": 1}\n{"a": \n', "line 2: not a JSON object"), (b"[1]\n", "line 1: expected"), (b"\xff\n", "line 1: not")],
)
def test_a_broken_line_is_named(tmp_path, content, sentence):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        read_jsonl(path)


def test_missing_inputs_name_their_notebook():
    run = Run("09_evaluation", "smoke", 3)
    for name, notebook in (
        ("data/test.jsonl", "01_questions_and_answers"),
        ("adapters/sft", "02_vanilla_sft"),
        ("adapters/ka", "07_knowledge_augmentation"),
        ("adapters/no_kcc", "08_knowledge_comparison"),
        ("kc.provenance.jsonl", "06_disturbance"),
        ("base", "00_base_model"),
    ):
        with pytest.raises(DataError, match=f"run notebook {notebook} first"):
            run.need(name)


def test_a_hub_base_is_passed_on_as_it_is():
    name = keep(get_recipe("dolly-offline", ["base=someone/some-model"]))
    assert Run("02_vanilla_sft", name, 0).need("base") == "someone/some-model"


def test_the_manifest_holds_what_was_read_and_written():
    run = Run("03_extraction", "smoke", 0, alpha=0.5)
    write_jsonl(run.path("data/train.jsonl"), [{"id": "a"}])
    run.read("data/train.jsonl")
    path = run.write("facts.jsonl", [{"id": "a", "facts": ["A."]}])
    row = run.finish(facts=1)
    manifest = json.loads((run.root / "manifests" / "03_extraction.json").read_text())
    assert manifest["writes"] == {"facts.jsonl": sha256(path)} and set(manifest["reads"]) == {"data/train.jsonl"}
    assert manifest["parameters"] == {"recipe": "smoke", "seed": 0, "alpha": 0.5}
    assert row["facts"] == 1 and row["peak memory (MB)"] > 0


def test_progress_goes_to_the_runners_file_and_not_to_the_outputs(tmp_path, monkeypatch, capsys):
    path = tmp_path / "progress.json"
    monkeypatch.setenv(FILE_VARIABLE, str(path))
    with progress("teacher: extract", 4) as tick:
        assert json.loads(path.read_text())["done"] == 0
        of_calls(tick)(4, 4, 1, "free")
    state = json.loads(path.read_text())
    assert [state[key] for key in ("stage", "done", "total", "unit")] == ["teacher: extract", 4, 4, "rows"]
    assert state["numbers"] == {"cost": "free", "failed": 1}
    assert capsys.readouterr() == ("", "")
