"""Walks on a cluster, without one: what Snakemake is told, what is refused, and how two runs are compared."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from knowtuning import cluster
from knowtuning.cli import main
from knowtuning.files import ROOT, DataError
from knowtuning.recipe import get_recipe
from knowtuning.teacher.record import Record, Reply, record_path

FOLDER = ROOT / "cluster"
SETTINGS = {name: yaml.safe_load((FOLDER / name / "config.yaml").read_text()) for name in ("slurm", "kubernetes")}
MANIFEST = list(yaml.safe_load_all((FOLDER / "kubernetes" / "walk.yaml").read_text()))


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    yield
    for name in ("two_nodes", "same", "slurm_test"):
        sys.modules.pop(name, None)


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Slurm's commands as far as a walk asks them; returns the file that holds the queue."""
    queue = tmp_path / "queue"
    queue.write_text("")
    for name, text in (("sbatch", ""), ("squeue", f"cat {queue}")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return queue


def known_options():
    text = subprocess.run([sys.executable, "-m", "snakemake", "--help"], capture_output=True, text=True, check=True)
    return set(re.findall(r"--([a-z][a-z-]+)", text.stdout))


def test_the_settings_and_options_are_known_to_the_installed_snakemake(slurm):
    known = known_options()
    options = [word[2:] for word in cluster.on_cluster("slurm", 4, "lab").options if word.startswith("--")]
    assert set(SETTINGS["slurm"]) <= known and set(options) <= known
    plain = {name for name in SETTINGS["kubernetes"] if not name.startswith("kubernetes-volume-")}
    assert plain <= known and "envvars" in known


def test_slurm_is_told_the_jobs_the_settings_and_a_name_to_find_them_by(slurm, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.yaml").write_text("retries: 3\n")
    place = cluster.on_cluster("slurm", 7, "smoke", str(tmp_path / "mine"))
    said = " ".join(place.options)
    assert said.startswith(f"--jobs 7 --workflow-profile {tmp_path / 'mine'} --executor slurm")
    assert "--slurm-jobname-prefix knowtuning_smoke" in said and place.environment == {}
    changed = cluster.on_cluster("slurm", 7, "gpu+base=HuggingFaceTB--SmolLM2-135M+sft.learning_rate=1e-4").name
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,50}_", changed)


def test_jobs_that_a_dead_walk_left_behind_are_named_and_refused(slurm):
    slurm.write_text("11 knowtuning_smoke_0c4a\n12 knowtuning_smoke-errors-30_77\n13 other\n14 knowtuning_smoke_0c4a\n")
    with pytest.raises(DataError, match="scancel 11 14 first"):
        cluster.on_cluster("slurm", 4, "smoke")


def test_what_snakemake_forgot_to_cancel_is_cancelled(slurm, tmp_path):
    place = cluster.on_cluster("slurm", 4, "smoke")
    (tmp_path / "scancel").write_text(f"#!/bin/sh\necho $@ > {tmp_path / 'cancelled'}\n")
    (tmp_path / "scancel").chmod(0o755)
    place.cancel()
    assert not (tmp_path / "cancelled").exists(), "nothing is queued"
    slurm.write_text("11 knowtuning_smoke_0c4a\n13 other\n")
    place.cancel()
    assert (tmp_path / "cancelled").read_text() == "11\n"
    cluster.here(2).cancel()


def test_a_slurm_that_does_not_answer_is_said_to(slurm, tmp_path):
    (tmp_path / "squeue").write_text("#!/bin/sh\necho 'Unable to contact slurm controller' >&2\nexit 1\n")
    with pytest.raises(DataError, match="Slurm does not answer: Unable to contact"):
        cluster.on_cluster("slurm", 4, "smoke")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--executor", "slurm", "--workflow-profile", "nowhere"], "has no config.yaml"),
        (["--executor", "slurm"], "sbatch is not on this machine"),
        (["--executor", "kubernetes"], "executor kubernetes is missing: pip install"),
    ],
)
def test_a_walk_without_its_cluster_is_refused(options, sentence, capsys, monkeypatch):
    monkeypatch.setattr(cluster, "which", lambda name: None)
    monkeypatch.setattr(cluster, "find_spec", lambda name: None if "kubernetes" in name else name)
    assert main(["walk", "--recipe", "smoke", *options]) == 1
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1


def test_kubernetes_hands_the_jobs_what_is_set_and_no_more(monkeypatch):
    monkeypatch.setattr(cluster, "find_spec", lambda name: name)
    monkeypatch.setenv("OPENAI_API_KEY", "planted")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    place = cluster.on_cluster("kubernetes", 4, "smoke")
    handed = place.options[place.options.index("--envvars") + 1 :]
    assert {"KNOWTUNING_RUNS", "OPENAI_API_KEY", *cluster.SET_BY_THE_WALK} <= set(handed) and "HF_TOKEN" not in handed
    assert "planted" not in str(place)
    assert place.environment["PYTHONPATH"].startswith(str(FOLDER / "kubernetes"))


def test_only_jobs_that_run_a_large_model_ask_for_gpus(tmp_path):
    def resources(recipe):
        command = [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "1", "--quiet", "host"]
        command += ["--config", f"recipe={recipe}", "data=dolly", "shards=2"]
        environment = {**os.environ, "KNOWTUNING_RUNS": str(tmp_path)}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        blocks = re.findall(r"^rule (\w+):\n(?:    .*\n)*?    resources: (.*)$", done.stdout + done.stderr, re.M)
        assert len(blocks) > 10
        return {rule: re.search(r"gpu=(\d+)", asked) for rule, asked in blocks}, dict(blocks)

    gpus, asked = resources("paper-13b-qlora")
    processes = str(get_recipe("paper-13b-qlora").machine.num_processes)
    for rule in ("vanilla_sft", "knowledge_augmentation", "knowledge_comparison"):
        assert gpus[rule][1] == processes
    for rule in ("shard_score", "difficult_knowledge", "evaluation"):
        assert gpus[rule][1] == "1"
    assert f"mem_mb={int(1024 * get_recipe('paper-13b-qlora').machine.memory_gb)}" in asked["vanilla_sft"]
    assert gpus["extraction"] is gpus["shard_extract"] is None
    assert set(resources("smoke")[0].values()) == {None}


def test_the_manifest_is_whole_and_its_names_agree():
    kinds = {document["kind"]: document for document in MANIFEST}
    assert list(kinds) == ["Namespace", "PersistentVolumeClaim", "ServiceAccount", "Role", "RoleBinding", "Job"]
    settings = SETTINGS["kubernetes"]
    for document in MANIFEST:
        assert document["apiVersion"] and document["metadata"]["name"]
        assert document["metadata"].get("namespace", "knowtuning") == settings["kubernetes-volume-namespace"]
    pod = kinds["Job"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    [volume] = pod["volumes"]
    [mount] = container["volumeMounts"]
    assert container["image"] == settings["container-image"]
    assert pod["serviceAccountName"] == kinds["ServiceAccount"]["metadata"]["name"]
    assert volume["persistentVolumeClaim"]["claimName"] == kinds["PersistentVolumeClaim"]["metadata"]["name"]
    assert [f"{volume['name']}:{mount['mountPath']}"] == settings["kubernetes-volume-persistent-volumes"]
    assert f"KNOWTUNING_RUNS={mount['mountPath']} " in (FOLDER / "kubernetes" / "Containerfile").read_text()
    assert kinds["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]


def test_the_manifests_command_is_one_of_ours():
    [container] = MANIFEST[-1]["spec"]["template"]["spec"]["containers"]
    assert main([*container["args"], "--help"]) == 0 and "--executor kubernetes" in " ".join(container["args"])


def test_the_image_holds_what_a_walk_reads():
    copied = re.findall(r"^COPY (.*) \S+$", (FOLDER / "kubernetes" / "Containerfile").read_text(), re.M)
    names = [name for line in copied for name in line.split()]
    assert all((ROOT / name).exists() for name in names)
    needed = {"Snakefile", "knowtuning", "recipes", "notebooks", "data", "cluster"}
    assert needed.union(path.name for path in ROOT.glob("*.smk")) <= set(names)


def test_slurm_conf_has_two_nodes_on_this_host_and_its_mark(tmp_path):
    from two_nodes import MARK, NODES, configuration

    lines = configuration(tmp_path, "here").splitlines()
    assert lines[0] == MARK
    for name, port in NODES.items():
        assert f"NodeName={name} NodeHostname=here NodeAddr=127.0.0.1 Port={port} CPUs=2 RealMemory=8000" in lines
    settings = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith(("#", "Node", "Part")))
    assert settings["ProctrackType"] == "proctrack/linuxproc" and settings["TaskPlugin"] == "task/none"
    assert all(str(tmp_path) in settings[name] for name in ("StateSaveLocation", "SlurmdSpoolDir", "AuthInfo"))


@pytest.mark.parametrize(
    ("user", "programs", "conf", "sentence"),
    [
        (1000, True, None, "need root"),
        (0, True, "ClusterName=theirs\n", "belongs to a Slurm that this did not set up"),
        (0, False, None, "apt-get: install Slurm and munge first"),
    ],
)
def test_a_slurm_that_cannot_be_started_is_refused(user, programs, conf, sentence, tmp_path, monkeypatch):
    import two_nodes

    monkeypatch.setattr(two_nodes, "CONFIGURATION", tmp_path / "slurm.conf")
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(shutil, "which", lambda name: name if programs else None)
    if conf:
        (tmp_path / "slurm.conf").write_text(conf)
    with pytest.raises(DataError, match=sentence):
        with two_nodes.TwoNodes(tmp_path / "slurm"):
            pass
    assert (tmp_path / "slurm.conf").exists() == bool(conf), "another's file was written or removed"


def write_run(folder):
    files = {
        "smoke/seed-0/facts.jsonl": '{"id": "1"}\n',
        "smoke/seed-0/adapters/sft/adapter_model.safetensors": "weights",
        "smoke/seed-0/manifests/03.json": json.dumps({"numbers": {"facts": 3}, "seconds": 1.5, "peak_memory_mb": 7}),
        "smoke/seed-0/notebooks/03.ipynb": "executed at noon",
        "smoke/progress/03.json": '{"done": 3}',
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    write_record(folder, "a", "b")
    return folder


def write_record(folder, *keys):
    """The teacher's record of a run, with replies under these keys."""
    with Record(folder / "smoke" / "teacher") as record:
        for key in keys:
            record.add([Reply(key, "extract", "m", "{}", None, 9, 1, 1)])


def test_two_runs_are_the_same_whatever_the_clock_and_the_order_of_the_cache_say(tmp_path):
    from same import differences

    one, other = write_run(tmp_path / "one"), write_run(tmp_path / "other")
    manifest = {"numbers": {"facts": 3}, "seconds": 9, "peak_memory_mb": 8}
    (other / "smoke/seed-0/manifests/03.json").write_text(json.dumps(manifest))
    record_path(other / "smoke/teacher").unlink()
    write_record(other, "b", "a")
    (other / "smoke/seed-0/notebooks/03.ipynb").write_text("executed at night")
    assert differences(one, other) == (4, [])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("smoke/seed-0/facts.jsonl", '{"id": "2"}\n'),
        ("smoke/seed-0/adapters/sft/adapter_model.safetensors", "weightz"),
        ("smoke/seed-0/manifests/03.json", json.dumps({"numbers": {"facts": 4}, "seconds": 1.5, "peak_memory_mb": 7})),
    ],
)
def test_a_changed_byte_is_found(name, text, tmp_path):
    from same import differences

    one, other = write_run(tmp_path / "one"), write_run(tmp_path / "other")
    (other / name).write_text(text)
    assert differences(one, other) == (4, [f"{name} differs"])


def test_a_reply_more_is_found(tmp_path):
    from same import differences

    one, other = write_run(tmp_path / "one"), write_run(tmp_path / "other")
    write_record(other, "c")
    assert differences(one, other) == (4, ["smoke/teacher/record.sqlite differs"])


def test_a_missing_and_an_additional_file_are_found(tmp_path):
    from same import differences

    one, other = write_run(tmp_path / "one"), write_run(tmp_path / "other")
    (one / "smoke/seed-0/facts.jsonl").unlink()
    (other / "smoke/seed-0/ka.json").write_text("[]")
    assert differences(one, other)[1] == [
        "smoke/seed-0/facts.jsonl is only in other",
        "smoke/seed-0/ka.json is only in other",
    ]


def test_the_test_on_slurm_walks_with_the_settings_that_are_shipped(tmp_path):
    from slurm_test import workflow_profile

    settings = yaml.safe_load((tmp_path / "config.yaml").read_text()) if workflow_profile(tmp_path) else {}
    assert SETTINGS["slurm"].items() <= settings.items() and settings["slurm-status-command"] == "squeue"


def test_a_failed_job_says_in_its_own_log_what_the_walk_then_repeats(tmp_path):
    from knowtuning.walk import _failures

    (tmp_path / "1.log").write_text("noise\nknowtuning: 03 stopped in cell [4]: DataError: row 2\n")
    log = tmp_path / "walk.log"
    log.write_text("Error in rule extraction:\nTrying to restart job 1.\n")
    assert _failures(log, [tmp_path / "1.log"] * 2 + [tmp_path / "2.log"]) == [
        "knowtuning: 03 stopped in cell [4]: DataError: row 2"
    ]


def test_make_has_both_verbs():
    listed = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "make slurm-test" in listed and "make kubernetes-test" in listed
