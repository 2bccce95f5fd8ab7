"""Cards of a small run: the hub can read their heads, their numbers are those of the run, and their code works."""

import json
import re

import pytest
from datasets import load_dataset
from huggingface_hub import ModelCardData, metadata_load
from huggingface_hub.repocard_data import model_index_to_eval_results

from knowtuning.cards.data_cards import data_card
from knowtuning.cards.model_cards import write_cards
from knowtuning.data import llamafactory
from knowtuning.evaluation import report
from knowtuning.files import read_json, sha256
from knowtuning.lab import annotators, base
from knowtuning.lab.world import World
from knowtuning.recipe import get_recipe
from knowtuning.run import Run
from knowtuning.training import models

SMOKE = get_recipe("smoke").lab


@pytest.fixture(scope="module")
def runs(untrained_base, tmp_path_factory):
    """A run as the notebooks leave it, of untrained weights: base, data, training files, and two adapters."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("runs")
        patch.setenv("KNOWTUNING_RUNS", str(folder))
        one = Run("00_base_model", recipe="smoke")
        model = models.load_base(untrained_base, "none")
        model.save_pretrained(one.path("base"))
        tokenizer = models.load_tokenizer(untrained_base)
        tokenizer.save_pretrained(one.path("base"))
        one.wrote("base")
        one.write("knowledge.jsonl", base.knowledge(model, tokenizer, World.load(SMOKE)))
        one.finish(parameters=model.num_parameters(), tokens=0, auc=0.5, recall={})

        parts = {name: getattr(annotators.annotate(SMOKE, 0), name) for name in ("train", "valid", "test")}
        one = Run("01_questions_and_answers", recipe="smoke", seed=0)
        for name, rows in parts.items():
            one.write(f"data/{name}.jsonl", rows)
        origin = {"name": "the lab", "licence": "apache-2.0"}
        one.write("data/card.json", data_card(parts, origin, {}))
        one.finish()
        training_files(parts["train"])
        adapter("02_vanilla_sft", "sft", "data/train.jsonl", rows=len(parts["train"]), steps=4)
        adapter("08_knowledge_comparison", "knowtuning", "kc.json", pairs=3, steps=1)
        yield folder


def training_files(train):
    one = Run("05_rewriting", recipe="smoke", seed=0, given="/data/mine/my_ka.json")
    one.wrote("ka.json", llamafactory.write_alpaca(one.path("ka.json"), train))
    one.write("ka.provenance.jsonl", [{"id": row["id"], "from": "original", "facts": []} for row in train])
    one.finish(training_rows=len(train))
    one = Run("06_disturbance", recipe="smoke", seed=0, beta=0.5)
    pairs = [{"question": row["question"], "chosen": row["answer"], "rejected": "No."} for row in train[:3]]
    one.wrote("kc.json", llamafactory.write_ranking(one.path("kc.json"), pairs))
    one.write("kc.provenance.jsonl", [{"id": row["id"], "aspect": "completeness"} for row in train[:3]])
    one.finish(**{"pairs: completeness": 3})


def adapter(step, arm, read, **told):
    one = Run(step, recipe="smoke", seed=0, arm=arm if step.startswith("08") else "")
    one.need(read), one.need("base")
    model = models.new_adapter(models.load_base(one.need("base"), "none"), one.recipe, 0)
    models.save_adapter(model, one.path(f"adapters/{arm}"), "Untrained.")
    one.wrote(f"adapters/{arm}")
    one.finish(**told)


def evaluate(runs, arm):
    """What notebook 09 does, with the references themselves as answers."""
    one = Run("09_evaluation", recipe="smoke", seed=0, arm=arm)
    test = one.read("data/test.jsonl")
    one.need(f"adapters/{arm}")
    replies = [{"answer": row["answer"], "tokens": 9, "finished": True} for row in test]
    answers, variants = report.score_answers(test, replies, World.load(SMOKE), with_bertscore=False)
    one.write(f"scores/{arm}.json", report.summarise(arm, {"greedy": answers, "sampled": answers[1:]}, variants))
    one.finish()


@pytest.fixture
def run(runs, monkeypatch):
    monkeypatch.setenv("KNOWTUNING_RUNS", str(runs))
    return Run("a test", recipe="smoke", seed=0)


def card(run, name):
    path = run.path(name) / "README.md"
    return path.read_text(encoding="utf-8"), metadata_load(path)


def test_an_adapter_without_scores_says_so(run):
    text, head = card(run, "adapters/sft")
    assert head["base_model"] == "smoke/base" and head["library_name"] == "peft" and "model-index" not in head
    assert head["pipeline_tag"] == "text-generation" and head["license"] == "apache-2.0" and "sft" in head["tags"]
    assert "None yet: notebook 09 has not been run" in text and "| sft.learning_rate | `0.001` |" in text
    assert f"* `data/train.jsonl`: SHA-256 `{sha256(run.path('data/train.jsonl'))}`" in text


def test_scores_come_in_once_they_are_there_and_the_model_stays_the_same(run, runs):
    before = sha256(run.path("adapters/knowtuning"))
    evaluate(runs, "knowtuning")
    text, head = card(run, "adapters/knowtuning")
    assert sha256(run.path("adapters/knowtuning")) == before
    scores = read_json(run.path("scores/knowtuning.json"))["decodings"]
    name, results = model_index_to_eval_results(head["model-index"])
    assert name == "smoke, seed 0: knowtuning"
    assert len(results) == sum(len(part["overall"]) for part in scores.values()) >= 12
    for result in results:
        metric, decoding = re.fullmatch(r"(.+) \((greedy|sampled)\)", result.metric_name).groups()
        found = scores[decoding]["overall"][metric]
        low, high = result.metric_args["low"], result.metric_args["high"]
        assert [result.metric_value, low, high] == [round(found[key], 2) for key in ("value", "low", "high")]
        assert f"{found['value']:.2f} ({found['low']:.2f} to {found['high']:.2f})" in text
    assert "| dpo.learning_rate | `0.0002` |" in text and "* pairs: 3" in text and "dpo" in head["tags"]
    assert ModelCardData(**head, ignore_metadata_errors=False).to_dict() == head


def test_scores_of_other_weights_stay_out(run, runs):
    evaluate(runs, "sft")
    assert "model-index" in card(run, "adapters/sft")[1]
    manifest = run.root / "manifests" / "02_vanilla_sft.json"
    trained_again = read_json(manifest)
    trained_again["writes"]["adapters/sft"] = "0" * 64
    manifest.write_text(json.dumps(trained_again))
    write_cards(run, ["adapters/sft"])
    text, head = card(run, "adapters/sft")
    assert "model-index" not in head and "None yet" in text


def test_the_code_of_an_adapters_card_answers_a_question(run, runs, monkeypatch, capsys):
    monkeypatch.chdir(runs)
    text, _ = card(run, "adapters/sft")
    [code] = re.findall(r"```python\n(.*?)```", text, re.S)
    exec(code.replace("…", "Tell me about Lanulitis."), {})
    assert capsys.readouterr().out.endswith("\n")


def test_the_base_says_what_it_knows_and_loads(run, runs, monkeypatch):
    monkeypatch.chdir(runs)
    path = runs / "smoke" / "base" / "README.md"
    text, head = path.read_text(), metadata_load(path)
    assert head["library_name"] == "transformers" and head["license"] == "apache-2.0"
    for tier in SMOKE.tiers:
        assert re.search(rf"\| {tier.name} \| {tier.exposures} \| {tier.entities} \| \d+\.\d\d \(", text)
    [code] = re.findall(r"```python\n(.*?)```", text, re.S)
    found = {}
    exec(code, found)
    assert (
        found["model"].num_parameters()
        == read_json(path.parent / "manifests/00_base_model.json")["numbers"]["parameters"]
    )


def test_the_training_files_load_by_their_names(run):
    text, head = card(run, ".")
    names = [config["config_name"] for config in head["configs"]]
    assert names == ["default", "ka", "ka_provenance", "kc", "kc_provenance"]
    sizes = {name: load_dataset(str(run.root), name)["train"].num_rows for name in names}
    train = sum(count for _, count in SMOKE.train)
    assert sizes == {"default": train, "ka": train, "ka_provenance": train, "kc": 3, "kc_provenance": 3}
    assert load_dataset(str(run.root), "default")["validation"].num_rows == sum(count for _, count in SMOKE.valid)
    assert f"* SHA-256 `{sha256(run.path('kc.json'))}`" in text and "* pairs: completeness: 3" in text
    assert "beta 0.5, model lab-oracle" in text and "given my_ka.json" in text


def test_no_card_holds_a_path_or_a_broken_link(run, runs):
    cards = sorted(runs.rglob("README.md"))
    assert len(cards) == 4
    for path in cards:
        text = path.read_text()
        assert str(runs) not in text and "/data/mine" not in text and not re.search(r"[(`\"' ]/[a-z]+/", text), path
        for link in re.findall(r"\]\(([^)]+)\)", text):
            assert link.startswith("https://") or (path.parent / link).exists()
