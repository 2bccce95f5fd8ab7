from __future__ import annotations

import json

import yaml

from knowtuning.cards.data_cards import card_markdown, data_card
from knowtuning.files import sha256, write_jsonl

LONG = "rust is what comes of iron that is left in the rain for long enough to turn red"


def qa(id, question, answer):
    return {"id": id, "question": question, "answer": answer, "source": "toy"}


PARTS = {
    "train": [
        qa("t1", "What is rust?", LONG),
        qa("t2", "What is rust?", LONG),
        qa("t3", "Why <b>so</b> | red?\n", "a b c"),
    ],
    "test": [qa("x1", "what is  rust?", "Iron oxide – é."), qa("x2", "What now is rust?", f"{LONG} at last")],
}
ORIGIN = {
    "name": "toy",
    "licence": "cc-by-4.0",
    "homepage": "https://example.org",
    "revision": "f" * 40,
    "files": {"toy.json": "0" * 64},
    "citation": "@misc{toy}\n",
}


def test_the_card_counts_words_repeats_and_removals(tmp_path):
    card = data_card(PARTS, ORIGIN, {"without an answer": 5})
    assert json.loads(json.dumps(card)) == card
    assert (card["origin"], card["removed"]) == (ORIGIN, {"without an answer": 5})
    train, test = card["parts"]["train"], card["parts"]["test"]
    assert (train["rows"], test["rows"]) == (3, 2)
    assert train["answer words"] == {"min": 3, "25 %": 3, "median": 18, "75 %": 18, "95 %": 18, "max": 18}
    assert train["question words"]["max"] == 4
    assert train["duplicates"] == {"count": 1, "examples": [{"id": "t2", "like": "t1", "question": "What is rust?"}]}
    assert [example["similarity"] for example in train["near-duplicates"]["examples"]] == [1.0]
    assert test["leaks"]["examples"] == [{"id": "x1", "like": "t1", "question": "what is  rust?"}]
    assert [(e["id"], e["like"]) for e in test["near-duplicates of train"]["examples"]] == [("x2", "t1")]
    assert "leaks" not in train
    for name, part in card["parts"].items():
        assert part["sha256"] == sha256(write_jsonl(tmp_path / f"{name}.jsonl", PARTS[name]))


def test_at_most_five_examples_stand_beside_the_full_count():
    rows = [qa(str(i), "What is rust?", LONG) for i in range(9)]
    train = data_card({"train": rows}, ORIGIN, {})["parts"]["train"]
    assert (train["duplicates"]["count"], len(train["duplicates"]["examples"])) == (8, 5)


def test_the_markdown_has_the_head_that_the_hub_reads():
    text = card_markdown(data_card(PARTS, ORIGIN, {"without an answer": 5}))
    _, head, body = text.split("---\n", 2)
    assert yaml.safe_load(head) == {
        "pretty_name": "KnowTuning: toy",
        "license": "cc-by-4.0",
        "language": "en",
        "task_categories": ["question-answering"],
        "size_categories": ["n<1K"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": "train.jsonl"}, {"split": "test", "path": "test.jsonl"}],
            }
        ],
    }
    for told in ("* 5 without an answer", "@misc{toy}", "f" * 40, "`toy.json`: SHA-256 `000", "* `t2` and `t1`: What"):
        assert told in body
    assert "| train | 3 | 3 | 3 | 3 | 18 |" in body


def test_a_question_cannot_break_the_markdown():
    rows = [qa(str(i), 'Why <script>x</script>\n## so?"', LONG) for i in range(2)]
    text = card_markdown(data_card({"train": rows}, {"name": "toy"}, {}))
    assert "<script>" not in text and "\n## so" not in text
    assert "license: unknown" in text and "No file: the rows were made by this project." in text
