"""The walk at recipe smoke: all notebooks in order, nothing twice, and only what is missing is made again."""

import fcntl
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psutil
import pytest

from knowtuning.execute import SOLUTIONS
from knowtuning.files import ROOT, read_jsonl
from knowtuning.walk import Plan, _as_options, _stop, _told_to_stop, running_stages
from study.plan import STUDIED

LIMIT = 1200  # seconds: a hang, and no busy machine


def test_the_plan_follows_snakemakes_events():
    plan = Plan()
    for event in (
        {"planned": {"base_model": 1, "evaluation": 2, "all": 1, "total": 4}},
        {"started": 3, "rule": "base_model"},
        {"failed": 3, "logs": ["a.log"]},
        {"started": 3, "rule": "base_model"},
    ):
        assert plan.read(json.dumps(event)) is None
    assert plan.planned == {"base_model": 1, "evaluation": 2} and list(plan.running) == [3]
    assert plan.read(json.dumps({"finished": 3})) == "base_model" and plan.read(json.dumps({"finished": 0})) is None
    assert plan.finished == ["base_model"] and plan.running == {} and [path.name for path in plan.logs] == ["a.log"]
    assert plan.seconds_left({"base_model": 60, "evaluation": 30}, elapsed=120) == 120


def write_state(folder, name, **told):
    state = {
        "stage": name,
        "done": 1,
        "total": 4,
        "unit": "rows",
        "rate": None,
        "left": None,
        "numbers": {},
        "said": "",
    }
    (folder / f"{name}.json").write_text(json.dumps(state | told))


def test_shards_of_a_stage_are_told_together(tmp_path):
    write_state(tmp_path, "extract_1-of-3", done=10, total=40)
    write_state(tmp_path, "extract_3-of-3", done=20, total=20)
    write_state(tmp_path, "02_vanilla_sft", stage="training", left=75.0, rate=2.0, unit="steps", said="loss 1.20")
    told = "02 training 25% (01:15 left, loss 1.20, 2.0 steps/s), extract 2 shards 50%"
    assert running_stages(tmp_path) == (told, 75.0)


def test_costs_failures_and_speeds_of_shards_add_up(tmp_path):
    for number, (rate, left, cost, failed) in enumerate([(10.0, 65.0, 1.25, 2), (5.5, 30.0, 1.5, 1)]):
        numbers = {"cost": cost, "failed": failed}
        write_state(tmp_path, f"extract_{number}-of-2", rate=rate, left=left, numbers=numbers, said="not this")
    assert running_stages(tmp_path)[0] == "extract 2 shards 25% (01:05 left, $2.75, 3 failed, 15.5 rows/s)"


def test_shards_are_told_how_the_teacher_is_paid():
    assert _as_options("max_cost=5.0 batch=true") == "--max-cost=5.0 --batch" and _as_options("") == ""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


SECRET = "sk-planted-" + "0123456789abcdef" * 2


def walk(runs, *options):
    environment = {**os.environ, "KNOWTUNING_RUNS": str(runs), "OPENAI_API_KEY": SECRET, "HF_TOKEN": SECRET}
    command = [sys.executable, "-m", "knowtuning", "walk", "--recipe", "smoke", "--cores", "2", *options]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT)


def results(runs):
    environment = {**os.environ, "KNOWTUNING_RUNS": str(runs)}
    command = [sys.executable, "-m", "study", "results", "--study", "smoke", "--cores", "2"]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT)


def artefacts(runs):
    return {
        path: path.stat().st_mtime_ns for path in runs.rglob("*") if path.is_file() and "progress" not in path.parts
    }


@pytest.mark.smoke
class TestSmoke:
    """In the order written: each step stands on the one before."""

    def test_all_notebooks_run_in_order(self, runs):
        done = walk(runs)
        assert done.returncode == 0, done.stdout + done.stderr
        run = runs / "smoke" / "seed-0"
        executed = {path.stem for path in (run / "notebooks").glob("*.ipynb")}
        assert executed == {
            "01_questions_and_answers",
            "02_vanilla_sft",
            "03_extraction",
            "04_difficult_knowledge",
            "05_rewriting",
            "06_disturbance",
            "07_knowledge_augmentation",
            "08_knowledge_comparison.knowtuning",
            "09_evaluation.sft",
            "09_evaluation.ka",
            "09_evaluation.knowtuning",
        }
        for arm in ("sft", "ka", "knowtuning"):
            scores = json.loads((run / "scores" / f"{arm}.json").read_text())
            assert set(scores["decodings"]) == {"greedy", "sampled"}
            assert arm in done.stdout
        assert "completeness" in done.stdout and "figures" in done.stdout
        assert len(json.loads((run / "kc.json").read_text())) > 0

    def test_every_manifest_is_whole(self, runs):
        for path in (runs / "smoke").rglob("manifests/*.json"):
            manifest = json.loads(path.read_text())
            assert manifest["writes"] and manifest["seconds"] > 0 and manifest["versions"]["trl"] != "not installed"

    def test_the_solutions_run_on_the_walk_and_leave_it_as_it_was(self, runs, tmp_path):
        before = artefacts(runs)

        def solve(name):
            one_thread = {"KNOWTUNING_RUNS": str(runs), "OMP_NUM_THREADS": "1"}
            return execute(tmp_path / name, f"solutions/{name}", "recipe=smoke", **one_thread)

        names = [path.stem for path in sorted(SOLUTIONS.glob("*.ipynb"))]
        with ThreadPoolExecutor(2) as two_at_a_time:
            done = dict(zip(names, two_at_a_time.map(solve, names), strict=True))
        failed = {name: said(process) for name, process in done.items() if process.returncode}
        assert names and not failed
        assert artefacts(runs) == before

    def test_the_appendix_on_teacher_errors_runs_on_the_walk(self, runs, tmp_path):
        shutil.copytree(runs / "smoke", tmp_path / "smoke")
        done = execute(tmp_path, "A1_teacher_errors", "recipe=smoke", "recipes=smoke")
        assert done.returncode == 0, done.stderr
        quality = json.loads((tmp_path / "smoke" / "seed-0" / "teacher_quality.json").read_text())
        assert quality["quality"]["answers"] == 60 and len(quality["measured"]) == 12

    def test_the_notebooks_on_baselines_and_on_people_run_on_the_walk(self, runs, tmp_path):
        shutil.copytree(runs / "smoke", tmp_path / "smoke")
        given = ("recipe=smoke", "responses=3", "confidence_samples=3")
        done = execute(tmp_path, "10_baselines", *given)
        assert done.returncode == 0, done.stderr
        made = tmp_path / "smoke" / "seed-0"
        for arm in ("rlaif", "facttune", "facttune_mc"):
            pairs = json.loads((made / "pairs" / f"{arm}.json").read_text())
            assert len(pairs) == len(read_jsonl(made / "pairs" / f"{arm}.provenance.jsonl")) > 0
        done = execute(tmp_path, "08_knowledge_comparison", "recipe=smoke", "arm=rlaif", "start=sft", "aspects=")
        assert done.returncode == 0, done.stderr
        done = execute(tmp_path, "12_human_evaluation", "recipe=smoke", "count=5")
        assert done.returncode == 0, done.stderr
        verdicts = read_jsonl(made / "judge" / "knowtuning.sft.jsonl")
        assert {row["aspect"] for row in verdicts} == {"completeness", "factuality", "logicality"}

    def test_no_artefact_carries_a_path_of_this_machine(self, runs):
        for path in (runs / "smoke").rglob("*"):
            if path.suffix in (".ipynb", ".json", ".jsonl", ".md") and "progress" not in path.parts:
                text = path.read_text(encoding="utf-8")
                assert str(ROOT) not in text and str(runs) not in text, path

    def test_no_artefact_carries_a_key(self, runs):
        searched = 0
        for path in runs.rglob("*"):
            if path.is_file():
                searched += 1
                assert SECRET.encode() not in path.read_bytes(), path
        assert searched > 60

    def test_the_users_own_ka_and_kc_files_take_the_place_of_ours(self, runs, tmp_path):
        run = runs / "smoke" / "seed-0"
        shutil.copytree(run / "data", tmp_path / "smoke" / "seed-0" / "data")
        pairs = json.loads((run / "kc.json").read_text())
        older = [{"instruction": p["instruction"], "input": "", "output": [p["chosen"], p["rejected"]]} for p in pairs]
        (tmp_path / "dolly_KC.json").write_text(json.dumps(older))
        shutil.copyfile(run / "ka.json", tmp_path / "dolly_KA.json")
        for notebook, given in (("05_rewriting", "dolly_KA.json"), ("06_disturbance", "dolly_KC.json")):
            done = execute(tmp_path, notebook, "recipe=smoke", f"given={tmp_path / given}")
            assert done.returncode == 0, done.stderr
        made = tmp_path / "smoke" / "seed-0"
        assert json.loads((made / "ka.json").read_text()) == json.loads((run / "ka.json").read_text())
        assert json.loads((made / "kc.json").read_text()) == pairs
        assert "unknown" in (made / "kc.provenance.jsonl").read_text()
        assert not (tmp_path / "smoke" / "teacher" / "record.sqlite").exists(), "a teacher was asked"

    def test_two_shards_make_what_the_notebooks_made_alone(self, runs, tmp_path):
        shutil.copytree(runs / "smoke", tmp_path / "smoke")
        shutil.rmtree(tmp_path / "smoke" / "teacher")
        made = tmp_path / "smoke" / "seed-0"
        for name in ("facts.jsonl", "difficulty.jsonl", "ka.json", "kc.json"):
            (made / name).unlink()
        environment = {**os.environ, "KNOWTUNING_RUNS": str(tmp_path)}
        command = [sys.executable, "-m", "snakemake", "--nolock", "--cores", "2"]
        command += [str(made / "ka.json"), str(made / "kc.json"), "--config", "recipe=smoke", "shards=2"]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT)
        assert done.returncode == 0, done.stdout + done.stderr
        for name in ("facts.jsonl", "ka.json", "kc.json"):
            assert (made / name).read_bytes() == (runs / "smoke" / "seed-0" / name).read_bytes(), name
        with closing(sqlite3.connect(tmp_path / "smoke" / "teacher" / "record.sqlite")) as record:
            of = [shard for (shard,) in record.execute("select shard from reply")]
        assert of.count("1/2") == of.count("2/2") and of.count(None) <= 1, "only the toy of notebook 05 is new"

    def test_a_second_walk_does_nothing_whatever_it_may_cost(self, runs):
        before = artefacts(runs)
        done = walk(runs, "--max-cost", "5")
        assert done.returncode == 0, done.stdout + done.stderr
        changed = {path.name for path, time_ns in artefacts(runs).items() if before.get(path) != time_ns}
        assert changed <= {"lock", "walk.log"}

    def test_a_removed_artefact_is_made_again_with_what_follows_and_nothing_else(self, runs):
        run = runs / "smoke" / "seed-0"
        before, kept = artefacts(runs), (run / "kc.json").read_bytes()
        (run / "kc.json").unlink()
        done = walk(runs)
        assert done.returncode == 0, done.stdout + done.stderr
        assert (run / "kc.json").read_bytes() == kept
        changed = {path for path, time_ns in artefacts(runs).items() if before.get(path) != time_ns}
        executed = {path.stem for path in changed if path.suffix == ".ipynb"}
        assert executed == {
            "06_disturbance",
            "08_knowledge_comparison.knowtuning",
            "09_evaluation.knowtuning",
        }
        assert not {path for path in changed if path.name == "record.sqlite"}, "a teacher call was repeated"

    def test_a_changed_recipe_has_a_folder_of_its_own_and_the_walks_base(self, runs):
        before = artefacts(runs)
        done = walk(runs, "--set", "evaluation.max_new_tokens=20", "--set", "sft.epochs=1", "--arms", "sft")
        assert done.returncode == 0, done.stdout + done.stderr
        made = runs / "smoke+evaluation.max_new_tokens=20+sft.epochs=1"
        manifest = json.loads((made / "seed-0" / "manifests" / "02_vanilla_sft.json").read_text())
        usual = json.loads((runs / "smoke" / "seed-0" / "manifests" / "02_vanilla_sft.json").read_text())
        assert 2 * manifest["numbers"]["steps"] == usual["numbers"]["steps"]
        assert (made / "seed-0" / "scores" / "sft.json").exists() and not (made / "base").exists()
        assert all(before[path] == time_ns for path, time_ns in artefacts(runs).items() if path in before)

    def test_a_cell_of_the_study_does_what_the_notebooks_do(self, runs, tmp_path, monkeypatch):
        import torch

        from knowtuning.recipe import get_recipe
        from study.cell import Cell

        monkeypatch.setenv("KNOWTUNING_RUNS", str(runs))
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as the notebooks of the walk had
        try:
            cell = Cell(get_recipe("smoke"), 0, tmp_path)
            for arm in ("sft", "knowtuning"):
                ours = cell.answers(arm, ("greedy",))["greedy"]
                theirs = read_jsonl(runs / "smoke" / "seed-0" / "answers" / f"{arm}.greedy.jsonl")
                for one, other in zip(ours, theirs, strict=True):
                    assert one == {name: value for name, value in other.items() if name != "bertscore"}
        finally:
            torch.set_num_threads(threads)

    def test_the_whole_study_runs_at_its_smallest_and_goes_on_where_it_was(self, runs):
        done = results(runs)
        assert done.returncode == 0, done.stdout + done.stderr
        study = runs / "study-smoke"
        cell = json.loads((study / "smoke" / "seed-1" / "cell.json").read_text())
        assert set(cell["training"]) == set(STUDIED) - {"base"} == set(cell["learning_rates"])
        assert set(cell["teacher"]) >= {"knowtuning", "rlaif", "facttune", "facttune_mc"}
        tuned = json.loads((study / "tuning.json").read_text())
        assert len(tuned["rows"]) == 2 * len(tuned["chosen"]) and set(tuned["chosen"]) == set(cell["training"])
        assert (study / "map" / "gamma-0.0" / "seed-0" / "point.json").exists() and (study / "judge.json").exists()
        for arm in STUDIED:
            rows = read_jsonl(study / "smoke" / "seed-0" / "answers" / f"{arm}.greedy.jsonl")
            assert len(rows) == 18 and all("bertscore" in row for row in rows)
        done = execute(runs, "11_results", "recipe=smoke", f"study={study / 'results'}")
        assert done.returncode == 0, done.stderr
        kept = {path: path.stat().st_mtime_ns for path in study.rglob("*.safetensors")}
        (study / "smoke" / "seed-0" / "cell.json").unlink()
        again = results(runs)
        assert again.returncode == 0 and json.loads((study / "smoke" / "seed-0" / "cell.json").read_text())
        assert kept == {path: path.stat().st_mtime_ns for path in study.rglob("*.safetensors")}, "trained twice"

    def test_a_missing_input_names_the_notebook_to_run_first(self, tmp_path):
        done = execute(tmp_path, "03_extraction", "recipe=smoke")
        assert done.returncode == 1
        assert "run notebook 01_questions_and_answers first (recipe smoke, seed 0)" in done.stderr
        assert said(done).startswith("knowtuning: 03_extraction stopped in cell [3]: DataError")

    def test_bad_data_stops_the_first_notebook_with_file_row_and_cure(self, tmp_path):
        data = tmp_path / "mine.json"
        data.write_text(json.dumps([{"instruction": "Why?", "input": "", "output": ""}]), encoding="utf-8")
        done = execute(tmp_path, "01_questions_and_answers", "recipe=dolly-offline", f"data={data}")
        assert done.returncode == 1
        assert "mine.json, row 1" in said(done) and "output" in said(done)


def execute(tmp_path, notebook, *parameters, **variables):
    environment = {**os.environ, "KNOWTUNING_RUNS": str(tmp_path), **variables}
    command = [sys.executable, "-m", "knowtuning", "execute", notebook, str(tmp_path / "out.ipynb"), *parameters]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT)


def said(done):
    """The last line on stderr: the sentence that the user reads."""
    return done.stderr.strip().splitlines()[-1]


def waits_for(happened):
    deadline = time.monotonic() + LIMIT
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def signals_as_before():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_second_ctrl_c_kills_even_where_it_comes_while_the_first_is_answered(monkeypatch, signals_as_before):
    child = subprocess.Popen(["sleep", "60"])
    monkeypatch.setattr("knowtuning.walk.print", lambda *_, **__: signal.raise_signal(signal.SIGINT), raising=False)
    _stop(child)
    assert child.returncode == -signal.SIGKILL


def test_only_the_first_signal_leaves_what_is_done(signals_as_before):
    signal.signal(signal.SIGINT, _told_to_stop)
    with pytest.raises(KeyboardInterrupt) as reason:
        signal.raise_signal(signal.SIGINT)
    assert reason.value.args == (signal.SIGINT,)
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGTERM)


@pytest.mark.smoke
@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT, signal.SIGINT]])
def test_a_walk_that_is_told_to_stop_takes_its_children_with_it_and_leaves_no_lock(tmp_path, signals):
    environment = {**os.environ, "KNOWTUNING_RUNS": str(tmp_path)}
    command = [sys.executable, "-m", "knowtuning", "walk", "--recipe", "smoke", "--cores", "2"]
    terminal = tmp_path / "terminal"
    with open(terminal, "w") as out:
        child = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=out)
    waits_for((tmp_path / "smoke" / "progress" / "00_base_model.json").exists)
    family = psutil.Process(child.pid).children(recursive=True)
    assert len(family) >= 3, "Snakemake, papermill and the kernel"
    # as its children do not hear of it here, the first SIGINT alone would wait for them
    first, *more = signals
    child.send_signal(first)
    waits_for(lambda: "Stopping" in terminal.read_text())
    for number in more:
        child.send_signal(number)
    assert child.wait(timeout=LIMIT) == 130 and "goes on from here" in terminal.read_text()
    gone, alive = psutil.wait_procs(family, timeout=LIMIT)
    assert not alive
    with open(tmp_path / "smoke" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
