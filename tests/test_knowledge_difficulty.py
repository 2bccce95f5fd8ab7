"""Perplexity of facts: what it is, and what it does not depend on."""

import math

import pytest
import torch

from knowtuning.knowledge.difficulty import fact_nll, perplexity, score_facts
from knowtuning.recipe import get_recipe
from knowtuning.training.models import load_base, load_tokenizer, new_adapter
from knowtuning.training.prompts import encode
from knowtuning.training.token_log_probs import token_log_probs

FACTS = [
    {"id": "a", "facts": ["Rust settles in the hinges.", "Rust comes from rain.", "Rust comes from rain and wind."]},
    {"id": "b", "facts": ["It is red."]},
    {"id": "c", "facts": []},
    {"id": "d", "facts": ["Salt keeps for a long time in a dry place.", "Salt is white."]},
]
QUESTIONS = {"a": "What is rust?", "b": "What is it?", "c": "Why?", "d": "Tell me everything there is to say of salt."}


@pytest.fixture(scope="module")
def tokenizer(untrained_base):
    return load_tokenizer(untrained_base)


@pytest.fixture(scope="module", params=["none", "nf4"])
def model(request, untrained_base):
    """The base under an adapter that moves it."""
    adapted = new_adapter(load_base(untrained_base, request.param), get_recipe("smoke"), seed=0)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return adapted.eval()


def items(facts=FACTS, questions=QUESTIONS):
    return [(questions[row["id"]], fact) for row in facts for fact in row["facts"]]


def assert_same(scores, others):
    for (nll, tokens), (other, count) in zip(scores, others, strict=True):
        assert tokens == count and perplexity(nll, tokens) == pytest.approx(perplexity(other, count), rel=1e-4)


def test_perplexity_is_that_of_the_models_own_loss(model, tokenizer):
    for question, fact in [*items(), ("", "Salt is white.")]:
        prompt, ids = encode(tokenizer, question, fact)
        whole = torch.tensor([prompt + ids])
        labels = whole.clone()
        labels[0, : len(prompt)] = -100
        with torch.no_grad():
            loss = model(whole, labels=labels).loss.item()
        [(nll, tokens)] = fact_nll(model, tokenizer, [(question, fact)])
        assert tokens == len(ids) and nll / tokens == pytest.approx(loss, abs=1e-5)


def test_log_probabilities_token_by_token_add_up_to_the_facts(model, tokenizer):
    question, fact = items()[0]
    said = token_log_probs(model, tokenizer, question, fact)
    assert "".join(token for token, _ in said) == fact + tokenizer.eos_token
    [(nll, tokens)] = fact_nll(model, tokenizer, [(question, fact)])
    assert tokens == len(said) - 1 and nll == pytest.approx(-sum(value for _, value in said[:-1]), abs=1e-4)


def test_perplexity_does_not_depend_on_budget_order_or_company(model, tokenizer):
    asked = [*items(), ("", "Salt is white."), ("", "Rust comes from rain."), *items()[:2]]
    alone = [fact_nll(model, tokenizer, [item])[0] for item in asked]
    for max_tokens in (1, 50, 8192):
        assert_same(fact_nll(model, tokenizer, asked, max_tokens), alone)
    assert_same(fact_nll(model, tokenizer, asked[::-1])[::-1], alone)


def test_the_question_counts(model, tokenizer):
    [asked, other] = fact_nll(model, tokenizer, [("What is rust?", "It is red."), ("", "It is red.")])
    assert abs(asked[0] - other[0]) > 1e-3


def test_rows_come_in_the_order_of_the_facts_and_of_any_part_of_them(model, tokenizer):
    rows = score_facts(model, tokenizer, FACTS, QUESTIONS)
    assert [(row["id"], row["index"], row["fact"]) for row in rows] == [
        (row["id"], index, fact) for row in FACTS for index, fact in enumerate(row["facts"])
    ]
    for row in rows:
        assert row["perplexity"] == pytest.approx(math.exp(row["nll"] / row["tokens"]))
    part = score_facts(model, tokenizer, FACTS[1:], QUESTIONS)
    assert [row["nll"] for row in part] == pytest.approx([row["nll"] for row in rows[3:]], rel=1e-5)
    assert score_facts(model, tokenizer, [], QUESTIONS) == []


def test_what_is_known_is_not_scored_again(model, tokenizer):
    rows = score_facts(model, tokenizer, FACTS, QUESTIONS)
    known = {(row["id"], row["index"], row["fact"]): (row["nll"], row["tokens"]) for row in rows}
    assert score_facts(None, None, FACTS, QUESTIONS, known=known) == rows
    known["b", 0, "It is red."] = (3.0, 3)
    known.pop(("a", 0, FACTS[0]["facts"][0]))
    mixed = score_facts(model, tokenizer, FACTS, QUESTIONS, known=known)
    assert mixed[3]["perplexity"] == pytest.approx(math.e)
    assert mixed[0]["nll"] == pytest.approx(rows[0]["nll"], rel=1e-5) and mixed[1:3] == rows[1:3]


def test_a_fact_without_tokens_is_named(model, tokenizer):
    with pytest.raises(ValueError, match="fact '' has no tokens"):
        fact_nll(model, tokenizer, [("Why?", "")])


def test_without_a_start_token_facts_are_not_scored_on_their_own(model, untrained_base):
    tokenizer = load_tokenizer(untrained_base)
    tokenizer.bos_token = None
    assert fact_nll(model, tokenizer, [("Why?", "It is red.")])
    with pytest.raises(ValueError, match="no start token"):
        fact_nll(model, tokenizer, [("", "It is red.")])
