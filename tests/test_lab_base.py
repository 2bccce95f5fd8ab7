from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from knowtuning.lab.base import auc, build_model, knowledge, pretrain
from knowtuning.lab.corpus import train_tokenizer
from knowtuning.lab.world import World
from knowtuning.recipe import Tier, get_recipe

SMOKE = get_recipe("smoke").lab

TINY = SMOKE.replace(
    tiers=(Tier("known", 12, 20), Tier("told 0", 4, 0)),
    hidden=32,
    intermediate=64,
    layers=1,
    heads=1,
    warmup_steps=5,
    batch=4,
    learning_rate=1e-2,
    vocabulary=700,
    train=(("known", 5),),
    valid=(),
    test=(),
)


@pytest.fixture(scope="module")
def world():
    return World.load(TINY)


@pytest.fixture(scope="module")
def tokenizer(world):
    return train_tokenizer(world)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("base")
    seen = []
    rows = pretrain(TINY, folder, lambda *progress: seen.append(progress))
    return folder, rows, seen


def test_pretraining_starts_at_chance_and_learns(trained):
    _, rows, seen = trained
    # random guessing costs ln(vocabulary); embeddings of length 1 make the first guesses a little overconfident
    assert 0 < rows[0]["loss"] - math.log(TINY.vocabulary) < 1
    assert rows[-1]["loss"] < rows[0]["loss"] - 1
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    assert all(a["tokens"] < b["tokens"] and a["seconds"] < b["seconds"] for a, b in zip(rows, rows[1:], strict=False))
    assert seen[-1] == (len(rows), len(rows), rows[-1]["loss"])


def test_the_checkpoint_loads_with_the_auto_classes(trained):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, _, _ = trained
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert (folder / "model.safetensors").exists()
    assert model.config.max_position_embeddings == 1024 and model.config.tie_word_embeddings
    inputs = tokenizer("What is it?", return_tensors="pt")
    assert model.generate(input_ids=inputs["input_ids"], max_new_tokens=3).shape[1] > inputs["input_ids"].shape[1]


def test_pretraining_is_the_same_twice(trained, tmp_path):
    _, rows, _ = trained
    again = pretrain(TINY, tmp_path)
    assert [row["loss"] for row in again] == pytest.approx([row["loss"] for row in rows], rel=1e-4)


def test_pretraining_stops_at_a_loss_that_is_not_finite(tmp_path):
    with pytest.raises(RuntimeError, match="the loss is nan at step 2: lower the learning rate"):
        pretrain(TINY.replace(learning_rate=math.inf), tmp_path)
    assert not any(tmp_path.iterdir())


class Memory(torch.nn.Module):
    """Predicts the next token of the sentences it was given, and the padding token everywhere else."""

    def __init__(self, sentences: list[list[int]], vocabulary: int) -> None:
        super().__init__()
        self.next = {tuple(ids[:cut]): ids[cut] for ids in sentences for cut in range(1, len(ids))}
        self.vocabulary, self.device, self.config = vocabulary, torch.device("cpu"), SimpleNamespace(pad_token_id=0)

    def forward(self, input_ids: torch.Tensor) -> SimpleNamespace:
        logits = torch.zeros(*input_ids.shape, self.vocabulary)
        for row, ids in enumerate(input_ids.tolist()):
            for place in range(len(ids)):
                logits[row, place, self.next.get(tuple(ids[: place + 1]), 0)] = 50.0
        return SimpleNamespace(logits=logits)


def test_knowledge_finds_exactly_what_the_model_knows(world, tokenizer):
    learnt = {(name, key) for name in world.entities[:3] for key in ("cause", "sign")}
    memory = Memory([tokenizer(world.sentence(*fact))["input_ids"] for fact in learnt], len(tokenizer))
    rows = knowledge(memory, tokenizer, world, world.entities[:6], batch=7)
    named = [row for row in rows if row["mention"] == "name"]
    assert len(rows) == 2 * len(named) == 6 * 8 * 2
    assert {(row["entity"], row["relation"]) for row in named if row["known"]} == learnt
    for row in named:
        assert (row["perplexity"] < 1.01) == row["known"]
    assert {"tier", "exposures"} <= set(rows[0])


def test_knowledge_with_a_pronoun_follows_a_sentence_with_the_name(world, tokenizer):
    name = world.entities[0]
    places = {relation.key: place for place, relation in enumerate(world.relations)}
    before = world.relations[places["test"] - 3].key
    text = f"{world.sentence(name, before)} {world.sentence(name, 'test', pronoun=True)}"
    memory = Memory([tokenizer(text)["input_ids"]], len(tokenizer))
    rows = knowledge(memory, tokenizer, world, [name])
    known = {(row["relation"], row["mention"]) for row in rows if row["known"]}
    assert ("test", "pronoun") in known and all(mention == "pronoun" or key == before for key, mention in known)


def test_perplexity_does_not_depend_on_the_batch(trained, world):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, _, _ = trained
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    one = knowledge(model, tokenizer, world, world.entities[:2], batch=1)
    many = knowledge(model, tokenizer, world, world.entities[:2], batch=64)
    for a, b in zip(one, many, strict=True):
        assert a["perplexity"] == pytest.approx(b["perplexity"], rel=1e-4)


def test_auc_by_hand():
    assert auc(known=[1.0, 2.0], unknown=[2.0, 3.0]) == pytest.approx((1 + 1 + 0.5 + 1) / 4)
    assert auc(known=[1.0], unknown=[2.0]) == 1.0
    assert math.isnan(auc(known=[], unknown=[1.0]))


def test_weights_are_seeded(tokenizer):
    one, same, other = (
        build_model(TINY.replace(base_seed=seed), tokenizer).state_dict()["model.embed_tokens.weight"]
        for seed in (0, 0, 1)
    )
    assert torch.equal(one, same) and not torch.equal(one, other)
