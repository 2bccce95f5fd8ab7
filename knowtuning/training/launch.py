"""Training in several processes: the notebook hands a job to torchrun and takes the trained adapter back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from knowtuning.files import read_json, write_json
from knowtuning.recipe import Recipe
from knowtuning.training.models import save_adapter

WORKER = "knowtuning.training.worker"


def wants_processes(recipe: Recipe) -> bool:
    """Whether this process should hand training over to `num_processes` others; not if it is one of them."""
    return recipe.machine.num_processes > 1 and "LOCAL_RANK" not in os.environ


def train_elsewhere(model: Any, recipe: Recipe, job: dict[str, Any]) -> dict[str, Any]:
    """Train the adapter of `model` in the recipe's `num_processes` on this machine; the model gets the result.

    Args:
        model: base with adapter; while the others train it waits in main memory.
        job: what the worker trains, by the names of `worker.STAGES`.

    Returns:
        What the worker found: `history` (the trainer's log), `steps`, `best_step`, `best_metric`, `metrics`.

    Raises:
        RuntimeError: a process failed; the message ends with its error.
    """
    from peft import load_peft_weights, set_peft_model_state_dict

    device = model.device
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_adapter(model, folder / "start", "Where training starts.")
        told = {"base": model.name_or_path, "recipe": recipe.model_dump(mode="json"), **job}
        write_json(folder / "job.json", told)
        _make_room(model, device)
        _torchrun(folder, recipe.machine.num_processes)
        model.to(device)
        set_peft_model_state_dict(model, load_peft_weights(str(folder / "adapter"), device=str(device)))
        return read_json(folder / "result.json")


def _make_room(model: Any, device: Any) -> None:
    import torch

    if device.type == "cuda":
        model.to("cpu")
        torch.cuda.empty_cache()


def _torchrun(folder: Path, processes: int) -> None:
    """Run the worker under torchrun on a free port."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    with open(folder / "log.txt", "w+", encoding="utf-8") as log:
        done = subprocess.run([*command, "-m", WORKER, str(folder)], stdout=log, stderr=subprocess.STDOUT)
        if done.returncode == 0:
            return
        log.seek(0)
        raise RuntimeError(f"training in {processes} processes failed: {_reason(folder, log.read())}")


def _reason(folder: Path, log: str) -> str:
    """The error of the process that failed first, or the last line of the log where one was killed."""
    errors = sorted(folder.glob("error.*.txt"), key=lambda path: path.stat().st_mtime_ns)
    return errors[0].read_text(encoding="utf-8") if errors else json.dumps(log.splitlines()[-1:])
