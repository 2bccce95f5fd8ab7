"""Training on an untrained model of the lab's shape: what holds before it learns, and parity of the losses."""

import inspect
import math
import random

import pytest
import torch
from peft import PeftModel
from torch.nn.functional import logsigmoid
from transformers import BloomConfig, BloomForCausalLM, Trainer

from knowtuning.files import DataError
from knowtuning.lab.world import World
from knowtuning.recipe import get_recipe
from knowtuning.training.dpo import dpo_examples, dpo_loss, dpo_trainer, step_zero, train_dpo
from knowtuning.training.models import load_adapter, load_base, load_tokenizer, new_adapter, save_adapter
from knowtuning.training.packed import packed
from knowtuning.training.prompts import encode, fit
from knowtuning.training.sft import sft_examples, train_sft

SMOKE = get_recipe("smoke").lab

RECIPE = get_recipe("smoke").replace(
    sft={"epochs": 3, "batch": 4, "learning_rate": 1e-2}, dpo={"batch": 4, "learning_rate": 2e-3}, data={"val_size": 4}
)


@pytest.fixture(scope="module")
def tokenizer(untrained_base):
    return load_tokenizer(untrained_base)


@pytest.fixture(scope="module")
def rows():
    world, chance = World.load(SMOKE), random.Random(0)
    return [
        {
            "question": world.question(entity, i),
            "answer": world.answer(entity, chance.sample(list(world.relation), 1 + i % 4), chance),
        }
        for i, entity in enumerate(world.entities[:20])
    ]


def backwards(answer):
    return " ".join(reversed(answer.split()))


@pytest.fixture(scope="module")
def pairs(rows):
    return [
        {"question": row["question"], "chosen": row["answer"], "rejected": backwards(row["answer"]), "aspect": aspect}
        for row, aspect in zip(rows, ["completeness", "logicality"] * 10, strict=True)
    ]


@pytest.fixture
def model(untrained_base):
    return new_adapter(load_base(untrained_base, "nf4"), RECIPE, seed=0)


def test_prompt_and_answer_encode_to_the_whole(tokenizer, rows):
    from knowtuning.data.records import prompt_text

    for row in rows:
        prompt, answer = encode(tokenizer, row["question"], row["answer"], end=True)
        whole = tokenizer(prompt_text(row["question"]) + row["answer"])["input_ids"]
        assert prompt + answer == [*whole, tokenizer.eos_token_id]


def test_only_the_answer_and_the_end_token_carry_loss(tokenizer):
    [example], cut = sft_examples(tokenizer, [{"question": "Why?", "answer": "Because."}], 512)
    answer = [label for label in example["labels"] if label != -100]
    assert tokenizer.decode(answer[:-1]) == "Because." and answer[-1] == tokenizer.eos_token_id
    assert example["labels"][: -len(answer)] == [-100] * (len(example["labels"]) - len(answer))
    assert cut == 0


def test_an_overlong_answer_is_cut_and_counted(tokenizer):
    long = {"question": "Why?", "answer": "word " * 400}
    examples, cut = sft_examples(tokenizer, [long], 64)
    assert cut == 1 and len(examples[0]["input_ids"]) == 64
    _, cut_pairs = dpo_examples(tokenizer, [{"question": "Why?", "chosen": long["answer"], "rejected": "No."}], 64)
    assert cut_pairs == 1


def test_an_overlong_question_loses_its_beginning_and_leaves_room_for_an_answer():
    prompt, answer, cut = fit(list(range(100)), [7] * 30, 64)
    assert cut and len(prompt) + len(answer) == 64
    assert prompt[-1] == 99 and answer == [7] * 16
    assert fit(list(range(100)), [7, 7], 64)[1] == [7, 7]
    assert fit([1, 2], [3], 64) == ([1, 2], [3], False)


def test_a_fresh_adapter_equals_the_base(untrained_base, model, tokenizer):
    ids = torch.tensor([tokenizer("What is it?")["input_ids"]])
    with torch.no_grad():
        assert torch.equal(model(ids).logits, load_base(untrained_base, "nf4")(ids).logits)


def test_lora_gradients_survive_an_evaluation_under_nf4(model, tokenizer):
    ids = torch.tensor([tokenizer("What is it?")["input_ids"]])
    with torch.no_grad():
        model.eval()(ids)
    model.train()(ids, labels=ids).loss.backward()
    gradients = [p.grad for name, p in model.named_parameters() if "lora_B" in name]
    assert gradients and all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)


def test_sft_learns_and_its_adapter_loads(untrained_base, model, tokenizer, rows, tmp_path):
    trained, losses, numbers = train_sft(model, tokenizer, rows, RECIPE, seed=0)
    evaluated = [row["eval_loss"] for row in losses if "eval_loss" in row]
    assert evaluated[-1] < evaluated[0]
    assert numbers["best eval loss"] == pytest.approx(min(evaluated), abs=1e-4)
    save_adapter(trained, tmp_path / "sft", "A test.")
    assert {p.name for p in (tmp_path / "sft").iterdir()} == {
        "adapter_model.safetensors",
        "adapter_config.json",
        "README.md",
    }
    assert str(tmp_path) not in (tmp_path / "sft" / "adapter_config.json").read_text()
    ids = torch.tensor([tokenizer("What is it?")["input_ids"]])
    loaded = PeftModel.from_pretrained(load_base(untrained_base, "nf4"), str(tmp_path / "sft")).eval()
    with torch.no_grad():
        assert torch.allclose(loaded(ids).logits, trained(ids).logits, atol=1e-5)


def test_a_loss_that_is_not_finite_stops_the_training(model, tokenizer, rows):
    with pytest.raises(RuntimeError, match="the loss is nan at step 2: lower the learning rate"):
        train_sft(model, tokenizer, rows, RECIPE.replace(sft={"learning_rate": 1e30}), seed=0)


@pytest.fixture
def adapted(model, untrained_base, tokenizer, rows, tmp_path):
    """An adapter that differs from the base, loaded to be trained further."""
    trained, _, _ = train_sft(model, tokenizer, rows, RECIPE, seed=0)
    save_adapter(trained, tmp_path / "ka", "A test.")
    return load_adapter(load_base(untrained_base, "nf4"), tmp_path / "ka", trainable=True)


def test_dpo_starts_at_ln_2_and_learns_every_aspect(adapted, tokenizer, pairs, tmp_path):
    trainer = dpo_trainer(adapted, tokenizer, pairs, RECIPE.replace(dpo={"epochs": 8}), 0, tmp_path / "dpo")
    start = step_zero(trainer)
    assert [row["aspect"] for row in start] == ["completeness", "logicality"]
    for row in start:
        assert row["loss"] == pytest.approx(math.log(2), abs=1e-3) and row["margin"] == pytest.approx(0, abs=1e-2)
    trained, losses, by_aspect, numbers = train_dpo(trainer)
    assert numbers["pairs"] == len(pairs)
    assert all(row["margin"] > 0 for row in by_aspect if row["step"] == by_aspect[-1]["step"])
    save_adapter(trained, tmp_path / "kt", "A test.")
    assert sorted(p.name for p in (tmp_path / "kt").iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_the_base_as_reference_does_not_start_at_ln_2(adapted, untrained_base, tokenizer, pairs, tmp_path):
    trainer = dpo_trainer(
        adapted, tokenizer, pairs, RECIPE, 0, tmp_path / "dpo", reference_model=load_base(untrained_base, "nf4")
    )
    assert any(abs(row["margin"]) > 1e-2 for row in step_zero(trainer))


def test_the_trainer_computes_the_loss_of_the_paper(adapted, untrained_base, tokenizer, pairs, tmp_path):
    reference = load_base(untrained_base, "nf4")
    gamma, beta = 0.2, 0.1
    trainer = dpo_trainer(adapted, tokenizer, pairs, RECIPE, 0, tmp_path / "dpo", gamma, beta, reference)
    examples = trainer.train_dataset.to_list()[:4]
    with torch.no_grad(), packed(adapted):
        theirs = trainer.compute_loss(adapted.eval(), trainer.data_collator(examples)).item()

    def log_probs(model, example, side):
        ids = torch.tensor([example["prompt_ids"] + example[f"{side}_ids"]])
        with torch.no_grad():
            values = model(ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None]).squeeze(-1)
        return values[len(example["prompt_ids"]) - 1 :]

    losses, chosen_tokens = [], []
    for example in examples:
        ratio = {
            s: (log_probs(adapted, example, s) - log_probs(reference, example, s)).sum() for s in ("chosen", "rejected")
        }
        margin = ratio["chosen"] - ratio["rejected"]
        losses.append(-logsigmoid(beta * margin))
        assert torch.isclose(losses[-1], dpo_loss(margin, beta), atol=1e-6)
        chosen_tokens.append(log_probs(adapted, example, "chosen"))
    ours = torch.stack(losses).mean() - gamma * torch.cat(chosen_tokens).mean()
    assert theirs == pytest.approx(ours.item(), abs=1e-4)


def test_what_we_override_in_transformers_is_still_there():
    counted = inspect.signature(Trainer._get_num_items_in_batch).parameters
    assert list(counted) == ["self", "batch_samples", "device"]
    given = inspect.signature(Trainer.compute_loss).parameters
    assert list(given) == ["self", "model", "inputs", "return_outputs", "num_items_in_batch"]
    assert list(inspect.signature(Trainer.log).parameters) == ["self", "logs", "start_time"]
    source = inspect.getsource(Trainer.training_step)
    assert "self.loss_is_scaled_for_ga is not None" in source and "self.current_gradient_accumulation_steps" in source


def test_micro_batches_change_no_loss(untrained_base, tokenizer, rows, pairs, tmp_path):
    """Losses of a step are means over all of its tokens and pairs, however many passes it takes."""
    whole = RECIPE.replace(quantisation="none", data={"val_size": 0}, sft={"epochs": 1})
    parts = whole.replace(sft={"micro_batch": 1}, dpo={"micro_batch": 2})
    losses = []
    for number, recipe in enumerate((whole, parts)):
        model = new_adapter(load_base(untrained_base, "none"), recipe, seed=0)
        _, steps, _ = train_sft(model, tokenizer, rows, recipe, seed=0)
        trainer = dpo_trainer(model, tokenizer, pairs, recipe, 0, tmp_path / str(number), watched=0)
        _, preferences, _, _ = train_dpo(trainer)
        losses.append([row["loss"] for row in (*steps, *preferences)])
    assert losses[0] == pytest.approx(losses[1], abs=1e-4) and len(losses[0]) == 10


def test_matrices_that_a_base_does_not_have_are_named_with_those_that_it_has():
    config = BloomConfig(vocab_size=100, hidden_size=32, n_layer=1, n_head=2)
    recipe = RECIPE.replace(lora={"targets": ("dense", "q_proj")})
    said = "lora.targets names q_proj, but the base has dense, dense_4h_to_h, dense_h_to_4h, lm_head, query_key_value"
    with pytest.raises(DataError, match=said):
        new_adapter(BloomForCausalLM(config), recipe, 0)


def test_a_model_that_packs_wrongly_is_trained_in_padded_batches(tokenizer, rows):
    config = BloomConfig(vocab_size=len(tokenizer), hidden_size=32, n_layer=1, n_head=2)
    recipe = RECIPE.replace(lora={"targets": "all-linear"}, sft={"epochs": 1})
    with pytest.warns(UserWarning, match="BloomForCausalLM reads texts in one row otherwise than alone"):
        _, losses, _ = train_sft(new_adapter(BloomForCausalLM(config), recipe, 0), tokenizer, rows, recipe, seed=0)
    assert losses[-1]["eval_loss"] < losses[0]["loss"]
