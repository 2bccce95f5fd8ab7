"""The dry run: arithmetic against weights that are loaded, and the whole path without weights, key or, here, a GPU."""

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma3TextConfig, GPT2Config, LlamaConfig, MambaConfig

from knowtuning import dryrun
from knowtuning.cli import main
from knowtuning.dryrun import (
    alone,
    config_of,
    needs,
    parameters,
    preference_pairs,
    qa_rows,
    tiny,
    weight_bytes,
    weightless,
    with_layers,
    word_tokenizer,
)
from knowtuning.files import DataError
from knowtuning.lab.base import build_model
from knowtuning.lab.corpus import train_tokenizer
from knowtuning.lab.world import World
from knowtuning.recipe import get_recipe, keep
from knowtuning.training.dpo import dpo_examples
from knowtuning.training.models import load_base, new_adapter
from knowtuning.training.sft import sft_examples

PAPER = get_recipe("paper-7b-qlora")
SMALL = get_recipe("smoke").replace(
    name="small",
    max_length=96,
    sft={"batch": 2},
    dpo={"batch": 2},
    evaluation={"batch": 2, "max_new_tokens": 8},
    machine={"score_tokens": 256},
)
STAGES = ["load", "SFT", "perplexity", "generation", "DPO"]


@pytest.fixture(autouse=True)
def no_endpoint(own_runs, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    keep(SMALL)


# --- shapes and arithmetic


@pytest.mark.parametrize(
    ("base", "weights"),
    [
        ("meta-llama/Llama-2-7b-hf", 6_738_415_616),
        ("meta-llama/Llama-2-13b-hf", 13_015_864_320),
        ("HuggingFaceTB/SmolLM2-1.7B", 1_711_376_384),
    ],
)
def test_a_known_base_has_as_many_weights_as_its_authors_say(base, weights):
    assert parameters(config_of(base)) == weights


def test_every_base_of_a_recipe_that_wants_a_gpu_is_known():
    for name in ("gpu", "paper-7b", "paper-7b-qlora", "paper-7b-first", "paper-13b", "paper-13b-qlora"):
        assert parameters(config_of(get_recipe(name).base)) > 1e9


def test_the_labs_shape_is_that_of_the_base_which_notebook_00_trains():
    lab = get_recipe("smoke").lab
    assert parameters(config_of("smoke")) == build_model(lab, train_tokenizer(World.load(lab))).num_parameters()


def test_a_folder_gives_its_own_shape(untrained_base):
    assert parameters(config_of(str(untrained_base))) == parameters(config_of("smoke"))


def test_an_unknown_base_is_one_sentence(tmp_path):
    with pytest.raises(DataError, match="no readable config.json.*give a folder"):
        config_of(str(tmp_path))
    with pytest.raises(DataError, match="is no folder, and the hub does not give it"):
        config_of("no/such/base/anywhere")


def test_more_layers_than_there_are_are_refused():
    with pytest.raises(DataError, match="from 1 to that"):
        with_layers(config_of("smoke"), 3)


@pytest.mark.parametrize("quantisation", ["nf4", "none"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_bytes_of_a_base_are_those_of_the_loaded_one(untrained_base, quantisation, dtype):
    counted = weight_bytes(weightless(config_of(str(untrained_base)), dtype), quantisation)
    loaded = load_base(untrained_base, quantisation, dtype)
    held = loaded.get_memory_footprint()
    for weight in loaded.parameters():
        state = getattr(weight, "quant_state", None)
        held += 0 if state is None else state.absmax.nbytes + state.state2.absmax.nbytes
    assert counted == pytest.approx(held, rel=0.01)


def test_what_training_is_said_to_keep_is_what_autograd_keeps():
    """Without checkpointing: one text of `max_length` through real layers, the logits left out."""
    config = LlamaConfig(
        vocab_size=64, hidden_size=256, intermediate_size=704, num_hidden_layers=3, num_attention_heads=4
    )
    recipe = PAPER.replace(
        quantisation="none", lora={"targets": "all-linear"}, machine={"checkpointing": False}, sft={"micro_batch": 1}
    )
    one, two = (needs(recipe.replace(sft={"batch": 2, "micro_batch": size}), config)["SFT"] for size in (1, 2))
    said = (two - one) / recipe.max_length - dryrun.LOGITS * 64
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model = new_adapter(model, recipe, seed=0).to(torch.bfloat16).train()
    model.enable_input_require_grads()
    weights, kept = {weight.untyped_storage().data_ptr() for weight in model.parameters()}, {}

    def note(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    ids = torch.ones(1, 64, dtype=torch.long)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = model.get_base_model().model(input_ids=ids, use_cache=False)
    held = sum(size for place, size in kept.items() if place not in weights) / 64
    assert output.last_hidden_state.shape == (1, 64, 256)
    assert 3 / 4 * said == pytest.approx(held, rel=0.4)  # of four layers' bytes one is what a layer works in


def test_needs_grow_with_what_they_depend_on():
    config = config_of(PAPER.base)
    usual = needs(PAPER, config)
    assert needs(PAPER.replace(machine={"checkpointing": False}), config)["SFT"] > usual["SFT"]
    assert needs(PAPER.replace(quantisation="none"), config)["DPO"] > usual["DPO"] + 9e9
    assert needs(PAPER.replace(evaluation={"batch": 8}), config)["generation"] < usual["generation"]
    assert needs(PAPER.replace(machine={"num_processes": 2, "parallel": "fsdp"}), config)["DPO"] < usual["DPO"] - 1e9


def test_architectures_without_heads_or_with_other_names_are_shrunk_and_counted_too():
    assert tiny(GPT2Config()).hidden_size == 128 and tiny(GPT2Config()).n_layer == 2
    assert tiny(MambaConfig()).num_hidden_layers == 2
    assert parameters(tiny(config_of("meta-llama/Llama-2-13b-hf"))) < 2e7
    assert len(set(tiny(Gemma3TextConfig()).layer_types)) == 2, "a layer of each kind"
    for config in (GPT2Config(), MambaConfig()):
        assert needs(PAPER.replace(lora={"targets": "all-linear"}), config)["generation"] > dryrun.RESERVE


# --- the path


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what a CPU does")
def test_it_goes_the_whole_path_and_says_what_all_data_would_take(capsys, tmp_path):
    assert main(["doctor", "--recipe", "small", "--dry-run", "--steps", "1", "--rows", "1000"]) == 0
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80 and lines[-1] == "Ready."
    header = next(number for number, line in enumerate(lines) if line.startswith("stage "))
    assert lines[header].split() == ["stage", "tokens", "seconds", "tokens/s", "peak", "GB", "1,000", "rows"]
    assert [line.split()[0] for line in lines[header + 2 : header + 7]] == STAGES
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
    assert "too little memory for SFT. Cure: a smaller sft.micro_batch, machine.checkpointing=true" in shown
    assert set(dryrun.CURES) == set(STAGES)


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
    assert [" ".join(row["facts"]) for row in rows] == [row["answer"] for row in rows]
    assert max(len(tokenizer(fact)["input_ids"]) for row in rows for fact in row["facts"]) == 20


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_recipe_gpu_fits_a_gpu(capsys):
    main(["doctor", "--recipe", "gpu", "--dry-run", "--steps", "2"])  # the hub may be out of reach: no exit code
    shown = capsys.readouterr().out
    assert "every stage ran" in shown and "24 of 24 layers" in shown and "ok    fits" in shown
