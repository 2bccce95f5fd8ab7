"""The dry run: the whole path on a machine without weights, without a key and, here, without a GPU."""

import pytest
import torch

from knowtuning.cli import main
from knowtuning.dryrun import duration
from knowtuning.recipe import get_recipe, keep
from knowtuning.training import trial
from knowtuning.training.models import load_base, new_adapter
from knowtuning.training.stand_in import sequence_lengths, stand_in_facts, stand_in_pairs, stand_in_rows
from knowtuning.training.stand_in import stand_in_tokenizer as tokenizer_of
from knowtuning.training.trial import alone, bare, reduced, tokens_at_once

SMALL = get_recipe("smoke").replace(
    name="trial",
    max_length=96,
    sft={"batch": 2},
    dpo={"batch": 2},
    evaluation={"batch": 2, "max_new_tokens": 8},
    machine={"score_tokens": 256},
)
STAGES = ("load", "SFT", "perplexity", "generation", "reference", "DPO")


@pytest.fixture(autouse=True)
def no_endpoint(own_runs, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    keep(SMALL)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what a CPU does")
def test_it_goes_the_whole_path_and_says_what_all_data_would_take(capsys, tmp_path):
    assert main(["doctor", "--recipe", "trial", "--dry-run", "--steps", "1", "--rows", "1000"]) == 0
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80 and lines[-1] == "Ready."
    table = lines[lines.index(next(line for line in lines if line.startswith("stage "))) + 1 :]
    assert tuple(line.split()[0] for line in table[:6]) == STAGES
    assert "2 of 2 layers" in shown and "A data set of 1,000 rows here, as measured above" in shown
    assert "0.693" in shown and "teacher" not in shown
    for stage in ("SFT", "KA", "perplexity", "reference", "DPO", "answers"):
        assert any(line.startswith(f"{stage} ") and " M " in line for line in lines), stage
    assert [path.name for path in (tmp_path / "runs").rglob("*")] == ["trial", "recipe.yaml"], "nothing is left behind"


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what a CPU does")
def test_fewer_layers_are_told_apart_from_what_was_not_measured(untrained_base, capsys):
    keep(SMALL.replace(name="folder", lab=None, base=str(untrained_base)))
    assert main(["doctor", "--recipe", "folder", "--dry-run", "--layers", "1"]) == 0
    shown = capsys.readouterr().out
    assert "1 of 2 layers" in shown and "not measured" in shown and "Cards with room for the largest: L4" in shown
    assert "runs on the CPU" in shown and "by the arithmetic of all layers" in " ".join(shown.split())
    assert max(map(len, shown.splitlines())) <= 80


def test_what_does_not_fit_ends_with_its_cure(monkeypatch, capsys):
    def too_large(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(trial, "sft_trainer", too_large)
    assert main(["doctor", "--recipe", "trial", "--dry-run"]) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "too little memory for SFT. Cure: set a smaller sft.micro_batch in the recipe." in shown


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--recipe", "none"], "recipe 'none' is unknown"), (["--recipe", "trial", "--layers", "9"], "layers is 9")],
)
def test_a_wrong_option_is_one_sentence(capsys, options, said):
    assert main(["doctor", "--dry-run", *options]) == 1
    assert said in capsys.readouterr().err


def test_one_process_tries_its_own_micro_batches():
    shared = SMALL.replace(machine={"num_processes": 2, "parallel": "fsdp"}, sft={"batch": 8}, dpo={"batch": 4})
    one = alone(shared)
    assert (one.machine.num_processes, one.sft.micro_batch, one.dpo.micro_batch, one.sft.batch) == (1, 4, 2, 8)
    assert tokens_at_once(shared, "SFT") == 4 * 96 and tokens_at_once(shared, "DPO") == 2 * 2 * 96
    assert reduced(one).sft.batch % reduced(one).sft.micro_batch == 0


def test_a_base_is_bare_again_after_training(untrained_base):
    base = load_base(untrained_base)
    names = [name for name, _ in base.named_modules()]
    tokenizer = tokenizer_of("plain")
    model = new_adapter(base, SMALL, seed=0)
    trial.train_rows(model, tokenizer, trial.usual_rows(tokenizer, 2, SMALL), SMALL.replace(data={"val_size": 0}), 2)
    again = bare(model)
    assert again is base and [name for name, _ in again.named_modules()] == names
    assert "forward" not in vars(again) and not again.is_gradient_checkpointing and not again.training


@pytest.mark.parametrize("form", ["plain", "llmtuner-0.5.3", "chat"])
def test_the_text_has_the_lengths_that_are_assumed(form):
    tokenizer, lengths = tokenizer_of(form), sequence_lengths(30, 512)
    rows = stand_in_rows(tokenizer, lengths)
    recipe = SMALL.replace(max_length=512)
    assert trial._tokens(tokenizer, rows, recipe) == pytest.approx(sum(lengths), rel=0.02)
    assert trial._tokens(tokenizer, trial.long_rows(tokenizer, 3, recipe), recipe) == 3 * 512
    pairs = stand_in_pairs(tokenizer, rows)
    assert len({pair["aspect"] for pair in pairs}) == 3 and all(p["chosen"] != p["rejected"] for p in pairs)
    facts = stand_in_facts(tokenizer, rows)
    assert [row["id"] for row in facts] == [row["id"] for row in rows] and all(row["facts"] for row in facts)


def test_half_of_the_answers_are_as_long_as_each_data_sets_median():
    lengths = sequence_lengths(2000, 10**6)
    dolly, medquad = sorted(lengths[::2]), sorted(lengths[1::2])
    assert dolly[500] == pytest.approx(50 + 1.35 * 65, abs=1) and medquad[500] == pytest.approx(50 + 1.35 * 152, abs=1)
    assert max(sequence_lengths(2000, 512)) == 512


@pytest.mark.parametrize(("seconds", "said"), [(40, "40 s"), (300, "5.0 min"), (5400, "1.5 h"), (4e5, "4.6 days")])
def test_durations_are_said_as_a_person_would(seconds, said):
    assert duration(seconds) == said


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_recipe_gpu_fits_a_gpu(capsys):
    main(["doctor", "--recipe", "gpu", "--dry-run", "--steps", "2"])  # the hub may be out of reach: no exit code
    shown = capsys.readouterr().out
    assert "every stage ran" in shown and "24 of 24 layers" in shown and "ok    fits" in shown
