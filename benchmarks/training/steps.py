"""Seconds and losses of a training, and of scoring facts, on any causal LM: TRL, TRL without padding, ours.

    python benchmarks/training/steps.py MODEL ROWS [--tree PATH] [--dtypes bfloat16 float32] [--repeats 3]

MODEL is the folder of a model, ROWS a file that `knowtuning.data.sources.load` reads. Each arm is a process of its own
and trains a fresh LoRA adapter on all seven matrices for one epoch; its seconds are those from the building of the
trainer to the end of training, so that the reference's log-probabilities count in. SFT takes the first rows; DPO
prefers each row's answer to that of the next row; perplexity scores the sentences of the answers after their questions.
`--tree` adds the package as it lies in another folder, such as a worktree of an older commit, as the arm "tree". Prints
a Markdown table with the median of the repeats, and the largest difference from our losses, step by step.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
STAGES = {"sft": ("trl", "padding-free", "ours"), "dpo": ("trl", "ours"), "perplexity": ("ours",)}
GAMMA, BETA, SCORE_TOKENS = 0.2, 0.1, 1024


def main() -> None:
    """Run every arm in a process of its own and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="folder of a causal language model")
    parser.add_argument("rows", help="file of questions and answers")
    parser.add_argument("--count", type=int, default=64, help="rows of SFT and perplexity; three quarters make pairs")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=0, help="of PyTorch (default: its own choice)")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--dtypes", nargs="+", choices=("bfloat16", "float32"), default=["bfloat16"])
    parser.add_argument("--arms", nargs="+", choices=("trl", "padding-free", "ours", "tree"), default=[])
    parser.add_argument("--tree", type=Path, help="another folder with the package")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--arm", nargs=3, metavar=("STAGE", "ARM", "DTYPE"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.arm:
        print(json.dumps(measure(chosen, *chosen.arm)))
        return
    print("| stage | arm | dtype | seconds | from ours | first loss | last loss | apart |", "|---" * 8 + "|", sep="\n")
    for stage in chosen.stages:
        arms = [*STAGES[stage], *(["tree"] if chosen.tree else [])]
        for dtype in chosen.dtypes:
            wanted = [arm for arm in arms if not chosen.arms or arm in chosen.arms]
            measured = {arm: [] for arm in wanted}
            for arm in wanted * chosen.repeats:  # in turn
                measured[arm].append(in_a_process(chosen, stage, arm, dtype))
            for arm in wanted:
                print(row(stage, arm, dtype, measured), flush=True)


def row(stage: str, arm: str, dtype: str, measured: dict[str, list[dict]]) -> str:
    """One line of the table; numbers of ours where it was measured too."""
    seconds = {name: statistics.median(run["seconds"] for run in runs) for name, runs in measured.items()}
    values, ours = measured[arm][0]["values"], measured.get("ours", measured[arm])[0]["values"]
    share = f"{seconds[arm] / seconds['ours']:.2f}" if "ours" in seconds else ""
    apart = max(abs(value - other) for value, other in zip(values, ours, strict=True))
    told = f"{seconds[arm]:.1f} | {share} | {values[0]:.4f} | {values[-1]:.4f} | {apart:.1e}"
    return f"| {stage} | {arm} | {dtype} | {told} |"


def in_a_process(chosen: argparse.Namespace, stage: str, arm: str, dtype: str) -> dict[str, Any]:
    """`measure` by the package of this folder, or of the other tree."""
    package = chosen.tree.resolve() if arm == "tree" else ROOT
    command = [sys.executable, __file__, chosen.model, chosen.rows, "--arm", stage, arm, dtype]
    command += ["--count", str(chosen.count), "--batch", str(chosen.batch), "--threads", str(chosen.threads)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(package)})
    if done.returncode:
        sys.exit(f"{stage} by {arm} in {dtype} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(chosen: argparse.Namespace, stage: str, arm: str, dtype: str) -> dict[str, Any]:
    """Seconds, and the losses of the steps (or the perplexities)."""
    import torch

    from knowtuning.data.sources import load
    from knowtuning.training import models

    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    rows = load(chosen.rows)[: chosen.count]
    recipe = sizes(chosen.batch, dtype)
    tokenizer = models.load_tokenizer(chosen.model)
    model = models.new_adapter(models.load_base(chosen.model, "none", dtype), recipe, 0)
    if stage == "perplexity":
        return perplexities(model, tokenizer, rows)
    if stage == "dpo":
        rows = pairs(rows)
    build = {"sft": sft_trainer, "dpo": dpo_trainer}[stage]
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        trainer, train = build(arm, model, tokenizer, rows, recipe, folder)
        train()
        seconds = time.perf_counter() - began
    return {"seconds": seconds, "values": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]}


def sizes(batch: int, dtype: str) -> Any:
    """The lab's recipe without quantisation and validation, for one epoch; older trees call it a profile, and flat."""
    import knowtuning

    stages = {"epochs": 1, "batch": batch, "learning_rate": 1e-4}
    if (Path(knowtuning.__file__).parent / "profiles.py").exists():
        from knowtuning.profiles import get_profile

        flat = {f"{stage}_{name}": value for stage in ("sft", "dpo") for name, value in stages.items()}
        return replace(get_profile("lab"), quantisation="none", dtype=dtype, val_size=0, **flat)
    from knowtuning.recipe import get_recipe

    return get_recipe("lab").replace(quantisation="none", dtype=dtype, data={"val_size": 0}, sft=stages, dpo=stages)


def pairs(rows: list[dict]) -> list[dict]:
    """Three quarters of the rows, each answer preferred to that of the next row."""
    some = rows[: len(rows) * 3 // 4]
    return [
        {"question": row["question"], "chosen": row["answer"], "rejected": other["answer"], "aspect": ""}
        for row, other in zip(some, rows[1:], strict=False)
    ]


def sft_trainer(arm: str, model: Any, tokenizer: Any, rows: list[dict], recipe: Any, folder: str) -> tuple:
    """The trainer of an arm and what trains it."""
    from knowtuning.training import sft

    if arm in ("ours", "tree"):
        trainer = sft.sft_trainer(model, tokenizer, rows, recipe, 0, folder)
        return trainer, lambda: sft.run_trainer(trainer, "training")
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    packing = {"padding_free": True, "max_length": None} if arm == "padding-free" else {}
    settings = trl_settings(recipe, folder) | packing | {"per_device_train_batch_size": recipe.sft.batch}
    arguments = SFTConfig(learning_rate=recipe.sft.learning_rate, **settings)
    data = Dataset.from_list(sft.sft_examples(tokenizer, rows, recipe.max_length)[0])
    trainer = SFTTrainer(model=model, processing_class=tokenizer, train_dataset=data, args=arguments)
    return trainer, trainer.train


def dpo_trainer(arm: str, model: Any, tokenizer: Any, rows: list[dict], recipe: Any, folder: str) -> tuple:
    """The trainer of an arm and what trains it."""
    from knowtuning.training import dpo, sft

    if arm in ("ours", "tree"):
        trainer = dpo.dpo_trainer(model, tokenizer, rows, recipe, 0, folder, GAMMA, BETA, watched=0)
        return trainer, lambda: sft.run_trainer(trainer, "training")
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    class Tokenised(DPOTrainer):
        def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
            return dataset

    losses = {"beta": BETA, "loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, GAMMA]}
    settings = trl_settings(recipe, folder) | losses | {"per_device_train_batch_size": recipe.dpo.batch}
    arguments = DPOConfig(learning_rate=recipe.dpo.learning_rate, **settings)
    data = Dataset.from_list(dpo.dpo_examples(tokenizer, rows, recipe.max_length)[0])
    trainer = Tokenised(model=model, processing_class=tokenizer, train_dataset=data, args=arguments)
    return trainer, trainer.train


def trl_settings(recipe: Any, folder: str) -> dict[str, Any]:
    """What TRL is told besides its loss: sizes, the schedule, and on a CPU what it needs to run there at all."""
    import torch

    told = {"output_dir": folder, "num_train_epochs": 1, "max_length": recipe.max_length, "logging_steps": 1}
    told |= {"lr_scheduler_type": "cosine", "save_strategy": "no", "report_to": "none", "disable_tqdm": True, "seed": 0}
    told |= {"gradient_checkpointing": False}
    on_cpu = {"use_cpu": True, "bf16": False, "dataloader_pin_memory": False}
    return told if torch.cuda.is_available() else told | on_cpu


def perplexities(model: Any, tokenizer: Any, rows: list[dict]) -> dict[str, Any]:
    """Seconds of scoring each sentence of each answer after its question, and the perplexities."""
    from knowtuning.knowledge.difficulty import fact_nll, perplexity

    items = [(row["question"], f"{part}.") for row in rows for part in row["answer"].rstrip(".").split(". ")]
    began = time.perf_counter()
    scores = fact_nll(model.eval(), tokenizer, items, SCORE_TOKENS)
    return {"seconds": time.perf_counter() - began, "values": [perplexity(*score) for score in scores]}


if __name__ == "__main__":
    main()
