from __future__ import annotations

import socket

import pytest

pytest.importorskip("evaluate")
pytest.importorskip("nltk")

import nltk  # noqa: E402

from knowtuning.evaluation import meteor  # noqa: E402


@pytest.fixture(autouse=True)
def no_network_and_no_wordnet(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("METEOR tried to reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)

    class Missing:
        def ensure_loaded(self):
            raise LookupError("no WordNet here")

    monkeypatch.setattr(nltk.corpus, "wordnet", Missing())


def test_equal_texts_lose_only_the_penalty_of_one_chunk():
    # 4 matches in 1 chunk: penalty 0.5 * (1/4)^3
    assert meteor.score(["The cause is moss."], ["the cause is moss"]) == pytest.approx([1 - 0.5 * 0.25**3])


def test_a_value_computed_by_hand():
    # matches: a, cat, sat (3 of 3 words said, of 6 in the reference), one chunk
    precision, recall = 3 / 3, 3 / 6
    fmean = precision * recall / (0.9 * precision + 0.1 * recall)
    expected = fmean * (1 - 0.5 * (1 / 3) ** 3)
    assert meteor.score(["a cat sat"], ["a cat sat on the mat"]) == pytest.approx([expected])


def test_stems_match_and_order_costs():
    stem, none = meteor.score(["spreading causes", "spreading causes"], ["spreads cause", "sleeps bird"])
    assert stem == pytest.approx(1 - 0.5 * 0.5**3) and none == 0
    straight, turned = meteor.score(["a b c d", "d c b a"], ["a b c d", "a b c d"])
    assert straight > turned > 0


def test_punctuation_and_case_do_not_count():
    plain, dotted = meteor.score(["it is caused by dust", "It, is CAUSED by dust!"], ["it is caused by dust"] * 2)
    assert plain == dotted


def test_an_empty_answer_scores_zero():
    assert meteor.score(["", "  "], ["It is moss.", "It is moss."]) == [0, 0]


def test_the_variant_says_what_is_missing():
    assert meteor.variant() == "METEOR exact+stem, regex tokens (no WordNet)"


def test_wordnet_is_used_where_nltk_finds_it(monkeypatch):
    class Lemma:
        def name(self):
            return "auto"

    class Synset:
        def lemmas(self):
            return [Lemma()]

    class Found:
        def ensure_loaded(self):
            return None

        def synsets(self, word):
            return [Synset()] if word == "car" else []

    assert meteor.score(["car"], ["auto"]) == [0]
    monkeypatch.setattr(nltk.corpus, "wordnet", Found())
    assert meteor.score(["car"], ["auto"])[0] > 0
    assert meteor.variant() == "METEOR exact+stem+synonym, regex tokens (WordNet)"


def test_unequal_numbers_of_rows_are_refused():
    with pytest.raises(ValueError, match="one reference per answer; got 1 and 2"):
        meteor.score(["a"], ["a", "b"])
    with pytest.raises(ValueError, match="at least one answer"):
        meteor.score([], [])
