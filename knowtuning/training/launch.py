"""Running a trainer: in this process, or in several that torchrun starts and whose adapter is taken back."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import torch
from peft import load_peft_weights, set_peft_model_state_dict
from transformers import PrinterCallback, Trainer, TrainerCallback

from knowtuning.files import read_json, write_json
from knowtuning.progress import FILE_VARIABLE, Tick, progress
from knowtuning.recipe import Recipe
from knowtuning.training.models import load_adapter, load_base, load_tokenizer, save_adapter
from knowtuning.training.packed import packed


def run_trainer(trainer: Trainer, stage: str = "training") -> dict[str, Any]:
    """Train with our progress in place of transformers' printing; a loss that is not finite stops the run.

    Returns:
        What is left besides the adapter: `history` (the trainer's log), `steps`, `best_step`, `best_metric`, `metrics`.
    """
    arguments = trainer.args
    batch = arguments.train_batch_size * arguments.gradient_accumulation_steps * arguments.world_size
    steps = math.ceil(math.ceil(len(trainer.train_dataset) / batch) * arguments.num_train_epochs)
    with packed(trainer.model), progress(stage, steps, "steps") as tick:
        trainer.add_callback(_Report(tick))
        trainer.remove_callback(PrinterCallback)
        metrics = trainer.train().metrics
    state = trainer.state
    return {
        "history": state.log_history,
        "steps": state.global_step,
        "metrics": metrics,
        "best_step": state.best_global_step,
        "best_metric": state.best_metric,
    }


class _Report(TrainerCallback):
    def __init__(self, tick: Tick) -> None:
        self.tick = tick

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        loss = (logs or {}).get("loss")
        if loss is None:
            return
        if not math.isfinite(loss):
            raise RuntimeError(f"the loss is {loss} at step {state.global_step}: lower the learning rate.")
        margin = logs.get("rewards/margins")  # of DPO
        self.tick(state.global_step, loss=loss, **({} if margin is None else {"margin": margin}))


def wants_processes(recipe: Recipe) -> bool:
    """Whether this process should hand training over to `num_processes` others; not if it is one of them."""
    return recipe.machine.num_processes > 1 and "LOCAL_RANK" not in os.environ


def train_elsewhere(model: Any, recipe: Recipe, build: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Train the adapter of `model` in the recipe's `num_processes` on this machine; the model gets the result.

    Args:
        model: base with adapter; while the others train it waits in main memory.
        build: "module:function" that each process builds its trainer by, from (model, tokenizer), `arguments`, which
            go through JSON, and the arguments `recipe` and `output`.

    Returns:
        What `run_trainer` does.

    Raises:
        RuntimeError: a process failed; the message ends with its error.
    """
    device = model.device
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_adapter(model, folder / "start", "Where training starts.")
        job = {"base": model.name_or_path, "recipe": recipe.model_dump(mode="json")}
        write_json(folder / "job.json", job | {"build": build, "arguments": arguments})
        if device.type == "cuda":
            model.to("cpu")
            torch.cuda.empty_cache()
        _torchrun(folder, recipe.machine.num_processes)
        model.to(device)
        set_peft_model_state_dict(model, load_peft_weights(str(folder / "adapter"), device=str(device)))
        return read_json(folder / "result.json")


def _torchrun(folder: Path, processes: int) -> None:
    """Run `work` in that many processes; the error of the one that failed first is the reason of a failure."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    done = subprocess.run([*command, "-m", __name__, str(folder)], capture_output=True, text=True, errors="replace")
    if done.returncode:
        errors = sorted(folder.glob("error.*.txt"), key=lambda path: path.stat().st_mtime_ns)
        reason = errors[0].read_text(encoding="utf-8") if errors else (done.stderr.splitlines() or ["killed"])[-1]
        raise RuntimeError(f"training in {processes} processes failed: {reason}")


def work(folder: Path, rank: int) -> None:
    """One of the processes: train what `job.json` says; the first leaves `adapter` and `result.json` in the folder."""
    job = read_json(folder / "job.json")
    recipe = Recipe(**job["recipe"])
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    if rank > 0:  # one of them tells of the progress
        os.environ[FILE_VARIABLE] = str(folder / f"progress.{rank}.json")
    base = load_base(job["base"], recipe.quantisation, recipe.dtype)
    model = load_adapter(base, folder / "start", trainable=True)
    tokenizer = load_tokenizer(job["base"], recipe.prompt)
    build, output = resolve_name(job["build"]), folder / "trainer"
    trainer = build(model, tokenizer, **job["arguments"], recipe=recipe, output=output)
    result = run_trainer(trainer)
    best = trainer.state.best_model_checkpoint
    if not best:
        trainer.save_model(str(folder / "adapter"))
    elif rank == 0:
        shutil.copytree(best, folder / "adapter")
    if rank == 0:
        write_json(folder / "result.json", result)
    trainer.accelerator.wait_for_everyone()


if __name__ == "__main__":
    here, number = Path(sys.argv[1]), int(os.environ["RANK"])
    try:
        work(here, number)
    except Exception as error:
        # in a file of its own, as the lines of several processes run into each other
        (here / f"error.{number}.txt").write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
        raise
    # all is written; taking process groups down in step can hang when one process is already gone
    os._exit(0)
