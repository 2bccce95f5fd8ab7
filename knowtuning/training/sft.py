"""Supervised fine-tuning: loss on the answer's tokens and the end token only, best checkpoint by validation loss."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, disable_progress_bars
from transformers import Trainer, TrainingArguments

from knowtuning.data.splits import holdout
from knowtuning.recipe import Recipe
from knowtuning.training.launch import run_trainer, train_elsewhere, wants_processes
from knowtuning.training.models import device
from knowtuning.training.packed import IGNORE, label_log_probs, pack
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
        examples.append({"input_ids": prompt + answer, "labels": [IGNORE] * len(prompt) + answer})
    return examples, cut


class PackedTrainer(Trainer):
    """Transformers' trainer over batches of `pack`: what is a mean over tokens is one over those of the whole step."""

    def counted(self, batch: dict[str, torch.Tensor]) -> int:
        """Tokens of a batch that the mean is over."""
        return int((batch["labels"] != IGNORE).sum())

    def _get_num_items_in_batch(self, batch_samples: list[dict], device: Any) -> torch.Tensor:
        """Such tokens of all micro-batches and all processes of a step."""
        tokens = torch.tensor(sum(map(self.counted, batch_samples)), device=device)
        return self.accelerator.gather(tokens).sum()


class AnswerTrainer(PackedTrainer):
    """SFT: the mean negative log-likelihood of the answers' tokens."""

    loss_is_scaled_for_ga = True

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """L_SFT = -1/N sum log p(y_t | x, y_<t) over the N answer tokens of a step."""
        log_probs, _ = label_log_probs(model, inputs)
        tokens = len(log_probs) if num_items_in_batch is None else num_items_in_batch
        # N is that of all processes, over which gradients are averaged afterwards
        loss = -log_probs.sum() / tokens * (1 if num_items_in_batch is None else self.accelerator.num_processes)
        return (loss, {}) if return_outputs else loss


def sft_trainer(
    model: Any, tokenizer: Any, rows: list[dict], recipe: Recipe, seed: int, output: Path | str
) -> AnswerTrainer:
    """Build the trainer as the scripts use theirs: AdamW, cosine, clip 1.0, evaluation at every tenth of the steps.

    The validation examples are the first `val_size` of a permutation with seed 42, taken out of the training rows
    (LLaMA-Factory's `val_size`); without any, nothing is evaluated and the last checkpoint is the best.
    """
    held = set(holdout(len(rows), recipe.data.val_size))
    at_once = recipe.sft.micro_batch or recipe.sft.batch // recipe.machine.num_processes
    train, _ = sft_examples(tokenizer, [r for i, r in enumerate(rows) if i not in held], recipe.max_length)
    valid, _ = sft_examples(tokenizer, [rows[i] for i in sorted(held)], recipe.max_length)
    steps = -(-len(train) // recipe.sft.batch) * recipe.sft.epochs
    every = max(1, steps // 10)
    return AnswerTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(train),
        eval_dataset=Dataset.from_list(valid) if valid else None,
        data_collator=collate,
        args=TrainingArguments(
            output_dir=str(output),
            num_train_epochs=recipe.sft.epochs,
            per_device_train_batch_size=at_once,
            gradient_accumulation_steps=recipe.sft.batch // (at_once * recipe.machine.num_processes),
            per_device_eval_batch_size=recipe.evaluation.batch,
            learning_rate=recipe.sft.learning_rate,
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


def collate(examples: list[dict]) -> dict[str, torch.Tensor]:
    """The batch of `pack` that some examples make."""
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
        "remove_unused_columns": False,
        "label_names": ["labels"],
        "activation_checkpointing": recipe.machine.checkpointing,
        "activation_checkpointing_kwargs": {"use_reentrant": False},
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
        trained = train_elsewhere(model, recipe, f"{__name__}:sft_trainer", {"rows": rows, "seed": seed})
    else:
        with tempfile.TemporaryDirectory() as scratch:
            trainer = sft_trainer(model, tokenizer, rows, recipe, seed, scratch)
            trained = run_trainer(trainer)
    _, cut = sft_examples(tokenizer, rows, recipe.max_length)
    losses = [{"step": h["step"], **{k: h[k] for k in ("loss", "eval_loss") if k in h}} for h in trained["history"]]
    return (
        model.eval(),
        [row for row in losses if len(row) > 1],
        {
            "rows": len(rows),
            "answers cut": cut,
            "steps": trained["steps"],
            "best step": trained["best_step"] or trained["steps"],
            "best eval loss": None if trained["best_metric"] is None else round(trained["best_metric"], 4),
            "samples per second": float(f"{trained['metrics']['train_samples_per_second']:.3g}"),
        },
    )
