"""The peer of `gpu.py`: TRL's trainers as they come, told nothing but sizes, rates and the reference's start."""

from __future__ import annotations

import tempfile
from typing import Any

import torch
from datasets import Dataset
from transformers import PrinterCallback
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from knowtuning.recipe import Recipe

GAMMA, BETA = 0.2, 0.1


class TokenisedDPOTrainer(DPOTrainer):
    """TRL's trainer over token ids that are given: both sides train on the same."""

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        return dataset


def sft(model: Any, tokenizer: Any, examples: list[dict], recipe: Recipe) -> tuple[float, list[float]]:
    """Train an epoch on examples of `sft.sft_examples`; the seconds of the steps, and their losses."""
    with tempfile.TemporaryDirectory() as folder:
        settings = SFTConfig(
            per_device_train_batch_size=recipe.sft.micro_batch,
            gradient_accumulation_steps=recipe.sft.batch // recipe.sft.micro_batch,
            learning_rate=recipe.sft.learning_rate,
            **_shared(recipe, folder),
        )
        data = Dataset.from_list(examples)
        return _train(SFTTrainer(model=model, processing_class=tokenizer, train_dataset=data, args=settings))


def dpo(model: Any, tokenizer: Any, examples: list[dict], recipe: Recipe) -> tuple[float, list[float]]:
    """Train an epoch on examples of `dpo.dpo_examples`, with DPO and SFT loss; TRL runs the reference in every step."""
    with tempfile.TemporaryDirectory() as folder:
        settings = DPOConfig(
            per_device_train_batch_size=recipe.dpo.micro_batch,
            gradient_accumulation_steps=recipe.dpo.batch // recipe.dpo.micro_batch,
            learning_rate=recipe.dpo.learning_rate,
            beta=BETA,
            loss_type=["sigmoid", "sft"],
            loss_weights=[1.0, GAMMA],
            **_shared(recipe, folder),
        )
        data = Dataset.from_list(examples)
        return _train(TokenisedDPOTrainer(model=model, processing_class=tokenizer, train_dataset=data, args=settings))


def _shared(recipe: Recipe, folder: str) -> dict[str, Any]:
    """What both sides are told; on a CPU also what TRL needs to run there at all."""
    told = {
        "output_dir": folder,
        "num_train_epochs": 1,
        "max_length": recipe.max_length,
        "lr_scheduler_type": "cosine",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": 0,
    }
    on_cpu = {"use_cpu": True, "bf16": False, "dataloader_pin_memory": False}
    return told if torch.cuda.is_available() else told | on_cpu


def _train(trainer: Any) -> tuple[float, list[float]]:
    trainer.remove_callback(PrinterCallback)
    seconds = trainer.train().metrics["train_runtime"]
    return seconds, [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
