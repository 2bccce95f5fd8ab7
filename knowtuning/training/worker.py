"""One of the processes of a training, under torchrun: `torchrun --nproc-per-node=2 -m knowtuning.training.worker DIR`.

DIR holds `job.json` and the adapter `start`; the first process leaves the trained adapter and `result.json` there, and
one that fails `error.RANK.txt`, as the lines of several processes run into each other in what they print.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import torch

from knowtuning.files import read_json, write_json
from knowtuning.progress import FILE_VARIABLE
from knowtuning.recipe import Recipe
from knowtuning.training import dpo, models, sft


def main() -> None:
    """Train what the job says, and leave what came out."""
    folder = Path(sys.argv[1])
    job = read_json(folder / "job.json")
    recipe = Recipe(**job["recipe"])
    rank = int(os.environ["RANK"])
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    if rank > 0:  # one of them tells of the progress
        os.environ[FILE_VARIABLE] = str(folder / f"progress.{rank}.json")
    trainer = STAGES[job["stage"]](folder, job, recipe)
    metrics = sft.run_trainer(trainer, "training").metrics
    best = trainer.state.best_model_checkpoint
    if not best:
        trainer.save_model(str(folder / "adapter"))
    elif trainer.is_world_process_zero():
        shutil.copytree(best, folder / "adapter")
    if trainer.is_world_process_zero():
        write_json(folder / "result.json", sft.outcome(trainer, metrics))
    trainer.accelerator.wait_for_everyone()
    # all is written; taking process groups down in step can hang when one process is already gone
    os._exit(0)


def _sft(folder: Path, job: dict[str, Any], recipe: Recipe) -> Any:
    return sft.sft_trainer(*_start(folder, job, recipe), job["rows"], recipe, job["seed"], folder / "trainer")


def _dpo(folder: Path, job: dict[str, Any], recipe: Recipe) -> Any:
    options = (recipe, job["seed"], folder / "trainer", job["gamma"], job["beta"])
    return dpo.build_trainer(*_start(folder, job, recipe), job["examples"], job["watched"], *options)


def _start(folder: Path, job: dict[str, Any], recipe: Recipe) -> tuple[Any, Any]:
    base = models.load_base(job["base"], recipe.quantisation, recipe.dtype)
    model = models.load_adapter(base, folder / "start", trainable=True)
    return model, models.load_tokenizer(job["base"], recipe.prompt)


STAGES = {"sft": _sft, "dpo": _dpo}

if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        Path(sys.argv[1], f"error.{os.environ['RANK']}.txt").write_text(told, encoding="utf-8")
        raise
