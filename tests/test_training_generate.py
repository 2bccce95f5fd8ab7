"""Answers: batches change nothing, and seeds repeat."""

import pytest
import torch

from knowtuning.recipe import get_recipe
from knowtuning.training.generate import generate, load_policy
from knowtuning.training.models import load_base, load_tokenizer, new_adapter, save_adapter

QUESTIONS = ["What is rust?", "Why?", "A much longer question about nothing in particular, is it not?", "And salt?"]


@pytest.fixture(scope="module")
def tokenizer(untrained_base):
    return load_tokenizer(untrained_base)


@pytest.fixture(scope="module")
def model(untrained_base):
    """The base under an adapter that moves it so far that it does not say its last token again and again."""
    adapted = new_adapter(load_base(untrained_base, "nf4"), get_recipe("smoke"), seed=0)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    return adapted.eval()


@pytest.fixture
def shapes(model, monkeypatch):
    """Rows and columns of the prompts of each batch."""
    seen, whole = [], model.generate

    def watched(input_ids, **options):
        seen.append(tuple(input_ids.shape))
        return whole(input_ids=input_ids, **options)

    monkeypatch.setattr(model, "generate", watched)
    return seen


def test_batched_answers_equal_single_ones(model, tokenizer):
    together = generate(model, tokenizer, QUESTIONS, max_new_tokens=12)
    alone = [generate(model, tokenizer, [question], max_new_tokens=12)[0] for question in QUESTIONS]
    assert together == alone and any(answer["answer"] for answer in together)


def test_an_answer_ends_before_the_end_token(model, tokenizer, monkeypatch):
    ids = tokenizer("It is red.", add_special_tokens=False)["input_ids"]
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id

    def said(input_ids, **options):
        rows = [[*ids, end, pad], [*ids, ids[0], ids[1]]]
        return torch.cat([input_ids, torch.tensor(rows)], dim=1)

    monkeypatch.setattr(model, "generate", said)
    ended, cut = generate(model, tokenizer, ["Why?", "What is it?"])
    assert ended == {"answer": "It is red.", "tokens": len(ids), "finished": True}
    assert cut["tokens"] == len(ids) + 2 and not cut["finished"]


def test_a_seed_repeats_samples(model, tokenizer):
    sampled = [generate(model, tokenizer, QUESTIONS, "sampled", 12, seed=seed) for seed in (1, 1, 2)]
    assert sampled[0] == sampled[1] != sampled[2]


def test_batches_keep_to_their_size_and_to_the_tokens(model, tokenizer, shapes):
    generate(model, tokenizer, QUESTIONS, max_new_tokens=2, batch_size=3)
    assert [rows for rows, _ in shapes] == [3, 1] and shapes[0][1] < shapes[1][1]
    shapes.clear()
    generate(model, tokenizer, QUESTIONS, max_new_tokens=2, max_tokens=60)
    assert len(shapes) > 1 and all(rows == 1 or rows * (width + 2) <= 60 for rows, width in shapes)


def test_no_questions_no_answers(model, tokenizer):
    assert generate(model, tokenizer, []) == []


def test_an_unknown_decoding_is_refused(model, tokenizer):
    with pytest.raises(ValueError, match="greedy, sampled"):
        generate(model, tokenizer, ["Why?"], "beam")


def test_a_policy_is_the_base_with_or_without_an_adapter(untrained_base, model, tokenizer, tmp_path):
    save_adapter(model, tmp_path / "sft", "A test.")
    recipe = get_recipe("smoke")
    for adapter, expected in ((tmp_path / "sft", model), (None, load_base(untrained_base, "nf4"))):
        policy = load_policy(recipe, untrained_base, adapter)
        asked = (tokenizer, QUESTIONS[:2], "greedy", 8)
        assert generate(policy, *asked) == generate(expected, *asked)
