"""Supervised fine-tuning with TRL: loss on the answer's tokens and the end token only, best checkpoint by eval loss."""

from __future__ import annotations

import math
import tempfile
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from accelerate import optimizer
from datasets import Dataset, disable_progress_bars
from torch.utils.data import DataLoader
from transformers import PrinterCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer

from knowtuning.data.splits import holdout
from knowtuning.progress import Tick, progress
from knowtuning.recipe import Recipe
from knowtuning.training.compiled import compiled
from knowtuning.training.launch import train_elsewhere, wants_processes
from knowtuning.training.models import device
from knowtuning.training.packed import pack, packed
from knowtuning.training.prompts import encode_within

disable_progress_bars()


def sft_examples(tokenizer: Any, rows: list[dict], max_length: int) -> tuple[list[dict], int]:
    """Tokenise QA rows for the trainer; the second value counts answers cut at `max_length`.

    Each example is `{"input_ids", "labels"}`, where the prompt's labels are -100: they carry no loss.

    Example of labels for a prompt of three tokens and an answer of two:
        input_ids  [1, 57, 12,   80, 81, 2]
        labels     [-100, -100, -100, 80, 81, 2]
    """
    examples, cut = [], 0
    for row in rows:
        prompt, answer, was_cut = encode_within(tokenizer, row["question"], row["answer"], max_length)
        cut += was_cut
        examples.append({"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer})
    return examples, cut


class PackedTrainer:
    """What a trainer of packed batches counts otherwise than transformers, and the walks that it spares.

    In every step transformers walks over all modules four times: to switch them to training, to clip and to delete
    gradients, to count operations. Only the optimizer's parameters have gradients; and accelerate looks twice on disk
    for the package of an optimizer. Of a small model's step the walks are a fifteenth. `compiles`: train with compiled
    layers.
    """

    compiles = False

    def train(self, *args: Any, **kwargs: Any) -> Any:
        switch, now = self.model.train, None

        def train(mode: bool = True) -> Any:
            nonlocal now
            # not `self.model.training`: a new adapter is in training mode over a base that is not
            if mode != now:
                switch(mode)
                now = mode
            return self.model

        def zero_grad(set_to_none: bool = True) -> None:
            self.optimizer.zero_grad(set_to_none)

        layers = compiled(self.model) if self.compiles else nullcontext()
        looked = mock.patch.object(optimizer, "is_lomo_available", cache(optimizer.is_lomo_available))
        with layers, looked, mock.patch.multiple(self.model, train=train, zero_grad=zero_grad):
            return super().train(*args, **kwargs)

    def _clip_grad_norm(self, model: Any) -> Any:
        if self.is_fsdp_enabled:
            return super()._clip_grad_norm(model)
        trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        return torch.nn.utils.clip_grad_norm_(trained, self.args.max_grad_norm)

    def get_train_dataloader(self) -> DataLoader:
        # a table takes as long to give a batch's lists as `pack` takes to pack them
        with mock.patch.object(self, "train_dataset", self.train_dataset.to_list()):
            return super().get_train_dataloader()

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        return 0

    def counted(self, batch: dict[str, Any]) -> int:
        """Tokens of a batch that the mean of the SFT loss is over."""
        return len(batch["label_at"])

    def _get_num_items_in_batch(self, batch_samples: list[dict], device: Any) -> torch.Tensor:
        """Such tokens of a whole step: of its micro-batches and of all processes."""
        tokens = torch.tensor(sum(map(self.counted, batch_samples)), device=device)
        return self.accelerator.gather(tokens).sum()


class AnswerTrainer(PackedTrainer, SFTTrainer):
    """TRL's SFT trainer over packed batches: the mean negative log-likelihood of all answers' tokens of a step."""

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        batch = {name: tensor for name, tensor in inputs.items() if name != "sequence_of"}
        loss = -model(**batch).sum()
        if num_items_in_batch is None:
            return loss / self.counted(batch)
        # the tokens are those of all processes, and DDP averages over processes
        return loss / num_items_in_batch * self.accelerator.num_processes


def sft_trainer(
    model: Any, tokenizer: Any, rows: list[dict], recipe: Recipe, seed: int, output: Path | str
) -> AnswerTrainer:
    """Build TRL's trainer as the scripts use theirs: AdamW, cosine, clip 1.0, evaluation at every tenth of the steps.

    The validation examples are the first `val_size` of a permutation with seed 42, taken out of the training rows
    (LLaMA-Factory's `val_size`); without any, nothing is evaluated and the last checkpoint is the best.
    """
    held = set(holdout(len(rows), recipe.data.val_size))
    at_once = recipe.sft.micro_batch or recipe.sft.batch // recipe.machine.num_processes
    train, _ = sft_examples(tokenizer, [r for i, r in enumerate(rows) if i not in held], recipe.max_length)
    valid, _ = sft_examples(tokenizer, [rows[i] for i in sorted(held)], recipe.max_length)
    steps = -(-len(train) // recipe.sft.batch) * recipe.sft.epochs
    every = max(1, steps // 10)
    trainer = AnswerTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(train),
        eval_dataset=Dataset.from_list(valid) if valid else None,
        data_collator=collate,
        args=SFTConfig(
            output_dir=str(output),
            num_train_epochs=recipe.sft.epochs,
            per_device_train_batch_size=at_once,
            gradient_accumulation_steps=recipe.sft.batch // (at_once * recipe.machine.num_processes),
            per_device_eval_batch_size=recipe.evaluation.batch,
            learning_rate=recipe.sft.learning_rate,
            max_length=recipe.max_length,
            eval_strategy="steps" if valid else "no",
            eval_steps=every,
            save_strategy="steps" if valid else "no",
            save_steps=every,
            save_total_limit=1,
            load_best_model_at_end=bool(valid) and recipe.machine.num_processes == 1,
            metric_for_best_model="eval_loss",
            seed=seed,
            **shared_arguments(recipe),
        ),
    )
    return trainer


def collate(examples: list[dict]) -> dict[str, Any]:
    """One packed row of the examples of a batch."""
    return pack([example["input_ids"] for example in examples], [example["labels"] for example in examples])


def shared_arguments(recipe: Recipe) -> dict[str, Any]:
    """Arguments that SFT and DPO have in common (facts of the scripts: cosine, no warm-up, no decay, clip 1.0)."""
    return {
        "lr_scheduler_type": "cosine",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "logging_steps": 1,
        # which would put an average in place of a loss that is not finite, and training would go on
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "disable_tqdm": True,
        "gradient_checkpointing": recipe.machine.checkpointing,
        "use_liger_kernel": recipe.machine.liger,
        "bf16": device() != "cpu",
        "use_cpu": device() == "cpu",
        "dataloader_pin_memory": device() != "cpu",
        "ddp_find_unused_parameters": False,
        "fsdp": recipe.machine.parallel == "fsdp" and recipe.machine.num_processes > 1,
    }


def train_sft(
    model: Any, tokenizer: Any, rows: list[dict], recipe: Recipe, seed: int
) -> tuple[Any, list[dict], dict[str, Any]]:
    """Fine-tune and return (model with the best adapter, rows `{"step", "loss"| "eval_loss"}`, numbers)."""
    if wants_processes(recipe):
        found = train_elsewhere(model, recipe, {"stage": "sft", "rows": rows, "seed": seed})
    else:
        with tempfile.TemporaryDirectory() as scratch:
            trainer = sft_trainer(model, tokenizer, rows, recipe, seed, scratch)
            found = outcome(trainer, run_trainer(trainer, "training").metrics)
    _, cut = sft_examples(tokenizer, rows, recipe.max_length)
    losses = [{"step": h["step"], **{k: h[k] for k in ("loss", "eval_loss") if k in h}} for h in found["history"]]
    return (
        model.eval(),
        [row for row in losses if len(row) > 1],
        {
            "rows": len(rows),
            "answers cut": cut,
            "steps": found["steps"],
            "best step": found["best_step"] or found["steps"],
            "best eval loss": None if found["best_metric"] is None else round(found["best_metric"], 4),
            "samples per second": round(found["metrics"]["train_samples_per_second"], 1),
        },
    )


def outcome(trainer: Any, metrics: dict[str, float]) -> dict[str, Any]:
    """What a training leaves besides the adapter: `history`, `steps`, `best_step`, `best_metric`, `metrics`."""
    state = trainer.state
    found = {"history": state.log_history, "steps": state.global_step, "metrics": metrics}
    return found | {"best_step": state.best_global_step, "best_metric": state.best_metric}


def run_trainer(trainer: Any, stage: str) -> Any:
    """Train with our progress and without TRL's printing; a loss that is not finite stops the run."""
    arguments = trainer.args
    batch = arguments.train_batch_size * arguments.gradient_accumulation_steps * arguments.world_size
    steps = math.ceil(math.ceil(len(trainer.train_dataset) / batch) * arguments.num_train_epochs)
    said = f"{stage}, compiling first" if trainer.compiles else stage
    with packed(trainer.model), progress(said, steps, "steps") as tick:
        trainer.add_callback(_Report(tick))
        trainer.remove_callback(PrinterCallback)
        return trainer.train()


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
