"""What `make interchange` rests on, without LLaMA-Factory: our files, its configs, and the comparison of both sides."""

import math
import re
import sys

import pytest
import yaml

from knowtuning.data.llamafactory import write_alpaca, write_dataset_info, write_ranking
from knowtuning.files import ROOT, DataError, read_json, write_json
from knowtuning.recipe import get_recipe

FOLDER = ROOT / "benchmarks" / "interchange"
RECIPE = get_recipe("smoke")
ROWS = [{"question": "Wer war's?", "answer": "Zoë 東京\nund 🙂"}, {"question": "2024", "answer": "3.5"}]
PAIRS = [{"question": row["question"], "chosen": row["answer"], "rejected": "null"} for row in ROWS]


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    yield
    for name in ("configs", "losses", "factory", "run"):
        sys.modules.pop(name, None)


@pytest.fixture
def configs(tmp_path):
    """Both configs, for the files of `tmp_path`."""
    from configs import dpo_config, sft_config

    told = (RECIPE, tmp_path / "base", tmp_path, "<s>", 0)
    start = tmp_path / "sft" / "adapter"
    return {
        "sft": sft_config(*told, tmp_path / "sft"),
        "dpo": dpo_config(*told, tmp_path / "dpo", start=start),
    }


@pytest.fixture
def tokenizer(untrained_base):
    from knowtuning.training.models import load_tokenizer

    return load_tokenizer(untrained_base)


def test_our_files_load_with_datasets_as_they_were_written(tmp_path):
    from datasets import load_dataset
    from run import COLUMNS

    write_alpaca(tmp_path / "ka.json", ROWS)
    write_ranking(tmp_path / "kc.json", PAIRS)
    write_dataset_info(tmp_path, "ka", "ka.json")
    write_dataset_info(tmp_path, "kc", "kc.json", ranking=True)
    for name, entry in read_json(tmp_path / "dataset_info.json").items():
        path = tmp_path / entry["file_name"]
        dataset = load_dataset("json", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
        assert dataset.column_names == list(entry["columns"].values()) == COLUMNS[path.name]
        assert dataset.to_list() == read_json(path)
        assert entry.get("ranking", False) == (name == "kc")


def test_recipes_use_only_arguments_that_llamafactory_knows(tmp_path, configs):
    from configs import write_config

    lines = (FOLDER / "arguments.txt").read_text().splitlines()
    known = {line for line in lines if not line.startswith("#")}
    for stage, config in configs.items():
        written = yaml.safe_load(write_config(tmp_path / f"{stage}.yaml", config).read_text())
        assert written == config
        assert set(written) <= known
        assert all(isinstance(value, str | int | float | bool) for value in written.values())


def test_dpo_starts_from_the_adapter_of_sft_and_is_measured_against_it(tmp_path, configs):
    sft, dpo = configs["sft"], configs["dpo"]
    assert dpo["adapter_name_or_path"] == dpo["ref_model_adapters"] == sft["output_dir"]
    assert dpo["ref_model"] == dpo["model_name_or_path"] == sft["model_name_or_path"]
    assert (dpo["pref_loss"], dpo["pref_beta"], dpo["pref_ftx"]) == ("sigmoid", 0.1, 0.2)
    assert {config["dataset_dir"] for config in configs.values()} == {str(tmp_path)}


def test_a_row_that_differs_is_found_and_one_at_the_limit_passed_over(tokenizer):
    from losses import different_rows, our_examples

    tail = [7, 7]
    for rows in (ROWS, PAIRS):
        ours = our_examples(rows, tokenizer, 512)
        theirs = [{column: ids + tail for column, ids in example.items()} for example in ours]
        assert different_rows(theirs, ours, tail, 512) == []
        column = "input_ids" if rows is ROWS else "rejected_input_ids"
        theirs[1][column] = [*theirs[1][column][:-3], 9, *tail]
        assert different_rows(theirs, ours, tail, 512) == [1]
        longest = max(len(ids) for ids in ours[1].values())
        assert different_rows(theirs, ours, tail, longest + len(tail) - 1) == []


def test_pairs_become_the_columns_of_llamafactory(tokenizer):
    from losses import our_examples

    from knowtuning.training.prompts import encode

    prompt, chosen = encode(tokenizer, PAIRS[0]["question"], PAIRS[0]["chosen"], end=True)
    example = our_examples(PAIRS, tokenizer, 512)[0]
    assert set(example) == {f"{side}_{what}" for side in ("chosen", "rejected") for what in ("input_ids", "labels")}
    assert example["chosen_input_ids"] == prompt + chosen
    assert example["chosen_labels"] == [-100] * len(prompt) + chosen


def test_losses_are_those_of_the_definitions(untrained_base, tokenizer):
    from losses import our_examples, preference_loss, sft_loss

    from knowtuning.training.models import load_base

    model = load_base(untrained_base, quantisation="none")
    answers = our_examples([{"question": p["question"], "answer": p["chosen"]} for p in PAIRS], tokenizer, 512)
    expected = [model(**_tensors(example)).loss.item() for example in answers]
    assert sft_loss(model, answers) == pytest.approx(sum(expected) / len(expected), abs=1e-5)

    pairs = our_examples(PAIRS, tokenizer, 512)
    at_start = preference_loss(model, model, pairs, beta=0.1, ftx=0.2)
    assert at_start == pytest.approx(math.log(2) + 0.2 * sft_loss(model, answers), abs=1e-5)


def _tensors(example):
    import torch

    return {name: torch.tensor([ids]) for name, ids in example.items()}


def test_its_records_are_read(tmp_path):
    from factory import numbers

    (tmp_path / "log.txt").write_text("***** Running training *****\n  Num examples = 1,072\n")
    steps = [{"step": step, "loss": loss} for step, loss in ((1, 2.0), (2, math.inf), (3, 1.0))]
    history = [{"step": 0, "eval_loss": 2.5}, *steps, {"step": 3, "train_loss": 1.5}]
    write_json(tmp_path / "adapter" / "trainer_state.json", {"log_history": history})
    write_json(tmp_path / "adapter" / "all_results.json", {"eval_loss": 0.5})
    assert numbers(tmp_path) == {
        "trained on": 1072,
        "steps": 3,
        "loss before": 2.5,
        "loss after": 0.5,
        "first step's loss": 2.0,
        "last step's loss": 1.0,
        "finite": False,
    }


def test_a_training_that_fails_is_named_with_its_log(tmp_path, configs):
    from factory import train

    with pytest.raises(DataError, match=r"venv is missing or not finished: run make interchange"):
        train(tmp_path / "venv", tmp_path / "sft", configs["sft"])
    command = tmp_path / "venv" / "bin" / "llamafactory-cli"
    command.parent.mkdir(parents=True)
    command.write_text('#!/bin/sh\necho "$1 $2 $HF_HUB_OFFLINE"\nexit 3\n')
    command.chmod(0o755)
    (tmp_path / "venv" / "installed").touch()
    with pytest.raises(DataError, match=r"exit code 3 \(train \S+/sft/config\.yaml 1\): read \S+/sft/log\.txt"):
        train(tmp_path / "venv", tmp_path / "sft", configs["sft"])
    assert yaml.safe_load((tmp_path / "sft" / "config.yaml").read_text()) == configs["sft"]


@pytest.mark.parametrize(("name", "value"), [("loss after", 3.0), ("trained on", 2), ("ours before", math.nan)])
def test_a_check_that_does_not_hold_is_false(name, value):
    from run import stage_checks

    good = {"rows": 3, "trained on": 3, "different rows": [], "finite": True, "loss before": 2.0, "loss after": 1.0}
    good |= {"ours before": 2.0, "ours after": 1.0}
    assert all(stage_checks("SFT", good).values())
    assert not all(stage_checks("SFT", good | {name: value}).values())


def test_the_lock_pins_the_version_whose_arguments_are_listed():
    lines = (FOLDER / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[^\s;+]+", pin) for pin in pins)
    [version] = [pin.split("==")[1] for pin in pins if pin.startswith("llamafactory==")]
    assert f"version {version}:" in (FOLDER / "arguments.txt").read_text().splitlines()[0]


def test_the_committed_record_holds_every_check():
    record = read_json(ROOT / "benchmarks" / "results" / "interchange.json")
    assert record["checks"] and all(record["checks"].values())
    for numbers in record["stages"].values():
        assert numbers["trained on"] == numbers["rows"]
