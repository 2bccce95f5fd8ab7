"""What a run would take, by arithmetic over the shape of its base: memory of each stage, and seconds of all data."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import PretrainedConfig

from knowtuning.recipe import Recipe
from knowtuning.training.gauge import stage_flops
from knowtuning.training.head import LOGITS
from knowtuning.training.shapes import adapter_parameters, matrix_parameters, weight_bytes, with_layers
from knowtuning.training.stand_in import PROMPT_TOKENS, mean_length
from knowtuning.training.trial import WATCHED, Stage, tokens_at_once

# Numbers per token in a Llama layer, as (times hidden size, times intermediate size), in the computation's precision;
# measured with `gauge.LiveTensors` on small layers, where tests hold them to a quarter.
KEPT = (11.2, 3.1)  # by a layer, for its backward pass, with LoRA on all matrices
WORKING = (12.6, 0)  # besides, while a layer goes backward
FORWARD = (5.4, 3.6)  # at most in a pass without gradients
HEAD = 8 * LOGITS  # what the head holds of the vocabulary at once, twice in half and once in full precision
SAMPLING = 32  # bytes per entry of the vocabulary and answer while the next token is drawn
RESERVE = 2**30  # CUDA itself, and what its allocator cannot use
TRAINED = ("SFT", "DPO")
# tokens of the largest evaluation while training: a batch of validation rows; the watched pairs of one aspect
EVALUATED = {
    "SFT": lambda recipe: recipe.evaluation.batch * recipe.max_length,
    "DPO": lambda recipe: 2 * WATCHED * recipe.max_length,
}
PAIRS = 3  # per row: one for each aspect
AUGMENTED = 2  # rows of D_ka per row: itself, and its rewriting


@dataclass(frozen=True)
class Need:
    """Bytes on one card in one stage: the base, what belongs to the adapter, and what the largest pass makes."""

    weights: int
    adapter: int
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.adapter + self.activations + RESERVE


def needs(recipe: Recipe, config: PretrainedConfig, per_token: dict[str, float] | None = None) -> dict[str, Need]:
    """Memory of each stage, by its name.

    Args:
        per_token: bytes that a layer was measured to keep of a token in "SFT" and "DPO", in place of arithmetic.
    """
    whole = weight_bytes(config, recipe.quantisation, recipe.dtype)
    found = {}
    for stage in ("SFT", "perplexity", "generation", "DPO"):
        if stage in TRAINED:
            kept = (per_token or {}).get(stage, _kept(recipe, config))
            made = max(_training(recipe, config, stage, kept), EVALUATED[stage](recipe) * forward(recipe, config))
        elif stage == "generation":
            made = _generation(recipe, config)
        else:
            made = recipe.machine.score_tokens * forward(recipe, config)
        shared = recipe.machine.num_processes if stage in TRAINED and recipe.machine.parallel == "fsdp" else 1
        made += _dequantised(recipe, config)
        found[stage] = Need(whole // shared, _adapter(recipe, config, stage), round(made))
    return found


def largest_need(recipe: Recipe, config: PretrainedConfig) -> tuple[str, int]:
    """The stage that needs most memory on a card, and its bytes, by arithmetic."""
    return max(((stage, need.total) for stage, need in needs(recipe, config).items()), key=lambda found: found[1])


def cache_bytes(config: PretrainedConfig, tokens: int, dtype: str) -> int:
    """Bytes of the keys and values that generation keeps of `tokens` tokens."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * width * tokens * getattr(torch, dtype).itemsize


def _kept(recipe: Recipe, config: PretrainedConfig) -> float:
    """Bytes of a token that every layer keeps: all for its backward pass, or with checkpointing its input alone."""
    return _bytes(recipe, config, (1, 0) if recipe.machine.checkpointing else KEPT)


def _training(recipe: Recipe, config: PretrainedConfig, stage: str, kept: float) -> float:
    """Bytes of the largest training pass: what all layers keep, and the layer at work, or the head if that is more."""
    tokens = tokens_at_once(recipe, stage)
    layer = _bytes(recipe, config, WORKING) + (_bytes(recipe, config, KEPT) if recipe.machine.checkpointing else 0)
    head = HEAD + tokens * _bytes(recipe, config, (2, 0))
    return tokens * kept * config.num_hidden_layers + max(tokens * layer, head)


def _generation(recipe: Recipe, config: PretrainedConfig) -> float:
    """Bytes of the keys and values of a batch's full answers, of reading its prompts, and of drawing a token."""
    cache = cache_bytes(config, tokens_at_once(recipe, "generation"), recipe.dtype)
    prompts = PROMPT_TOKENS * forward(recipe, config)
    return cache * (1 + 2 / config.num_hidden_layers) + recipe.evaluation.batch * (
        prompts + SAMPLING * config.vocab_size
    )


def forward(recipe: Recipe, config: PretrainedConfig) -> float:
    """Bytes of a token in a pass without gradients."""
    return _bytes(recipe, config, FORWARD)


def _bytes(recipe: Recipe, config: PretrainedConfig, numbers: tuple[float, float]) -> float:
    hidden, intermediate = numbers
    width = getattr(torch, recipe.dtype).itemsize
    return width * (hidden * config.hidden_size + intermediate * config.intermediate_size)


def _dequantised(recipe: Recipe, config: PretrainedConfig) -> int:
    """Bytes of the largest matrix of a layer, which NF4 unpacks to be multiplied with."""
    if recipe.quantisation == "none":
        return 0
    return config.hidden_size * config.intermediate_size * getattr(torch, recipe.dtype).itemsize


def _adapter(recipe: Recipe, config: PretrainedConfig, stage: str) -> int:
    """Bytes of the adapter; in training also of its gradients, AdamW's two means and, for DPO, TRL's copy of it.

    TRL holds an adapter in bfloat16 over NF4, PEFT in float32 over other bases.
    """
    copies = {"SFT": 4, "DPO": 5}.get(stage, 1)
    return copies * adapter_parameters(config, recipe) * (2 if recipe.quantisation == "nf4" else 4)


@dataclass(frozen=True)
class Plan:
    """One stage of a whole run: its tokens and model FLOPs, and its seconds by the stage that was `measured` for it."""

    stage: str
    measured: str
    tokens: int
    seconds: float
    flops: float


def plan(recipe: Recipe, config: PretrainedConfig, stages: list[Stage], layers: int, rows: int) -> list[Plan]:
    """What a data set of `rows` rows would take, of the lengths that are assumed of it.

    Seconds are those of the stages for as many tokens, times the share of the arithmetic that their `layers` layers
    had. Generation is that of one arm: the test questions in two decodings, every answer to its limit.
    """
    length = mean_length(recipe.max_length)
    pairs = PAIRS * rows * 2 * length
    answers = 2 * recipe.data.test_rows * recipe.evaluation.max_new_tokens
    parts = (
        ("SFT", "SFT", rows * recipe.sft.epochs * length),
        ("KA", "SFT", AUGMENTED * rows * recipe.sft.epochs * length),
        ("perplexity", "perplexity", rows * length),
        ("reference", "reference", pairs),
        ("DPO", "DPO", pairs * recipe.dpo.epochs),
        ("answers", "generation", answers),
    )
    whole = matrix_parameters(config)
    share = matrix_parameters(with_layers(config, layers)) / whole
    speed = {stage.name: stage.tokens / stage.seconds * share for stage in stages if stage.tokens}
    return [
        Plan(name, stage, round(tokens), tokens / speed[stage], stage_flops(stage, round(tokens), whole))
        for name, stage, tokens in parts
        if stage in speed
    ]
