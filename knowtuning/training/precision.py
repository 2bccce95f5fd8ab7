"""What NF4 costs: recall of the frozen base, time per training step and loss, beside bfloat16 and float32."""

from __future__ import annotations

import time
from pathlib import Path

from knowtuning.lab.base import knowledge
from knowtuning.lab.world import World
from knowtuning.recipe import Recipe
from knowtuning.training.models import load_base, load_tokenizer, new_adapter
from knowtuning.training.sft import train_sft

CHOICES = (("nf4", "float32"), ("nf4", "bfloat16"), ("none", "float32"), ("none", "bfloat16"))


def compare_precisions(
    base: str | Path, recipe: Recipe, rows: list[dict], seed: int, entities: int = 100, examples: int = 120
) -> list[dict]:
    """Train one epoch on a few rows in each precision, and ask each untuned base for the facts of the best-known tier.

    For a recipe of the lab, whose base loads and trains in seconds: four times over, and once in float32.

    Returns:
        Rows `{"weights", "computation", "weights (MB)", "recall", "samples/s", "loss after"}`; recall is the share of
        facts that greedy decoding completes rightly.
    """
    tokenizer = load_tokenizer(base, recipe.prompt)
    world = World.load(recipe.lab)
    asked = sorted(world.entities, key=world.exposures.get, reverse=True)[:entities]
    short = recipe.replace(sft={"epochs": 1}, data={"val_size": min(recipe.data.val_size, examples // 4)})
    compared = []
    for quantisation, dtype in CHOICES:
        model = load_base(base, quantisation, dtype)
        known = [row["known"] for row in knowledge(model, tokenizer, world, asked)]
        start = time.perf_counter()
        adapted = new_adapter(model, short, seed)
        _, _, numbers = train_sft(adapted, tokenizer, rows[:examples], short, seed)
        trained = numbers["rows"] - short.data.val_size
        compared.append(
            {
                "weights": "NF4" if quantisation == "nf4" else dtype,
                "computation": dtype,
                "weights (MB)": model.get_memory_footprint() / 2**20,
                "recall": sum(known) / len(known),
                "samples/s": trained / (time.perf_counter() - start),
                "loss after": numbers["best eval loss"],
            }
        )
    return compared
