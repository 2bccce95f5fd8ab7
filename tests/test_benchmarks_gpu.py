"""`benchmarks/gpu.py` goes its way on a tiny shape, and says so where there is no GPU."""

import json
import os
import subprocess
import sys

import pytest
import torch

from knowtuning.files import ROOT

SCRIPT = [sys.executable, str(ROOT / "benchmarks" / "gpu.py")]


def run(*options, folder):
    environment = os.environ | {"KNOWTUNING_RUNS": str(folder), "OMP_NUM_THREADS": "1"}
    return subprocess.run([*SCRIPT, *options], capture_output=True, text=True, env=environment)


@pytest.mark.smoke
def test_the_tiny_trial_fills_the_record(tmp_path):
    results = tmp_path / "gpu.json"
    done = run("--device", "cpu", "--shape", "tiny", "--quick", "--results", str(results), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads(results.read_text())
    assert record["device"] == "cpu" and record["means"].startswith("nothing") and record["versions"]["trl"]
    assert [case["weights"] for case in record["cases"]] == ["none", "nf4"]
    for case in record["cases"]:
        assert list(case["stages"]) == ["SFT", "DPO", "perplexity", "generation"]
        for stage, tolerance in (("SFT", 1e-3), ("DPO", 1e-2)):
            sides = case["stages"][stage]["sides"]
            assert list(sides) == ["trl", "ours", "ours, nothing recomputed"]
            for side in sides.values():
                assert side["mfu"] is None and side["peak_gb"] > 0 and len(side["losses"]) == 2
                assert side["tokens_per_second"] == pytest.approx(case["stages"][stage]["tokens"] / side["seconds"][0])
            assert sides["ours"]["largest_loss_difference"] < tolerance and sides["ours"]["times_trl"] > 0
        assert case["stages"]["perplexity"]["sides"]["ours"]["facts"] > 0
    assert max(map(len, done.stdout.splitlines())) <= 100


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_measures_nothing(tmp_path):
    done = run("--results", str(tmp_path / "gpu.json"), folder=tmp_path)
    assert done.returncode == 2 and "no CUDA device" in done.stderr and not done.stdout
    assert not (tmp_path / "gpu.json").exists()


def test_a_trial_never_takes_the_place_of_a_measurement(tmp_path):
    done = run("--device", "cpu", folder=tmp_path)
    assert done.returncode == 2 and "--results" in done.stderr
