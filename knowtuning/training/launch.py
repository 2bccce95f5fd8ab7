"""Running a trainer: in this process, or in several that torchrun starts and whose adapter is taken back."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import load_peft_weights, set_peft_model_state_dict
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, record
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from transformers import PrinterCallback, Trainer, TrainerCallback

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


def train_elsewhere(
    model: Any, recipe: Recipe, build: Callable[..., Trainer], arguments: dict[str, Any]
) -> dict[str, Any]:
    """Train the adapter of `model` in the recipe's `num_processes` on this machine; the model gets the result.

    Args:
        model: base with adapter; while the others train it waits in main memory.
        build: function of a module that each process builds its trainer by, from (model, tokenizer), `arguments`, and
            the arguments `recipe` and `output`.

    Returns:
        What `run_trainer` does.

    Raises:
        RuntimeError: a process failed; the message ends with its error.
    """
    place, processes = model.device, recipe.machine.num_processes
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_adapter(model, folder / "start", "Where training starts.")
        if place.type == "cuda":
            model.to("cpu")
            torch.cuda.empty_cache()
        launch = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=str(folder / "logs"), redirects=Std.ALL),
        )
        try:
            results = elastic_launch(launch, work)(model.name_or_path, recipe, build, arguments, folder)
        except ChildFailedError as error:
            reason = error.get_first_failure()[1].message  # of an exception with its traceback, of a signal a text
            reason = reason["message"] if isinstance(reason, dict) else reason
            raise RuntimeError(f"training in {processes} processes failed: {reason}") from None
        model.to(place)
        set_peft_model_state_dict(model, load_peft_weights(str(folder / "adapter"), device=str(place)))
        return results[0]


@record
def work(
    base: str, recipe: Recipe, build: Callable[..., Trainer], arguments: dict[str, Any], folder: Path
) -> dict[str, Any]:
    """One of the processes: train from `folder`/start; the first leaves the trained `adapter` in the folder."""
    rank = int(os.environ["RANK"])
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    if rank > 0:  # one of them tells of the progress
        os.environ[FILE_VARIABLE] = str(folder / f"progress.{rank}.json")
    model = load_adapter(load_base(base, recipe.quantisation, recipe.dtype), folder / "start", trainable=True)
    trainer = build(model, load_tokenizer(base, recipe.prompt), **arguments, recipe=recipe, output=folder / "trainer")
    result, best = run_trainer(trainer), trainer.state.best_model_checkpoint
    if not best:
        trainer.save_model(str(folder / "adapter"))
    elif rank == 0:
        shutil.copytree(best, folder / "adapter")
    trainer.accelerator.wait_for_everyone()
    return result
