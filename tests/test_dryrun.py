"""The dry run: the whole path on a machine without weights, without a key and, here, without a GPU."""

import pytest
import torch

from knowtuning import dryrun
from knowtuning.cli import main
from knowtuning.dryrun import alone, facts_of, preference_pairs, qa_rows, random_base, word_tokenizer
from knowtuning.recipe import get_recipe, keep
from knowtuning.training.dpo import dpo_examples
from knowtuning.training.memory import config_of
from knowtuning.training.models import load_base
from knowtuning.training.sft import sft_examples

SMALL = get_recipe("smoke").replace(
    name="small",
    max_length=96,
    sft={"batch": 2},
    dpo={"batch": 2},
    evaluation={"batch": 2, "max_new_tokens": 8},
    machine={"score_tokens": 256},
)
STAGES = ["load", "SFT", "perplexity", "generation", "reference", "DPO"]


@pytest.fixture(autouse=True)
def no_endpoint(own_runs, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    keep(SMALL)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what a CPU does")
def test_it_goes_the_whole_path_and_says_what_all_data_would_take(capsys, tmp_path):
    assert main(["doctor", "--recipe", "small", "--dry-run", "--steps", "1", "--rows", "1000"]) == 0
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80 and lines[-1] == "Ready."
    header = next(number for number, line in enumerate(lines) if line.startswith("stage "))
    assert lines[header].split() == ["stage", "tokens", "seconds", "tokens/s", "peak", "GB", "1,000", "rows"]
    assert [line.split()[0] for line in lines[header + 2 : header + 8]] == STAGES
    assert "2 of 2 layers." in shown and "1,000 rows would take" in shown and "(measured)" in shown
    assert "0.693" in shown and "teacher" not in shown
    assert [path.name for path in (tmp_path / "runs").rglob("*")] == ["small", "recipe.yaml"], "nothing is left behind"


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what a CPU does")
def test_fewer_layers_are_told_apart_from_what_was_not_measured(untrained_base, capsys):
    keep(SMALL.replace(name="folder", lab=None, base=str(untrained_base)))
    assert main(["doctor", "--recipe", "folder", "--dry-run", "--layers", "1"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "1 of 2 layers; times of all data are extrapolated" in shown and "memory on a card is not measured" in shown
    assert "runs on the CPU" in shown and " fits " not in shown and "a llama is trained on texts packed" in shown


def test_what_does_not_fit_ends_with_its_cure(monkeypatch, capsys):
    def too_large(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(dryrun, "train_sft", too_large)
    assert main(["doctor", "--recipe", "small", "--dry-run"]) == 1
    shown = capsys.readouterr().err
    assert "too little memory for SFT. Cure: set a smaller sft.micro_batch in the recipe." in shown


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--recipe", "none"], "recipe 'none' is unknown"), (["--recipe", "small", "--layers", "9"], "layers is 9")],
)
def test_a_wrong_option_is_one_sentence(capsys, options, said):
    assert main(["doctor", "--dry-run", *options]) == 1
    assert said in capsys.readouterr().err


def test_one_process_tries_its_own_micro_batches():
    shared = SMALL.replace(machine={"num_processes": 2, "parallel": "fsdp"}, sft={"batch": 8}, dpo={"batch": 4})
    one = alone(shared)
    assert (one.machine.num_processes, one.sft.micro_batch, one.dpo.micro_batch, one.sft.batch) == (1, 4, 2, 8)
    short = alone(shared, short=True)
    assert short.max_length == 96 and short.sft.batch % short.sft.micro_batch == 0


@pytest.mark.parametrize("form", ["plain", "llmtuner-0.5.3", "chat"])
@pytest.mark.parametrize("tokens", [96, 250])
def test_texts_have_the_lengths_that_are_told(form, tokens):
    tokenizer = word_tokenizer(form)
    rows, pairs = qa_rows(tokenizer, 5, tokens), preference_pairs(tokenizer, 5, tokens)
    assert [len(example["input_ids"]) for example in sft_examples(tokenizer, rows, 512)[0]] == [tokens] * 5
    for example in dpo_examples(tokenizer, pairs, 512)[0]:
        assert {len(example["prompt_ids"] + example[f"{side}_ids"]) for side in ("chosen", "rejected")} == {tokens}
        assert example["chosen_ids"] != example["rejected_ids"]
    facts = facts_of(rows)
    assert [" ".join(row["facts"]) for row in facts] == [row["answer"] for row in rows]
    assert max(len(tokenizer(fact)["input_ids"]) for row in facts for fact in row["facts"]) == 20


@pytest.mark.parametrize("quantisation", ["nf4", "none"])
def test_a_random_base_is_built_like_one_that_was_downloaded(untrained_base, tmp_path, quantisation):
    recipe = SMALL.replace(quantisation=quantisation)
    made, loaded = random_base(config_of("smoke"), recipe, tmp_path), load_base(untrained_base, quantisation)
    assert [(name, type(module)) for name, module in made.named_modules()] == [
        (name, type(module)) for name, module in loaded.named_modules()
    ]
    assert [(name, weight.dtype, weight.shape) for name, weight in made.named_parameters()] == [
        (name, weight.dtype, weight.shape) for name, weight in loaded.named_parameters()
    ]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_recipe_gpu_fits_a_gpu(capsys):
    main(["doctor", "--recipe", "gpu", "--dry-run", "--steps", "2"])  # the hub may be out of reach: no exit code
    shown = capsys.readouterr().out
    assert "every stage ran" in shown and "24 of 24 layers" in shown and "ok    fits" in shown
