from __future__ import annotations

import json

import pytest

from knowtuning.data.llamafactory import read_ka, read_kc
from knowtuning.files import DataError
from knowtuning.knowledge.pipeline import of_aspects

ASPECTS = ("completeness", "factuality", "logicality")
TRAIN = [
    {"id": "d1", "question": "A?", "answer": "B.", "source": "dolly"},
    {"id": "d2", "question": "C?", "answer": "D.", "source": "dolly"},
    {"id": "d3", "question": "C?", "answer": "D.", "source": "dolly"},
]


def write(path, rows):
    path.write_text(json.dumps(rows))
    return path


def alpaca(question, answer):
    return {"instruction": question, "input": "", "output": answer}


def test_originals_are_told_by_the_training_rows_and_come_first(tmp_path):
    file = [alpaca("More of A?", "E."), alpaca("C?", "D."), alpaca("A?", "B."), alpaca("C?", "D."), alpaca("A?", "F.")]
    rows = read_ka(write(tmp_path / "dolly_KA.json", file), TRAIN)
    assert [(row["id"], row["from"], row["question"], row["answer"]) for row in rows] == [
        ("d2", "original", "C?", "D."),
        ("d1", "original", "A?", "B."),
        ("d3", "original", "C?", "D."),
        ("dolly_KA-00001", "rewritten", "More of A?", "E."),
        ("dolly_KA-00005", "rewritten", "A?", "F."),
    ]
    assert all(row["facts"] == [] for row in rows)


def test_pairs_of_both_forms_are_read_and_their_aspect_is_unknown_unless_told(tmp_path):
    old = {"instruction": "C?", "input": "", "output": ["good", "bad"]}
    new = {"instruction": "Z?", "input": "", "chosen": "good", "rejected": "bad", "aspect": "factuality"}
    pairs = read_kc(write(tmp_path / "dolly_KC.json", [old, new]), TRAIN)
    rest = {"chosen": "good", "rejected": "bad", "facts": [], "disturbed": []}
    assert pairs == [
        {"id": "d2", "aspect": "unknown", "question": "C?"} | rest,
        {"id": "dolly_KC-00002", "aspect": "factuality", "question": "Z?"} | rest,
    ]


def test_pairs_of_unknown_aspect_serve_an_arm_that_wants_all_and_no_other():
    pairs = [{"question": q, "chosen": "x", "rejected": "y"} for q in "ABC"]
    unknown = [{"aspect": "unknown"}] * 3
    assert of_aspects(pairs, unknown, ASPECTS) == [pair | {"aspect": "unknown"} for pair in pairs]
    with pytest.raises(DataError, match="does not tell the aspect of its pairs, so factuality, logicality cannot"):
        of_aspects(pairs, unknown, ASPECTS[1:])
    told = [{"aspect": aspect} for aspect in ASPECTS]
    assert of_aspects(pairs, told, ["factuality"]) == [pairs[1] | {"aspect": "factuality"}]
    assert len(of_aspects(pairs, told, [])) == 3, "no aspect wanted by name: all that there are"
    with pytest.raises(DataError, match="there are 3 pairs and the provenance of 2; run the notebook that writes them"):
        of_aspects(pairs, told[:2], ASPECTS)
