"""What the doctor says of GPUs and of bases on the hub; both are stood in for. Endpoints: test_preview.py."""

from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
import torch
from transformers import BertConfig, FalconConfig, LlamaConfig

from knowtuning.doctor import GB, check_base, check_gpu, check_machine, check_packages
from knowtuning.dryrun import config_of, needs
from knowtuning.recipe import get_recipe

PAPER = get_recipe("paper-7b")


@pytest.fixture
def gpus(monkeypatch):
    """A machine with as many cards, of that much free memory in GB, and of that compute capability."""

    def put(count, free=80, capability=(9, 0)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda number=0: (free * GB, 80 * GB))
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda number=0: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda number=0: "NVIDIA A100")

    return put


def test_a_gpu_is_judged_by_what_the_shape_needs(gpus):
    gpus(1)
    assert check_gpu(PAPER).state == "ok"
    gpus(1, free=20)
    found = check_gpu(PAPER)
    assert found.state == "fail" and "20.0 GB free" in found.what and "smaller evaluation.batch" in found.what
    assert check_gpu(get_recipe("paper-7b-qlora")).state == "ok"


def test_a_recipe_for_gpus_fails_without_one_and_the_lab_does_not(gpus):
    gpus(0)
    states = {found.subject: found for found in check_machine(PAPER)}
    stage, needed = max(needs(PAPER, config_of(PAPER.base)).items(), key=lambda need: need[1])
    assert states["GPU"].state == "fail"
    assert f"needs a card with about {needed / GB:.0f} GB, most of all for {stage}" in states["GPU"].what
    assert {found.subject: found.state for found in check_machine(get_recipe("lab"))}["GPU"] == "ok"


def test_processes_need_a_card_each(gpus):
    gpus(1)
    found = check_gpu(get_recipe("paper-13b-qlora"))
    assert found.state == "fail" and "1 here" in found.what and "2 cards with each about" in found.what
    gpus(2)
    assert check_gpu(get_recipe("paper-13b-qlora")).state == "ok"


def test_a_small_base_needs_no_gpu_and_an_old_card_is_slow(gpus, untrained_base):
    gpus(0)
    assert check_gpu(PAPER.replace(base=str(untrained_base))).state == "warn"
    gpus(1, capability=(7, 5))
    assert check_gpu(PAPER).state == "warn" and "no bfloat16" in check_gpu(PAPER).what


def test_packages_that_only_some_recipes_want(monkeypatch):
    assert [found.state for found in check_packages(PAPER)] == ["ok"]
    monkeypatch.setattr("knowtuning.doctor.distributions", lambda: [])
    [found] = check_packages(PAPER.replace(machine={"liger": True}))
    assert found.state == "fail" and "liger-kernel missing" in found.what and "[all,liger]" in found.what


@pytest.mark.parametrize(
    ("config", "targets", "state", "said"),
    [
        (LlamaConfig(), ("q_proj", "v_proj"), "ok", "packed in rows"),
        (FalconConfig(), "all-linear", "ok", "padded batches"),
        (FalconConfig(), ("q_proj", "v_proj"), "fail", "lora.targets names q_proj, v_proj, but the base has dense"),
        (BertConfig(), "all-linear", "fail", "looks ahead"),
    ],
)
def test_a_base_that_cannot_be_trained_is_refused_by_its_configuration(tmp_path, config, targets, state, said):
    config.save_pretrained(tmp_path)
    *_, found = check_base(PAPER.replace(base=str(tmp_path), lora={"targets": targets}))
    assert found.state == state and said in found.what
    assert [found.subject for found in check_base(get_recipe("lab"))] == ["base model"]


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that answers every question for access alike: `answer` holds status and error code."""
    answer = {"status": 200, "code": ""}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(answer["status"])
            self.send_header("X-Error-Code", answer["code"])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    yield answer
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "code", "state", "said"),
    [
        (200, "", "ok", "at the first use"),
        (403, "GatedRepo", "fail", "accept its licence"),
        (401, "RepoNotFound", "fail", "correct `base`"),
        (418, "", "warn", "cannot be asked"),
    ],
)
def test_the_hub_says_whether_it_would_give_the_base(hub, status, code, state, said):
    hub |= {"status": status, "code": code}
    found = next(check_base(PAPER))
    assert found.state == state and said in found.what and PAPER.base in found.what


def test_a_hub_out_of_reach_is_a_warning(monkeypatch, hub):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    found = next(check_base(PAPER))
    assert found.state == "warn" and "cannot be asked now" in found.what


def test_a_base_in_a_folder_is_not_asked_for(hub, untrained_base):
    hub["status"] = 500
    found = next(check_base(PAPER.replace(base=str(untrained_base))))
    assert found.state == "ok" and "folder" in found.what
