"""The authors' own files and MedQuAD's archive, where KNOWTUNING_SHARED_DATA names the folder that holds them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from knowtuning.data.duplicates import duplicate_pairs, leaks, near_duplicates
from knowtuning.data.sources import load, read_source
from knowtuning.data.splits import split

FOLDER = Path(os.environ.get("KNOWTUNING_SHARED_DATA", ""))
pytestmark = pytest.mark.skipif(
    "KNOWTUNING_SHARED_DATA" not in os.environ, reason="KNOWTUNING_SHARED_DATA names no folder with the real data"
)


def test_the_authors_files_load_whole():
    files = {"dolly_train": 4000, "dolly_valid": 200, "medquad_valid": 200, "nq_test": 200}
    for name, rows in files.items():
        loaded = read_source(FOLDER / f"{name}.json")
        assert (len(loaded.rows), loaded.removed) == (rows, {})


def test_the_authors_dolly_repeats_itself():
    train, valid = load(FOLDER / "dolly_train.json"), load(FOLDER / "dolly_valid.json")
    assert (len(duplicate_pairs(train)), len(near_duplicates(train))) == (7, 12)
    assert (len(leaks(train, valid)), len(near_duplicates(train, valid))) == (6, 2)


def test_medquads_archive_is_read_with_every_pair_accounted_for():
    loaded = read_source("medquad", FOLDER / "medquad_xml.tar.xz")
    assert len(loaded.rows) == 14114
    assert loaded.removed == {
        "without an answer": 17353,
        "without a question": 0,
        "documents without any question": 6,
    }
    parts = split(loaded.rows, valid=200, test=200, seed=0, train=1000)
    assert [len(part) for part in parts] == [1000, 200, 200]
    assert leaks(parts.train, parts.valid + parts.test) == []
