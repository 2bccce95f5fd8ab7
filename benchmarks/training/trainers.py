"""One training of ours, or of plain TRL, on the files that LLaMA-Factory trains on: prints its numbers as JSON.

    python benchmarks/training/trainers.py sft ours FOLDER

`stock` is TRL with its defaults: padded batches, every position scored, the reference run in every step.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PrinterCallback
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from knowtuning.data.llamafactory import read_alpaca, read_ranking
from knowtuning.recipe import Recipe
from knowtuning.run import Run
from knowtuning.training import dpo, models, sft

TAIL = "\n\n"  # LLaMA-Factory's template trains on it after the end token, and so all do here
SETTINGS = {"report_to": "none", "use_cpu": True, "bf16": False, "dataloader_pin_memory": False, "disable_tqdm": True}
SETTINGS |= {"save_strategy": "no", "logging_steps": 1, "lr_scheduler_type": "cosine", "gradient_checkpointing": False}


def main() -> None:
    """Train once and print steps, losses, seconds and samples per second."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=["sft", "dpo"])
    parser.add_argument("way", choices=["ours", "stock"])
    parser.add_argument("folder", type=Path, help="where the adapter goes")
    parser.add_argument("--recipe", default="lab")
    parser.add_argument("--start", type=Path, help="adapter that DPO starts from")
    parser.add_argument("--rows", type=int, default=0, help="only the first rows (default: all)")
    chosen = parser.parse_args()
    run = Run("training", recipe=chosen.recipe, seed=0)
    recipe = run.recipe.replace(quantisation="none", data={"val_size": 0})
    tokenizer = models.load_tokenizer(run.need("base"))
    model = models.load_base(run.need("base"), "none")
    # fewer rows are those of the file's beginning, as LLaMA-Factory's max_samples takes them
    if chosen.stage == "sft":
        rows = read_alpaca(run.need("ka.json"))[: chosen.rows or None]
        model = models.new_adapter(model, recipe, seed=0)
        trainer, before = (stock_sft if chosen.way == "stock" else ours_sft)(model, tokenizer, rows, recipe, chosen)
    else:
        pairs = read_ranking(run.need("kc.json"))[: chosen.rows or None]
        model = models.load_adapter(model, chosen.start, trainable=True)
        trainer, before = (stock_dpo if chosen.way == "stock" else ours_dpo)(model, tokenizer, pairs, recipe, chosen)
    print(json.dumps(trained(trainer, before, chosen.way, chosen.folder)))


def trained(trainer: Any, before: float, way: str, folder: Path) -> dict[str, Any]:
    """Train and save; `before` are seconds that belong to the training and came before it."""
    trainer.remove_callback(PrinterCallback)
    metrics = trainer.train().metrics if way == "stock" else sft.run_trainer(trainer)["metrics"]
    seconds = metrics["train_runtime"]
    models.save_adapter(trainer.model, folder, "A benchmark.")
    samples = len(trainer.train_dataset) * trainer.args.num_train_epochs
    return {
        "samples_per_second": samples / (seconds + before),
        "samples_per_second_without_reference": samples / seconds,
        "seconds": seconds + before,
        "steps": trainer.state.global_step,
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
    }


def with_tail(tokenizer: Any, examples: list[dict], columns: tuple[str, ...]) -> Dataset:
    """The examples with the tail at the end of every answer."""
    tail = tokenizer(TAIL, add_special_tokens=False)["input_ids"]
    return Dataset.from_list([e | {column: e[column] + tail for column in columns} for e in examples])


def ours_sft(model: Any, tokenizer: Any, rows: list[dict], recipe: Recipe, chosen: Any) -> tuple[Any, float]:
    """Our trainer, as notebook 07 has it."""
    trainer = sft.sft_trainer(model, tokenizer, rows, recipe, 0, chosen.folder)
    trainer.train_dataset = with_tail(tokenizer, trainer.train_dataset.to_list(), ("input_ids", "labels"))
    return trainer, 0.0


def stock_sft(model: Any, tokenizer: Any, rows: list[dict], recipe: Recipe, chosen: Any) -> tuple[Any, float]:
    """TRL's trainer as it comes."""
    examples, _ = sft.sft_examples(tokenizer, rows, recipe.max_length)
    arguments = SFTConfig(
        output_dir=str(chosen.folder),
        per_device_train_batch_size=recipe.sft.batch,
        num_train_epochs=recipe.sft.epochs,
        learning_rate=recipe.sft.learning_rate,
        max_length=recipe.max_length,
        seed=0,
        **SETTINGS,
    )
    dataset = with_tail(tokenizer, examples, ("input_ids", "labels"))
    return SFTTrainer(model=model, processing_class=tokenizer, train_dataset=dataset, args=arguments), 0.0


def ours_dpo(model: Any, tokenizer: Any, pairs: list[dict], recipe: Recipe, chosen: Any) -> tuple[Any, float]:
    """Our trainer, as notebook 08 has it; the seconds are those of the reference's log-probabilities."""
    made, add = dpo.dpo_examples, dpo.add_reference
    spent = []

    def timed(*arguments: Any) -> None:
        start = time.perf_counter()
        add(*arguments)
        spent.append(time.perf_counter() - start)

    dpo.dpo_examples = lambda *arguments: (
        with_tail(tokenizer, made(*arguments)[0], ("chosen_ids", "rejected_ids")).to_list(),
        0,
    )
    dpo.add_reference = timed
    recipe = recipe.replace(dpo={"sft_mean": "answers"})  # LLaMA-Factory's
    trainer = dpo.dpo_trainer(
        model, tokenizer, [pair | {"aspect": ""} for pair in pairs], recipe, 0, chosen.folder, watched=0
    )
    return trainer, spent[0]


def stock_dpo(model: Any, tokenizer: Any, pairs: list[dict], recipe: Recipe, chosen: Any) -> tuple[Any, float]:
    """TRL's trainer as it comes, with its two losses; it runs the reference in every step."""

    class Stock(DPOTrainer):
        def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
            return dataset

    examples, _ = dpo.dpo_examples(tokenizer, pairs, recipe.max_length)
    arguments = DPOConfig(
        output_dir=str(chosen.folder),
        per_device_train_batch_size=recipe.dpo.batch,
        num_train_epochs=recipe.dpo.epochs,
        learning_rate=recipe.dpo.learning_rate,
        max_length=recipe.max_length,
        beta=0.1,
        loss_type=["sigmoid", "sft"],
        loss_weights=[1.0, 0.2],
        seed=0,
        **SETTINGS,
    )
    dataset = with_tail(tokenizer, examples, ("chosen_ids", "rejected_ids"))
    return Stock(model=model, processing_class=tokenizer, train_dataset=dataset, args=arguments), 0.0


if __name__ == "__main__":
    main()
