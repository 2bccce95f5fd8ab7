"""Against a stand-in of the hub that speaks its HTTP interface; the hub itself is not reached."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys

import pytest
import yaml
from hub_server import serve

from knowtuning.cards.data_cards import data_card
from knowtuning.cards.push import push
from knowtuning.data import llamafactory, sources
from knowtuning.data.hub import download
from knowtuning.data.registry import Source, registry
from knowtuning.files import DataError, write_json, write_jsonl

TOKEN = "hf_only_in_the_header"
RAW = b"".join(
    json.dumps(row).encode() + b"\n"
    for row in (
        {"instruction": "Why?", "context": "", "response": "one two three four five " * 2, "category": "open_qa"},
        {"instruction": "Sort.", "context": "", "response": "a b", "category": "brainstorming"},
    )
)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with serve() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        yield hub


def source(repo="databricks/databricks-dolly-15k", revision=None, **files) -> Source:
    return registry()["dolly"].model_copy(update={"repo": repo, "revision": revision, "files": files})


def test_a_source_comes_at_its_pinned_commit_not_at_the_newest(hub):
    pinned = hub.add("o/d", {"rows.jsonl": RAW})
    hub.add("o/d", {"rows.jsonl": b"changed since\n"})
    [file], commit = download(source("o/d", pinned, **{"rows.jsonl": hashlib.sha256(RAW).hexdigest()}))
    assert (file.name, file.read_bytes(), commit) == ("rows.jsonl", RAW, pinned)
    asked = len(hub.seen)
    assert download(source("o/d", pinned, **{"rows.jsonl": None}))[0] == [file]
    assert len(hub.seen) == asked, "a pinned file in the cache is asked for again"
    assert not any(token for _, _, token, _ in hub.seen)


def test_without_a_revision_the_newest_commit_is_taken_and_told_and_patterns_are_filled(hub):
    hub.add("o/d", {"pair/train-0.jsonl": b"old"})
    newest = hub.add("o/d", {"pair/train-0.jsonl": RAW, "pair/train-1.jsonl": RAW, "README.md": b"#"})
    files, commit = download(source("o/d", None, **{"pair/train-*.jsonl": None}))
    assert ([file.name for file in files], commit) == (["train-0.jsonl", "train-1.jsonl"], newest)


def test_a_named_source_is_filtered_and_tells_its_origin(hub, monkeypatch):
    commit = hub.add("o/d", {"rows.jsonl": RAW})
    monkeypatch.setattr(sources, "registry", lambda: {"dolly": source("o/d", commit, **{"rows.jsonl": None})})
    loaded = sources.read_source("dolly")
    assert [row["question"] for row in loaded.rows] == ["Why?"]
    assert loaded.removed == {"of another category": 1, "with a context": 0, "under 10 answer words": 0}
    assert (loaded.origin["repository"], loaded.origin["revision"]) == ("o/d", commit)
    assert loaded.origin["files"] == {"rows.jsonl": hashlib.sha256(RAW).hexdigest()}
    assert loaded.origin["licence"] == "cc-by-sa-3.0"


def test_what_the_hub_refuses_is_one_sentence_with_the_cure(hub, monkeypatch):
    commit = hub.add("o/d", {"rows.jsonl": RAW})
    with pytest.raises(DataError, match=r"o/d at .*: rows\.jsonl has the SHA-256 .*, not 0{64}; delete it"):
        download(source("o/d", commit, **{"rows.jsonl": "0" * 64}))
    for wrong in (source("o/none", commit, a=None), source("o/d", "f" * 40, a=None), source("o/d", commit, a=None)):
        with pytest.raises(DataError, match=r"^o/\w+ at \w{40} cannot be fetched \(.*give the path of a local copy\.$"):
            download(wrong)
    with pytest.raises(DataError, match=r"has no file called none-\*; correct the registry"):
        download(source("o/d", commit, **{"none-*": None}))
    hub.gated.add("o/d")
    with pytest.raises(DataError, match="accept the conditions"):
        download(source("o/d", None, **{"*.jsonl": None}))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert download(source("o/d", None, **{"*.jsonl": None}))[1] == commit
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DataError, match="check the network"):
        download(source("o/d", None, **{"*": None}))


@pytest.fixture
def run(tmp_path):
    rows = [{"id": f"r{i}", "question": f"Q{i}?", "answer": f"Answer {i}.", "source": "toy"} for i in range(4)]
    parts = {"train": rows[:2], "valid": rows[2:3], "test": rows[3:]}
    folder = tmp_path / "run"
    for name, part in parts.items():
        write_jsonl(folder / f"data/{name}.jsonl", part)
    write_json(folder / "data/card.json", data_card(parts, {"name": "toy", "licence": "cc-by-4.0"}, {}))
    llamafactory.write_alpaca(folder / "ka.json", rows[:2])
    llamafactory.write_ranking(folder / "kc.json", [{"question": "Q0?", "chosen": "good", "rejected": "bad"}])
    for name, of in (("ka", ["r0", "r1"]), ("kc", ["r0"])):
        write_jsonl(folder / f"{name}.provenance.jsonl", [{"id": id, "facts": ["One."]} for id in of])
    llamafactory.write_dataset_info(folder, "ka", "ka.json")
    llamafactory.write_dataset_info(folder, "kc", "kc.json", ranking=True)
    return folder


def test_a_run_is_pushed_in_one_commit_and_loads_from_there(hub, run, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    url = push(run, "o/knowtuning-toy")
    commit = hub.heads["o/knowtuning-toy"]
    assert url == f"{hub.url}/datasets/o/knowtuning-toy/commit/{commit}"
    [created] = [json.loads(body) for _, path, _, body in hub.seen if path == "/api/repos/create"]
    assert (created["visibility"], created["type"]) == ("private", "dataset")
    assert len(hub.asked("/commit/")) == 1
    files = hub.commits["o/knowtuning-toy", commit]
    names = ["data/card.json", "data/train.jsonl", "data/valid.jsonl", "data/test.jsonl", "ka.json", "kc.json"]
    names += ["ka.provenance.jsonl", "kc.provenance.jsonl"]
    assert sorted(files) == sorted(["README.md", "dataset_info.json", *names])
    assert all(files[name] == (run / name).read_bytes() for name in files if name != "README.md")
    head = yaml.safe_load(files["README.md"].decode().split("---\n")[1])
    assert (head["license"], [config["config_name"] for config in head["configs"]]) == (
        "cc-by-4.0",
        ["default", "ka", "ka_provenance", "kc", "kc_provenance"],
    )
    assert not any(TOKEN.encode() in body for _, _, _, body in hub.seen), "the token is in a body"
    assert {token for _, _, token, _ in hub.seen} <= {f"Bearer {TOKEN}"}

    script = (
        "import sys; from datasets import load_dataset\n"
        "load = lambda *which: load_dataset('o/knowtuning-toy', *which, revision=sys.argv[1])\n"
        "print({part: table.num_rows for part, table in load().items()})\n"
        "print(load('ka')['train'][1], load('kc')['train'][0])"
    )
    push(run, "o/knowtuning-toy")  # a second push goes into the same repository, and the pinned commit still loads
    # HF_ENDPOINT and HF_HOME are read when huggingface_hub is imported
    environment = os.environ | {"HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    command = [sys.executable, "-c", script, commit]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == (
        "{'train': 2, 'validation': 1, 'test': 1}\n"
        "{'instruction': 'Q1?', 'input': '', 'output': 'Answer 1.'} "
        "{'instruction': 'Q0?', 'input': '', 'chosen': 'good', 'rejected': 'bad'}"
    )


def test_a_push_that_cannot_work_is_refused_before_anything_is_sent(hub, run, monkeypatch):
    with pytest.raises(DataError, match="HF_TOKEN is not set"):
        push(run, "o/d")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    (run / "kc.json").unlink()
    with pytest.raises(DataError, match=r"has no kc\.json; run the notebooks 01, 05 and 06 first"):
        push(run, "o/d")
    assert hub.seen == []
    llamafactory.write_ranking(run / "kc.json", [{"question": "Q0?", "chosen": "good", "rejected": "bad"}])
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DataError, match=r"o/d cannot be written .*HF_TOKEN's rights") as error:
        push(run, "o/d")
    assert TOKEN not in str(error.value)
