"""LLaMA-Factory as a child process: it is given a config, and its own records are read back."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

from configs import write_config

from knowtuning.files import DataError, read_json, shown

PACKAGES = ("llamafactory", "torch", "transformers", "peft", "trl", "datasets")


def train(venv: Path, folder: Path, config: dict[str, Any], evaluated: bool = True) -> dict[str, Any]:
    """Run `llamafactory-cli train` in `folder`, which keeps config and log; its numbers and the seconds of it all.

    `evaluated`: the config asks for the loss of the whole file before and after.

    Raises:
        DataError: it is not installed, or ended with an error; the message has its last line and names its log.
    """
    if not (venv / "installed").exists():
        raise DataError(f"{shown(venv)} is missing or not finished: run make interchange, which installs it.")
    path, log = write_config(folder / "config.yaml", config), folder / "log.txt"
    environment = os.environ | {
        "DISABLE_VERSION_CHECK": "1",  # torch is newer than what it was released with
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(folder / "cache"),
    }
    began = time.perf_counter()
    with open(log, "wb") as output:
        command = [venv / "bin" / "llamafactory-cli", "train", path]
        code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, env=environment).returncode
    seconds = round(time.perf_counter() - began, 1)
    if code != 0:
        said = log.read_text(encoding="utf-8", errors="replace").strip() or "it said nothing"
        raise DataError(
            f"llamafactory-cli train ended with exit code {code} ({said.splitlines()[-1]}): read {shown(log)}."
        )
    return numbers(folder, evaluated) | {"seconds": seconds}


def numbers(folder: Path, evaluated: bool = True) -> dict[str, Any]:
    """What it says of a finished training: examples, steps, and losses in nats, of the whole file and of its steps."""
    counted = re.search(r"Num examples = ([\d,]+)", (folder / "log.txt").read_text(encoding="utf-8", errors="replace"))
    history = read_json(folder / "adapter" / "trainer_state.json")["log_history"]
    losses = [entry["loss"] for entry in history if "loss" in entry]
    found = {
        "trained on": int(counted[1].replace(",", "")) if counted else None,
        "steps": max(entry["step"] for entry in history),
        "first step's loss": losses[0],
        "last step's loss": losses[-1],
        "finite": all(map(math.isfinite, losses)),
    }
    if evaluated:
        found["loss before"] = next(entry["eval_loss"] for entry in history if "eval_loss" in entry)
        found["loss after"] = read_json(folder / "adapter" / "all_results.json")["eval_loss"]
    return found


def tokenised(folder: Path) -> list[dict]:
    """The examples that it made of a file and trained on, in the order of the file."""
    from datasets import load_from_disk

    return load_from_disk(str(folder / "tokenised"))["train"].to_list()


def versions_in(venv: Path) -> dict[str, str]:
    """Versions of the packages in its venv."""
    code = f"import importlib.metadata as m, json; print(json.dumps({{n: m.version(n) for n in {PACKAGES}}}))"
    done = subprocess.run([venv / "bin" / "python", "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)
