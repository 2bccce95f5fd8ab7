from __future__ import annotations

from collections import Counter

import pytest

from knowtuning.data.records import prompt_text
from knowtuning.lab.corpus import asked_entities, documents, pack, train_tokenizer
from knowtuning.lab.world import World
from knowtuning.recipe import Tier, get_recipe

SMOKE = get_recipe("smoke").lab

SMALL = SMOKE.replace(
    tiers=(Tier("known", 20, 8), Tier("rare", 20, 3), Tier("told 0", 4, 0)),
    train=(("known", 5),),
    valid=(),
    test=(),
    vocabulary=1536,
)


@pytest.fixture(scope="module")
def world():
    return World.load(SMALL)


@pytest.fixture(scope="module")
def corpus(world):
    return documents(world)


@pytest.fixture(scope="module")
def tokenizer(world):
    return train_tokenizer(world)


def test_every_fact_is_told_as_often_as_its_tier_says(world, corpus):
    told = Counter((document.entity, key) for document in corpus for key in document.relations)
    for name in world.entities:
        assert {told[name, key] for key in world.relation} == {world.exposures[name]}


def test_documents_say_what_they_list_and_nothing_else(world, corpus):
    for document in corpus:
        statements = world.parse(document.text, document.entity)
        assert all(statement.correct for statement in statements)
        assert tuple(statement.relation for statement in statements) == document.relations


def test_facts_stand_in_random_order_with_names_and_pronouns(world, corpus):
    long = [document for document in corpus if len(document.relations) >= 4]
    assert len({document.relations for document in long}) > len(long) / 2
    mentions = Counter(document.text.count(document.entity) for document in long if not document.prompt)
    assert len(mentions) >= 3


def test_some_documents_about_some_entities_are_question_and_answer_in_the_training_prompt(world, corpus):
    asked = [document for document in corpus if document.prompt]
    assert {document.entity for document in asked} <= asked_entities(world)
    assert len(asked_entities(world)) == len(world.entities) / 2
    assert 0.05 < len(asked) / len(corpus) < 0.2
    for document in asked:
        assert document.prompt == prompt_text(world.fine_question(document.entity, document.relations))


def test_any_text_survives_the_tokenizer(tokenizer):
    text = "Ünïcode “quotes”, 12.5 % — naïve?\n\n\t日本 🙂 def f(x): return x"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text and tokenizer.unk_token_id not in ids


def test_prompt_and_answer_tokenise_apart_as_together(tokenizer, corpus):
    for document in [document for document in corpus if document.prompt][:50]:
        apart = (
            tokenizer(document.prompt)["input_ids"] + tokenizer(document.text, add_special_tokens=False)["input_ids"]
        )
        assert apart == tokenizer(document.prompt + document.text)["input_ids"]


def test_words_of_the_world_are_single_tokens(world, tokenizer):
    words = {word.strip(".,") for r in world.relations for text in r.templates + r.values for word in text.split()}
    words = {word for word in words if "{" not in word}
    single = sum(len(tokenizer(f" {word}", add_special_tokens=False)["input_ids"]) == 1 for word in words)
    assert single / len(words) > 0.9


def test_the_saved_tokenizer_loads_and_starts_with_bos(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded("Tell me.")["input_ids"] == tokenizer("Tell me.")["input_ids"]
    assert loaded("Tell me.")["input_ids"][0] == loaded.bos_token_id
    assert (loaded.pad_token, loaded.bos_token, loaded.eos_token) == ("<pad>", "<s>", "</s>")


def test_windows_hold_whole_documents_and_never_two_of_one_entity(world, corpus, tokenizer):
    windows = pack(corpus, tokenizer, 128)
    assert max(map(len, windows)) <= 128
    documents_in = Counter()
    for ids in windows:
        texts = tokenizer.decode(ids).removeprefix("<s>").removesuffix("</s>").split("</s><s>")
        names = [world.find_entity(text) for text in texts]
        assert len(names) == len(set(names))
        documents_in.update(texts)
    assert documents_in == Counter(document.prompt + document.text for document in corpus)


def test_a_document_longer_than_the_window_is_named(corpus, tokenizer):
    with pytest.raises(ValueError, match="widen the window"):
        pack(corpus, tokenizer, 16)


def test_the_corpus_is_the_same_twice_and_another_with_another_seed(world, corpus):
    assert documents(World.load(SMALL)) == corpus
    assert documents(World.load(SMALL.replace(base_seed=1))) != corpus
