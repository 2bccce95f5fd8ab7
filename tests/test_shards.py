"""The stages over slices of the rows: the same as over all of them, whatever is killed, repeated or missing."""

import hashlib
import shutil
import sqlite3
from contextlib import closing, contextmanager

import pytest
from teacher_server import serving

from knowtuning.cli import main
from knowtuning.files import ROOT, DataError, read_json, read_jsonl, write_json, write_jsonl
from knowtuning.knowledge.difficulty import perplexity, score_facts
from knowtuning.knowledge.pipeline import Method, augmented, make, write_ka, write_kc
from knowtuning.lab import annotators
from knowtuning.lab.oracle import Oracle
from knowtuning.lab.world import World
from knowtuning.recipe import get_recipe
from knowtuning.run import Run
from knowtuning.shards import shard as module
from knowtuning.shards.gather import gather, scores, share, write_artefacts
from knowtuning.shards.shard import STAGES, Shard, blocks, load_scorer, parse_shard, run_stage, scored_by
from knowtuning.teacher.budget import Price
from knowtuning.teacher.client import Teacher
from knowtuning.teacher.record import Known, Record, Reply, record_path

SMOKE = get_recipe("smoke").lab

ROWS = annotators.annotate(SMOKE, 0).train
WORLD = World.load(SMOKE)


def hashed(facts, questions):
    """Scores that are quick to make and depend on the fact alone."""
    places = [(row["id"], index, fact) for row in facts for index, fact in enumerate(row["facts"])]
    nll = {fact: hashlib.sha256(fact.encode()).digest()[0] / 8 for _, _, fact in places}
    return [
        {"id": name, "index": i, "fact": fact, "nll": nll[fact], "tokens": 9, "perplexity": perplexity(nll[fact], 9)}
        for name, i, fact in places
    ]


@pytest.fixture
def run():
    run = Run("04_difficult_knowledge", "smoke", 0)
    write_jsonl(run.path("data/train.jsonl"), ROWS)
    return run


@pytest.fixture
def oracle(monkeypatch):
    with serving(model=Oracle(WORLD).answer) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        yield server


def work(run, stage, text, **options):
    return run_stage(stage, parse_shard(text), run, "stub", scorer=hashed, **options)


@contextmanager
def teacher_of(run):
    with Teacher("stub", run.teacher) as teacher:
        yield teacher


def refused(words, capsys):
    """Run a command that must end with one sentence, and return it."""
    assert main(words) == 1
    error = capsys.readouterr().err
    assert error.startswith("knowtuning: ") and error.count("\n") == 1
    return error


@pytest.mark.parametrize(("rows", "of"), [(36, 3), (100, 8), (5, 5), (2, 5)])
def test_every_row_is_in_one_shard(rows, of):
    bounds = [Shard(number, of).bounds(rows) for number in range(1, of + 1)]
    assert [row for start, stop in bounds for row in range(start, stop)] == list(range(rows))


def test_a_block_comes_with_its_rows_of_the_stage_before(tmp_path):
    rows = [{"id": name} for name in "abcde"]
    earlier = write_jsonl(tmp_path / "x.jsonl", [{"id": name, "n": n} for name in "abe" for n in (1, 2)])
    found = [([r["id"] for r in mine], [r["id"] for r in before]) for mine, before in blocks(iter(rows), earlier, 2)]
    assert found == [(["a", "b"], ["a", "a", "b", "b"]), (["c", "d"], []), (["e"], ["e", "e"])]


def test_rows_of_other_data_are_refused(tmp_path):
    earlier = write_jsonl(tmp_path / "x.jsonl", [{"id": "a"}, {"id": "z"}])
    with pytest.raises(DataError, match="id 'z' is not where it stands in data/train.jsonl"):
        list(blocks(iter([{"id": "a"}, {"id": "b"}]), earlier, 1))


def test_shards_gathered_are_what_the_notebooks_make_and_nothing_is_asked_again(run, oracle):
    for stage in STAGES:
        for number in (3, 1, 2):
            work(run, stage, f"{number}/3", block=5)
    assert gather(run, 3) == {"shards": 3, "replies": 4 * len(ROWS), "quarantined": 0}
    counts = write_artefacts(run, 3)
    made = {path.name: path.read_bytes() for path in run.root.iterdir() if path.is_file()}

    asked = len(oracle.requests)
    with teacher_of(run) as teacher:
        alone = make(teacher, hashed, ROWS, Method())
    assert len(oracle.requests) == asked, "a call was repeated"
    assert all(counts[stage] == alone.counts[stage] for stage in ("extract", "rewrite", "disturb"))
    assert counts["teacher_asked"] == sum(task["asked"] for task in teacher.counts.values())

    run.write("facts.jsonl", alone.facts)
    run.write("difficulty.jsonl", alone.difficulty)
    write_ka(run, list(augmented(ROWS, alone.rewritten)))
    write_kc(run, alone.pairs)
    assert made == {path.name: path.read_bytes() for path in run.root.iterdir() if path.is_file()}
    assert set(read_json(run.path("dataset_info.json"))) == {"ka", "kc"}


def test_a_killed_shard_asks_only_what_is_not_on_record(run, oracle):
    def kill(done, **numbers):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work(run, "extract", "1/2", block=5, tick=kill)
    shard = Shard(1, 2)
    assert len(oracle.requests) == 5 and not shard.output(run, "extract").exists()
    torn = shard.output(run, "extract").with_name(".facts.jsonl.123.partial")  # as SIGKILL leaves it
    torn.write_text('{"id": "ro')
    account = work(run, "extract", "1/2", block=5)
    assert len(oracle.requests) == 18 == account["counts"]["answers"]
    assert account["teacher"]["from_cache"] == 5 and not torn.exists()
    assert [row["id"] for row in read_jsonl(shard.output(run, "extract"))] == [row["id"] for row in ROWS[:18]]


def test_a_shard_asked_by_batches_says_the_same(run, oracle):
    work(run, "extract", "1/2")
    one_by_one = Shard(1, 2).output(run, "extract").read_bytes()
    shutil.rmtree(run.teacher)
    account = work(run, "extract", "1/2", block=7, batch=True, poll=0.02)
    assert Shard(1, 2).output(run, "extract").read_bytes() == one_by_one
    with Record(Shard(1, 2).teacher(run)) as record:
        spent = record.spending()
    assert account["teacher"]["calls"] == 18 and (spent["stub", False].replies, spent["stub", True].replies) == (1, 17)


def test_the_command_says_what_came_out_and_takes_its_progress_away(run, oracle, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("knowtuning.teacher.client.load_price", lambda model: Price(1.0, 1.0, 0.5))
    progress = tmp_path / "new" / "progress.json"
    words = ["shard", "extract", "2/3", "--recipe", "smoke", "--teacher", "stub", "--progress", str(progress)]
    assert main([*words, "--max-cost", "50"]) == 0
    said = capsys.readouterr().out
    assert "extract 2/3: 12 answers" in said and "shards/2-of-3/facts.jsonl" in said and not progress.exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["extract", "3"], "shard '3': write I/N"),
        (["extract", "9/8"], "shard 9/8 does not exist"),
        (["extract", "0/8"], "shard 0/8 does not exist"),
        (["extrac", "1/2"], "stage 'extrac' is unknown"),
        (["score", "1/2"], "run `knowtuning shard extract 1/2 --recipe smoke --seed 0` first"),
        (["rewrite", "1/2"], "run `knowtuning shard score 1/2 --recipe smoke --seed 0` first"),
    ],
)
def test_a_shard_that_cannot_be_done_is_refused(run, words, sentence, capsys):
    assert sentence in refused(["shard", *words, "--recipe", "smoke"], capsys)


def test_a_shard_without_rows_names_the_notebook(capsys):
    sentence = refused(["shard", "extract", "1/2", "--recipe", "smoke"], capsys)
    assert "run notebook 01_questions_and_answers first" in sentence


def test_ranking_over_the_dataset_is_refused(run, tmp_path, monkeypatch, capsys):
    name = "04_difficult_knowledge.ipynb"
    text = (ROOT / "notebooks" / name).read_text(encoding="utf-8")
    assert '\\"answer\\"' in text
    (tmp_path / name).write_text(text.replace('scope: str = \\"answer\\"', 'scope: str = \\"dataset\\"'))
    monkeypatch.setattr(module, "NOTEBOOKS", tmp_path)
    write_jsonl(Shard(1, 2).output(run, "extract"), [])
    assert "scope='dataset'" in refused(["shard", "score", "1/2", "--recipe", "smoke"], capsys)
    assert "scope='dataset'" in refused(["walk", "--recipe", "smoke", "--shards", "2"], capsys)


def test_a_gathering_of_nothing_is_refused(run, capsys):
    assert "holds no shard of 4" in refused(["gather", "--recipe", "smoke", "--shards", "4"], capsys)


def reply(key, raw="yes", batch=False):
    """A reply of a million tokens; one that could not be used where `raw` is None."""
    return Reply(key, "rephrase", "stub", raw or "", None if raw else "no", 9, 1_000_000, 0, batch=batch)


def put(folder, *replies):
    with Record(folder) as record:
        record.add(replies)


def known(run, *keys):
    with Record(run.teacher) as record:
        return dict(record.find(keys, 9))


def test_gathering_again_adds_only_what_is_new(run):
    shard = Shard(1, 2).teacher(run)
    put(run.teacher, reply("a"))
    put(shard, reply("a", "no"), reply("b"), *[reply("c", None)] * 3)
    assert gather(run, 2)["replies"] == 4
    assert gather(run, 2)["replies"] == 0
    assert known(run, "a", "c") == {"a": Known("yes"), "c": Known(None, 3, "no", "")}
    with Record(shard) as record:
        record.forgive("c")
    put(shard, reply("c", None), reply("c"))
    assert gather(run, 2)["replies"] == 2
    assert gather(run, 2)["replies"] == 0
    assert known(run, "c")["c"].raw == "yes" and shards_of(run) == [None] + ["1/2"] * 6


def shards_of(run):
    with closing(sqlite3.connect(record_path(run.teacher))) as database:
        return [shard for (shard,) in database.execute("select shard from reply order by place")]


def test_rows_that_a_shard_gave_up_move_to_the_list_of_the_run(run):
    failed = {"id": "r1", "task": "extract", "reason": "no", "raw": None, "attempts": 3}
    with Record(Shard(2, 2).teacher(run)) as record:
        record.add([reply("a")])
        record.settle("extract", [], [failed])
    assert gather(run, 2)["quarantined"] == 1
    assert read_jsonl(run.teacher / "quarantine.jsonl") == [failed]
    with Record(run.teacher) as record:
        record.settle("extract", ["r1"], [])  # healed by the notebook, it stays healed
    assert gather(run, 2)["quarantined"] == 0 and read_jsonl(run.teacher / "quarantine.jsonl") == []


def test_each_shard_may_spend_its_part_of_what_others_left(run):
    price_of = {"stub": Price(1.0, 1.0)}.get
    assert share(run, 4, 5.0, price_of) == 1.25
    put(run.teacher, reply("a"))
    for shard, key in ((Shard(1, 4), "b"), (Shard(1, 14), "c")):
        put(shard.teacher(run), reply(key))
        gather(run, shard.of)
    assert share(run, 4, 5.0, price_of) == pytest.approx(0.75)  # "b" is a shard's of these four
    assert share(run, 4, 1.0, price_of) == 0.0


def test_scores_are_known_while_the_adapter_is_the_same(run):
    adapter = run.path("adapters/sft/adapter_model.safetensors")
    adapter.parent.mkdir(parents=True)
    adapter.write_bytes(b"one")
    shard = Shard(1, 2)
    write_jsonl(shard.output(run, "score"), [{"id": "r", "index": 0, "fact": "F.", "nll": 2.0, "tokens": 3}])
    write_json(shard.output(run, "score").with_suffix(".json"), {"scored_by": scored_by(run, True)})
    assert scores(run) == {("r", 0, "F."): (2.0, 3)}
    alone = Run("04_difficult_knowledge", "smoke", 0, condition_on_question=False)
    assert scores(alone) == {}
    adapter.write_bytes(b"another")
    assert scores(run) == {}


def test_stub_scores_are_never_taken_for_the_models(run, oracle):
    work(run, "extract", "1/2")
    work(run, "score", "1/2")
    run.path("adapters/sft").mkdir(parents=True)
    assert scores(run) == {}


def test_the_scorer_is_the_sft_model_of_the_run(run, untrained_base):
    from knowtuning.training import models

    shutil.copytree(untrained_base, run.runs / "smoke" / "base")
    base = models.load_base(untrained_base, run.recipe.quantisation)
    models.save_adapter(models.new_adapter(base, run.recipe, seed=0), run.path("adapters/sft"), "A test.")
    facts = [{"id": row["id"], "facts": row["answer"].split(". ")} for row in ROWS[:3]]
    questions = {row["id"]: row["question"] for row in ROWS}
    found = load_scorer(run)(facts, questions)
    tokenizer = models.load_tokenizer(untrained_base, run.recipe.prompt)
    expected = score_facts(models.load_base(untrained_base, run.recipe.quantisation), tokenizer, facts, questions)
    assert [row["fact"] for row in found] == [fact for row in facts for fact in row["facts"]]
    for one, other in zip(found, expected, strict=True):
        assert one["perplexity"] == pytest.approx(other["perplexity"], rel=1e-4)
