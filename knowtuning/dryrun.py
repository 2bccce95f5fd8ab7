"""Before weights are downloaded or a GPU is rented: what the shape of a base needs, and the path tried with it."""

from __future__ import annotations

import copy
import gc
import os
import random
import resource
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, PretrainedConfig, PreTrainedTokenizerFast

from knowtuning.display import table
from knowtuning.files import ROOT, DataError, read_yaml
from knowtuning.knowledge.difficulty import score_facts
from knowtuning.lab.base import shape
from knowtuning.recipe import Recipe, lab_of
from knowtuning.run import runs_folder
from knowtuning.training.dpo import dpo_trainer, step_zero, train_dpo
from knowtuning.training.generate import generate
from knowtuning.training.models import load_adapter, load_base, new_adapter, save_adapter, trainable_parameters
from knowtuning.training.prompts import encode_prompt, use_form
from knowtuning.training.sft import train_sft

SHAPES = ROOT / "data" / "shapes.yaml"
GB = 2**30
ON_A_CPU = 3e8  # weights of a base that needs no GPU
# Tokens of a prompt with its answer: the mean of Dolly's and MedQuAD's answers at 1.35 tokens a word. Assumed.
TOKENS, PROMPT_TOKENS, FACT_TOKENS = 250, 50, 20
NF4 = 0.516  # bytes of a weight in NF4 with its scales (double quantisation)
TRAINED = 16  # bytes per weight of the adapter: itself, its gradient and AdamW's two means in float32
LOGITS = 10  # bytes per labelled token and entry of the vocabulary: logits in half and in full precision, and losses
RESERVE = GB  # CUDA itself, and what its allocator cannot use
# of 2 FLOPs per weight and token: LoRA's way back has no gradients of frozen weights, and DPO has its reference's pass
PASSES = {"SFT": 2, "perplexity": 1, "DPO": 3}
ELSEWHERE, SHARE = "A100", 0.3  # the card that a CPU tells times of, and the share of its peak that is assumed
OR = "quantisation=nf4, a larger card, or a smaller base."
CURES = {  # what to change where a stage does not fit, the cheapest first
    "load": OR,
    "SFT": f"a smaller sft.micro_batch, machine.checkpointing=true, {OR}",
    "perplexity": f"fewer machine.score_tokens, {OR}",
    "generation": f"a smaller evaluation.batch, {OR}",
    "DPO": f"a smaller dpo.micro_batch, machine.checkpointing=true, {OR}",
}
CARD = "An adapter of a dry run: it means nothing."


@dataclass
class Stage:
    """What a stage took: its tokens and seconds, and at most `peak` bytes (on a CPU: of the whole process so far)."""

    name: str
    tokens: int = 0
    seconds: float = 0.0
    peak: int = 0
    first_loss: float = 0.0


# --- shapes


def config_of(base: str) -> PretrainedConfig:
    """The configuration of a base: one of data/shapes.yaml or of the lab's, or what a folder or the hub holds.

    Raises:
        DataError: the base is unknown here, and its `config.json` cannot be read.
    """
    if known := read_yaml(SHAPES).get(base):
        return LlamaConfig(**known)
    if lab := lab_of(base):
        return LlamaConfig(**shape(lab))
    try:
        return AutoConfig.from_pretrained(base)
    except (OSError, ValueError) as error:
        where = "has no readable config.json" if Path(base).is_dir() else "is no folder, and the hub does not give it"
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"base {base} {where} ({reason}): give a folder with its config.json as `base`.") from None


def with_layers(config: PretrainedConfig, layers: int) -> PretrainedConfig:
    """The same with its first `layers` layers only."""
    cut = copy.deepcopy(config)
    text = cut.get_text_config()
    if not 1 <= layers <= text.num_hidden_layers:
        raise DataError(f"layers is {layers}; this base has {text.num_hidden_layers}: give a number from 1 to that.")
    text.num_hidden_layers = layers
    if vars(text).get("layer_types"):  # of some it is a property that follows the number
        text.layer_types = text.layer_types[:layers]
    return cut


def tiny(config: PretrainedConfig) -> PretrainedConfig:
    """A model of the same code with two heads and a layer of each kind, two at least, to be tried in a second."""
    text = config.get_text_config()
    kinds = list(getattr(text, "layer_types", None) or ())
    layers = max(2, *(kinds.index(kind) + 1 for kind in kinds)) if kinds else 2
    shrunk = with_layers(config, min(layers, text.num_hidden_layers))
    text, sizes = shrunk.get_text_config(), {"sliding_window": 8}  # so that texts of a few tokens do not fit into it
    if getattr(text, "num_attention_heads", 0):
        sizes |= {"num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 64}
        sizes["hidden_size"] = 2 * _head_size(text)
    for name, size in sizes.items():
        if getattr(text, name, None) and not isinstance(getattr(type(text), name, None), property):
            setattr(text, name, size)
    return shrunk


def weightless(config: PretrainedConfig, dtype: str = "bfloat16") -> Any:
    """The model on the meta device: every module and shape, no memory."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))


def parameters(config: PretrainedConfig) -> int:
    """Number of weights, tied ones once."""
    return weightless(config).num_parameters()


# --- arithmetic


def weight_bytes(model: Any, quantisation: str) -> int:
    """Bytes of a base as `models.load_base` loads it: with "nf4" every linear layer but the head in four bits."""
    head, quantised = model.get_output_embeddings(), 0
    if quantisation == "nf4":
        linear = (module for module in model.modules() if isinstance(module, torch.nn.Linear) and module is not head)
        quantised = sum(module.weight.numel() for module in linear)
    return round(model.get_memory_footprint() - (model.dtype.itemsize - NF4) * quantised)


def needs(recipe: Recipe, config: PretrainedConfig) -> dict[str, int]:
    """Bytes on each card in each stage: weights, adapter and the activations of the largest pass.

    A layer works in as many bytes as it keeps. Activations and logits are those of texts of `max_length` throughout;
    with checkpointing every layer keeps its input, and one layer the rest.
    """
    model, text = weightless(config, recipe.dtype), config.get_text_config()
    weights, width, hidden = weight_bytes(model, recipe.quantisation), model.dtype.itemsize, text.hidden_size
    shared = weights // recipe.machine.num_processes if recipe.machine.parallel == "fsdp" else weights
    adapter = TRAINED * trainable_parameters(new_adapter(model, recipe, seed=0))
    layers, logits = text.num_hidden_layers, LOGITS * text.vocab_size
    # of a token: Korthikanti et al. 2022, equation 2, has 17 vectors; with LoRA and a gated MLP there are a few more
    layer = width * (10 * hidden + 4 * (getattr(text, "intermediate_size", None) or 4 * hidden))
    kept = layer + layers * width * hidden if recipe.machine.checkpointing else layers * layer
    heads = getattr(text, "num_attention_heads", 0)  # none in a recurrent model, which keeps no keys and values
    cached = (getattr(text, "num_key_value_heads", None) or heads) * _head_size(text) if heads else 0
    answered = min(65536, recipe.evaluation.batch * (PROMPT_TOKENS + recipe.evaluation.max_new_tokens))
    trained = recipe.max_length * (kept + layer + logits)
    return {
        "SFT": RESERVE + shared + adapter + _at_once(recipe, "sft") * trained,
        "DPO": RESERVE + shared + adapter + 2 * _at_once(recipe, "dpo") * trained,
        "generation": RESERVE + weights + answered * 2 * width * layers * cached,
    }


def _head_size(text: PretrainedConfig) -> int:
    return getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads


def _at_once(recipe: Recipe, stage: str) -> int:
    """Sequences, or pairs, that a process holds at once."""
    sizes = getattr(recipe, stage)
    return sizes.micro_batch or sizes.batch // recipe.machine.num_processes


# --- trying the path


def dry_run(recipe: Recipe, rows: int = 4000, steps: int = 3, layers: int = 0) -> tuple[list[Stage], bool]:
    """Go the whole path with random weights, and print what it took and what all data would; asks no endpoint.

    Args:
        rows: of the data set that the times are told for.
        steps: optimiser steps of SFT and of DPO.
        layers: how many of the base's are tried; 0: all on a GPU or of a small base, else 2.

    Returns:
        The stages, and whether they were those of all layers.
    """
    config, on_gpu = config_of(recipe.base), torch.cuda.is_available()
    weights, count = parameters(config), config.get_text_config().num_hidden_layers
    whole = on_gpu or weights < ON_A_CPU
    layers = layers or (count if whole else min(2, count))
    tried = with_layers(config, layers)
    where = torch.cuda.get_device_name() if on_gpu else f"the CPU ({os.cpu_count()} cores)"
    less = "; times of all data are extrapolated by the number of weights, and memory on a card is not measured"
    text = (
        f"Dry run of recipe {recipe.name}: the shape of {recipe.base} with random weights, {weights:,} of "
        f"them ({recipe.quantisation}, {recipe.dtype}), on {where}, with {layers} of {count} layers"
    )
    print(f"\n{textwrap.fill(text + less * (layers < count) + '.', 80)}", flush=True)
    stages = try_stages(tried, alone(recipe, short=not whole), steps if whole else 1)
    _print_stages(recipe, stages, weights, parameters(tried), rows)
    return stages, layers == count


def alone(recipe: Recipe, short: bool = False) -> Recipe:
    """The recipe as one of its processes tries it: its micro-batches, one epoch, nothing set aside.

    `short` makes passes that a CPU gets through with a few layers of a large base.
    """
    one = recipe.replace(
        data={"val_size": 0},
        sft={"epochs": 1, "micro_batch": _at_once(recipe, "sft")},
        dpo={"epochs": 1, "micro_batch": _at_once(recipe, "dpo")},
        machine={"num_processes": 1, "parallel": "ddp"},
    )
    if not short:
        return one
    return one.replace(
        max_length=min(recipe.max_length, 256),
        sft={"batch": 2, "micro_batch": 1},
        dpo={"batch": 1, "micro_batch": 1},
        evaluation={"batch": 2, "max_new_tokens": 8},
        machine={"score_tokens": 512},
    )


def word_tokenizer(form: str = "plain") -> PreTrainedTokenizerFast:
    """A tokenizer of one token per word, so that texts have the lengths that are wanted; its ids are in any base."""
    words = ["<unk>", "<pad>", "<s>", "</s>", *(f"word{number}" for number in range(200))]
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    special = dict(zip(("unk_token", "pad_token", "bos_token", "eos_token"), words, strict=False))
    return use_form(PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special), "plain" if form == "chat" else form)


def qa_rows(tokenizer: Any, count: int, tokens: int, seed: int = 0) -> list[dict]:
    """QA rows of random words, each of so many tokens as a training sequence, with the answer's facts under "facts"."""
    chance = random.Random(seed)
    rows, asked = [], min(PROMPT_TOKENS, tokens // 2) - len(encode_prompt(tokenizer, "word")) + 1
    for number in range(count):
        question = " ".join(f"word{chance.randrange(200)}" for _ in range(max(1, asked)))
        left = max(1, tokens - len(encode_prompt(tokenizer, question)) - 1)
        words = [f"word{chance.randrange(200)}" for _ in range(left)]
        facts = [" ".join(words[start : start + FACT_TOKENS]) for start in range(0, left, FACT_TOKENS)]
        rows.append({"id": str(number), "question": question, "answer": " ".join(words), "facts": facts})
    return rows


def preference_pairs(tokenizer: Any, count: int, tokens: int) -> list[dict]:
    """Preference pairs of random words, each side of so many tokens."""
    sides = (qa_rows(tokenizer, count, tokens, seed) for seed in (0, 1))
    return [
        {"question": row["question"], "chosen": row["answer"], "rejected": other["answer"], "aspect": "none"}
        for row, other in zip(*sides, strict=True)
    ]


@contextmanager
def _measured(stages: list[Stage], recipe: Recipe, name: str) -> Iterator[Stage]:
    """Append a stage with its peak, and its seconds if it does not tell them; one that does not fit is named."""
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    stage, began = Stage(name), time.perf_counter()
    try:
        yield stage
    except torch.OutOfMemoryError:
        reason = f"recipe {recipe.name} does not fit here: the GPU has too little memory for {name}"
        raise DataError(f"{reason}. Cure: {CURES[name]}") from None
    stage.seconds = stage.seconds or time.perf_counter() - began
    if torch.cuda.is_available():
        stage.peak = torch.cuda.max_memory_allocated()
    else:
        stage.peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    stages.append(stage)


def try_stages(config: PretrainedConfig, recipe: Recipe, steps: int) -> list[Stage]:
    """Go the way of notebooks 02 to 09 with a random base of this shape, by the functions that train.

    All texts have `max_length` tokens, so that the memory is that of the largest pass.

    Args:
        recipe: one process's (`alone`).
        steps: optimiser steps of SFT and of DPO.

    Raises:
        DataError: a GPU's memory did not suffice.
    """
    tokenizer, tokens, sizes = word_tokenizer(recipe.prompt), recipe.max_length, recipe.evaluation
    stages: list[Stage] = []
    measured = partial(_measured, stages, recipe)
    runs_folder().mkdir(parents=True, exist_ok=True)
    # beside the runs: a folder for temporary files may lie in memory
    with tempfile.TemporaryDirectory(dir=runs_folder(), prefix=".dry-run-") as name:
        folder = Path(name)
        with measured("load"):
            AutoModelForCausalLM.from_config(config, dtype=getattr(torch, recipe.dtype)).save_pretrained(
                folder / "base"
            )
            base = load_base(folder / "base", recipe.quantisation, recipe.dtype)
            model = new_adapter(base, recipe, seed=0)
        with measured("SFT") as stage:
            rows = qa_rows(tokenizer, steps * recipe.sft.batch, tokens)
            numbers = train_sft(model, tokenizer, rows, recipe, 0)[2]
            stage.tokens, stage.seconds = len(rows) * tokens, len(rows) / numbers["samples per second"]
        with measured("perplexity") as stage:
            rows = qa_rows(tokenizer, max(2, recipe.machine.score_tokens // tokens), tokens)
            questions = {row["id"]: row["question"] for row in rows}
            score_facts(model, tokenizer, rows, questions, recipe.machine.score_tokens)
            stage.tokens = len(rows) * tokens
        with measured("generation") as stage:
            asked = [row["question"] for row in qa_rows(tokenizer, sizes.batch, tokens)]
            answers = generate(model, tokenizer, asked, "sampled", sizes.max_new_tokens, sizes.batch)
            stage.tokens = sum(answer["tokens"] for answer in answers)
        adapter = save_adapter(model, folder / "sft", CARD)
        del base, model
        with measured("DPO") as stage:
            base = load_base(folder / "base", recipe.quantisation, recipe.dtype)
            model = load_adapter(base, adapter, trainable=True)
            pairs, began = preference_pairs(tokenizer, steps * recipe.dpo.batch, tokens), time.perf_counter()
            trainer = dpo_trainer(model, tokenizer, pairs, recipe, 0, folder)
            reference = time.perf_counter() - began
            stage.first_loss = step_zero(trainer)[0]["loss"]
            trainer.args.eval_strategy = "no"  # evaluations would take half of the time of so few steps
            numbers = train_dpo(trainer)[-1]
            stage.tokens, stage.seconds = 2 * len(pairs) * tokens, reference + len(pairs) / numbers["pairs per second"]
        save_adapter(model, folder / "knowtuning", CARD)
    return stages


def _print_stages(recipe: Recipe, stages: list[Stage], weights: int, tried: int, rows: int) -> None:
    """What was measured with `tried` weights, and what `rows` rows would take with all of them."""
    tokens = rows * min(TOKENS, recipe.max_length)
    # SFT trains on the rows, and once more on KA: on them and their rewritings; each row makes three pairs of answers
    of_run = {"SFT": 3 * recipe.sft.epochs * tokens, "perplexity": tokens, "DPO": 6 * recipe.dpo.epochs * tokens}
    of_run["generation"] = 2 * recipe.data.test_rows * recipe.evaluation.max_new_tokens
    lines, total = [], 0.0
    for stage in stages:
        lines.append({"stage": stage.name, "tokens": None, "seconds": stage.seconds, "tokens/s": None})
        lines[-1]["peak GB"] = stage.peak / GB
        if stage.name in of_run:
            speed = stage.tokens / stage.seconds
            total += (seconds := of_run[stage.name] / speed * weights / tried)
            lines[-1] |= {"tokens": stage.tokens, "tokens/s": speed}
            lines[-1][f"{rows:,} rows"] = timedelta(seconds=round(seconds))
    print(f"\n{table(lines, digits=1)!r}\n")
    text = (
        f"{rows:,} rows would take {timedelta(seconds=round(total))} here for one arm: SFT, KA, DPO and two decodings "
        f"of the test questions, if a prompt and its answer have {TOKENS} tokens in the mean."
    )
    if weights >= ON_A_CPU and not torch.cuda.is_available():
        from trl.trainer.utils import get_peak_flops

        operations = sum(2 * PASSES[stage] * weights * of_run[stage] for stage in PASSES)
        elsewhere = timedelta(seconds=round(operations / get_peak_flops(ELSEWHERE, "bfloat16") / SHARE))
        text += f" On an {ELSEWHERE} at {SHARE:.0%} of its peak (assumed) all but decoding would take {elsewhere}."
    print(f"{textwrap.fill(text, 80)}\n")
