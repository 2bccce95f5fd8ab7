"""The two trainings of the method as LLaMA-Factory 0.9.5 is told to do them: one YAML file each.

Its template "alpaca" makes the prompt of `knowtuning.data.records.prompt_text` once its opening sentence is replaced,
through `default_system`, by the start token that it would leave out. One difference stays: after the end token it puts,
and trains on, two line feeds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from knowtuning.recipe import Recipe

PREF_BETA = 0.1
PREF_FTX = 0.2


def sft_config(recipe: Recipe, base: Path, data: Path, start_token: str, seed: int, output: Path) -> dict[str, Any]:
    """Knowledge augmentation: a fresh adapter on the rows of `ka`.

    Args:
        data: the folder with `dataset_info.json`.
        start_token: the tokenizer's, or "" where it has none.
        output: gets `adapter` (with the trainer's records) and `tokenised` (the examples that it trained on).
    """
    return {
        **_shared(recipe, base, data, start_token, seed, output),
        "stage": "sft",
        "dataset": "ka",
        "eval_dataset": "ka",
        "per_device_eval_batch_size": 1,  # its loss is a mean of batch means: of the answers' means
        "num_train_epochs": recipe.sft.epochs,
        "per_device_train_batch_size": recipe.sft.batch,
        "learning_rate": recipe.sft.learning_rate,
    }


def dpo_config(
    recipe: Recipe, base: Path, data: Path, start_token: str, seed: int, output: Path, start: Path
) -> dict[str, Any]:
    """Knowledge comparison: the adapter in `start` trained further on the pairs of `kc`, and measured against itself.

    Without `ref_model` LLaMA-Factory would take the base with the adapter switched off as the reference.
    """
    return {
        **_shared(recipe, base, data, start_token, seed, output),
        "stage": "dpo",
        "dataset": "kc",
        "eval_dataset": "kc",
        "per_device_eval_batch_size": recipe.dpo.batch,
        "adapter_name_or_path": str(start),
        "ref_model": str(base),
        "ref_model_adapters": str(start),
        "pref_loss": "sigmoid",
        "pref_beta": PREF_BETA,
        "pref_ftx": PREF_FTX,
        "num_train_epochs": recipe.dpo.epochs,
        "per_device_train_batch_size": recipe.dpo.batch,
        "learning_rate": recipe.dpo.learning_rate,
    }


def _shared(recipe: Recipe, base: Path, data: Path, start_token: str, seed: int, output: Path) -> dict[str, Any]:
    return {
        "do_train": True,
        # the loss of the whole file before the first step and after the last
        "eval_on_start": True,
        "do_eval": True,
        "model_name_or_path": str(base),
        "dataset_dir": str(data),
        "template": "alpaca",
        "default_system": start_token,
        "cutoff_len": recipe.max_length,
        "overwrite_cache": True,
        "tokenized_path": str(output / "tokenised"),
        "output_dir": str(output / "adapter"),
        "finetuning_type": "lora",
        "lora_rank": recipe.lora.rank,
        "lora_alpha": recipe.lora.alpha,
        "lora_dropout": recipe.lora.dropout,
        "lora_target": ",".join(recipe.lora.targets),
        "lr_scheduler_type": "cosine",
        "max_grad_norm": 1.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_gradient_checkpointing": True,
        "dataloader_pin_memory": False,
        "seed": seed,
    }


def write_config(path: Path, config: dict[str, Any]) -> Path:
    """Write a config as YAML for `llamafactory-cli train`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path
