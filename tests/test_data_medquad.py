from __future__ import annotations

import io
import json
import tarfile
import zipfile

import pytest

from knowtuning.data.sources import load, read_source
from knowtuning.files import DataError


def document(number, source, *pairs):
    text = "".join(
        f'<QAPair pid="{i}"><Question qid="{number}-{i}" qtype="x">{q}</Question><Answer>{a}</Answer></QAPair>'
        for i, (q, a) in enumerate(pairs, start=1)
    )
    return f'<?xml version="1.0"?>\n<Document id="{number}" source="{source}"><QAPairs>\n{text}</QAPairs></Document>'


DOCUMENTS = {
    "2_GARD_QA/0000001.xml": document("0000001", "GARD", ("What is A &amp; B ?", "\n It\n  is. \n"), ("How ?", "  ")),
    "10_ADAM_QA/0000001.xml": document("0000001", "ADAM", ("What ?", ""), ("Why ?", "Because.")),
    "1_CancerGov_QA/0000013_2.xml": document("0000013_2", "CancerGov", ("Who ?", "One.")),
    "1_CancerGov_QA/0000013_2_1.xml": document("0000013_2", "CancerGov", ("Who else ?", "Two.")),
    "6_NINDS_QA/0000007.xml": '<doc docid="0000007" corpus="NINDS"><qaPairs><pair pid="1"><question qid="0000007-1">'
    "Other tags?</question><answer>Read as <b>well</b>.</answer></pair></qaPairs></doc>",
    "5_NIDDK_QA/0000056.xml": document("0000056", "NIDDK"),
}
ROWS = [
    ("CancerGov-0000013_2-1", "Who ?", "One."),
    ("CancerGov-0000013_2_1-1", "Who else ?", "Two."),
    ("ADAM-0000001-2", "Why ?", "Because."),
    ("GARD-0000001-1", "What is A & B ?", "It\n  is."),
    ("NINDS-0000007-1", "Other tags?", "Read as well."),
]
REMOVED = {"without an answer": 2, "without a question": 0, "documents without any question": 1}


def as_folder(path, documents):
    for name, text in documents.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    return path


def as_zip(path, documents):
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in reversed(documents.items()):
            archive.writestr(f"MedQuAD-master/{name}", text)
        archive.writestr("__MACOSX/2_GARD_QA/._0000001.xml", b"\0no XML")
        archive.writestr("MedQuAD-master/readme.txt", "no document")
    return path


def as_tar(path, documents):
    with tarfile.open(path, "w:xz") as archive:
        for name, text in documents.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


@pytest.mark.parametrize(("form", "name"), [(as_folder, "MedQuAD"), (as_zip, "m.zip"), (as_tar, "m.tar.xz")])
def test_folder_and_archives_give_the_same_rows_in_the_same_order(tmp_path, form, name):
    loaded = read_source("medquad", form(tmp_path / name, DOCUMENTS))
    assert sorted((row["id"], row["question"], row["answer"]) for row in loaded.rows) == sorted(ROWS)
    assert [row["id"] for row in loaded.rows] == [
        row["id"] for row in load(as_folder(tmp_path / "again", dict(reversed(DOCUMENTS.items()))))
    ]
    assert loaded.removed == REMOVED
    assert {row["source"] for row in loaded.rows} == {"CancerGov", "ADAM", "GARD", "NINDS"}
    assert (loaded.origin["licence"], list(loaded.origin["files"])) == ("cc-by-4.0", [name])


def test_one_document_is_read(tmp_path):
    as_folder(tmp_path, DOCUMENTS)
    assert [row["id"] for row in load(tmp_path / "2_GARD_QA" / "0000001.xml")] == ["GARD-0000001-1"]


BOMB = '<!DOCTYPE d [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><Document source="X"><Focus>&b;</Focus></Document>'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "not a safe XML document"),
        (
            '<!DOCTYPE d [<!ENTITY a SYSTEM "file:///etc/hostname">]><Document source="X">&a;</Document>',
            "not a safe XML",
        ),
        ("<Document", "not a safe XML document"),
        ("<html></html>", "the tag <html> names no 'source'; give documents of MedQuAD only."),
        (
            '<Document source="X"><QAPair><Question>A?</Question></QAPair></Document>',
            "a <QAPair> lacks <Question qid=…>",
        ),
    ],
)
def test_a_document_that_cannot_be_used_is_named_inside_its_archive(tmp_path, text, message):
    path = as_tar(tmp_path / "m.tar.xz", {"1_X/good.xml": DOCUMENTS["2_GARD_QA/0000001.xml"], "1_X/bad.xml": text})
    with pytest.raises(DataError) as error:
        load(path)
    assert str(error.value).startswith(f"{path}, 1_X/bad.xml: ")
    assert message in str(error.value)


def test_what_holds_no_document_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.zip").write_bytes(b"PK no archive")
    (tmp_path / "broken.tar.xz").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"empty holds no \.xml document; give MedQuAD's folder"):
        load(tmp_path / "empty")
    for name in ("broken.zip", "broken.tar.xz"):
        with pytest.raises(DataError, match=f"{name} cannot be read as an archive"):
            load(tmp_path / name)
    with pytest.raises(DataError, match=r"none\.xml is missing"):
        load(tmp_path / "none.xml")


@pytest.mark.parametrize(
    ("name", "text", "source"),
    [
        ("kaggle.csv", "question,answer,source,focus_area\nA ?,B.,NIHSeniorHealth,C\nD ?,,GARD,E\n", "NIHSeniorHealth"),
        ("types.csv", "qtype,Question,Answer\ninformation,A ?,B.\ntreatment,D ?,\n", "medquad"),
        (
            "hub.jsonl",
            '{"document_source": "GHR", "question_focus": "C", "question": "A ?", "answer": "B."}\n'
            '{"document_source": "ADAM", "question_focus": "C", "question": "D ?", "answer": null}\n',
            "GHR",
        ),
    ],
)
def test_tables_of_medquad_are_read_and_their_empty_answers_counted(tmp_path, name, text, source):
    (tmp_path / name).write_text(text)
    loaded = read_source(tmp_path / name)
    assert loaded.rows == [{"id": "medquad-00001", "question": "A ?", "answer": "B.", "source": source}]
    assert loaded.removed == {"without an answer": 1, "without a question": 0}
    assert json.dumps(loaded.origin)
