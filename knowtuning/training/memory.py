"""What a base needs of a card, told by its configuration alone: nothing is downloaded and no weight is made."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import CustomDtype, compute_module_sizes
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, PretrainedConfig
from trl.trainer.utils import get_peak_flops

from knowtuning.files import DataError
from knowtuning.recipe import Recipe, lab_of
from knowtuning.training.models import new_adapter, trainable_parameters
from knowtuning.training.packed import ROW, innermost

# hidden size, intermediate size, layers, heads, vocabulary, context, tied: as their config.json files on the hub say
SHAPES = {
    "meta-llama/Llama-2-7b-hf": (4096, 11008, 32, 32, 32000, 4096, False),
    "meta-llama/Llama-2-13b-hf": (5120, 13824, 40, 40, 32000, 4096, False),
    "HuggingFaceTB/SmolLM2-1.7B": (2048, 8192, 24, 32, 49152, 8192, True),
}
CARDS = {"L4": 24, "RTX 4090": 24, "A100 40 GB": 40, "A100 80 GB": 80, "H100": 80, "H200": 141}
USABLE = 0.93  # GB that a card is sold with are 10^9 bytes, and here they are 2^30
ON_A_CPU = 3e8  # weights of a base that needs no GPU
GB = 2**30
PROMPT_TOKENS = 50  # assumed of a question in its prompt
NF4_SCALES = 1.032  # bytes of NF4 with its scales, per byte of its half bytes (double quantisation)
TRAINED = 16  # bytes per weight of the adapter: itself, its gradient and AdamW's two means in float32
LOGITS = 10  # bytes per labelled token and entry of the vocabulary: logits in half and in full precision, and losses
PROBE = 16  # tokens that the activations are counted with
# passes over the weights, of 2 FLOPs per weight and token: LoRA's way back has no gradients of frozen weights
PASSES = {"SFT": 2, "DPO": 2, "reference": 1, "perplexity": 1, "generation": 1}
RESERVE = GB  # CUDA itself, and what its allocator cannot use


def config_of(base: str) -> PretrainedConfig:
    """The configuration of a base: one of those above, one of the lab's, or what a folder or the hub holds.

    Raises:
        DataError: the base is unknown here, and its `config.json` cannot be read.
    """
    if base in SHAPES:
        return _llama(*SHAPES[base])
    if lab := lab_of(base):
        return _llama(lab.hidden, lab.intermediate, lab.layers, lab.heads, lab.vocabulary, lab.context, True)
    try:
        return AutoConfig.from_pretrained(base)
    except (OSError, ValueError) as error:
        where = "has no readable config.json" if Path(base).is_dir() else "is no folder, and the hub does not give it"
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"base {base} {where} ({reason}): give a folder with its config.json as `base`.") from None


def _llama(hidden: int, inner: int, layers: int, heads: int, words: int, context: int, tied: bool) -> LlamaConfig:
    return LlamaConfig(
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        vocab_size=words,
        max_position_embeddings=context,
        tie_word_embeddings=tied,
    )


def with_layers(config: PretrainedConfig, layers: int) -> PretrainedConfig:
    """The same with its first `layers` layers only."""
    cut = copy.deepcopy(config)
    text = cut.get_text_config()
    if not 1 <= layers <= text.num_hidden_layers:
        raise DataError(f"layers is {layers}; this base has {text.num_hidden_layers}: give a number from 1 to that.")
    text.num_hidden_layers = layers
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:layers]
    return cut


def tiny(config: PretrainedConfig) -> PretrainedConfig:
    """A model of the same code with two heads and a layer of each kind, two at least, to be tried in a second."""
    shrunk = copy.deepcopy(config)
    text = shrunk.get_text_config()
    kinds = list(dict.fromkeys(getattr(text, "layer_types", None) or ()))
    sizes = {"num_hidden_layers": max(2, len(kinds)), "layer_types": kinds * 2 if len(kinds) == 1 else kinds}
    if heads := getattr(text, "num_attention_heads", 0):
        width = getattr(text, "head_dim", None) or text.hidden_size // heads
        sizes |= {"num_attention_heads": 2, "num_key_value_heads": 2, "hidden_size": 2 * width, "intermediate_size": 64}
    for name, size in sizes.items():
        if getattr(text, name, None) and not isinstance(getattr(type(text), name, None), property):
            setattr(text, name, size)
    if getattr(text, "sliding_window", None):
        text.sliding_window = 8  # so that texts of a few tokens do not fit into it
    return shrunk


def weightless(config: PretrainedConfig, dtype: str = "bfloat16") -> Any:
    """The model on the meta device: every module and shape, no memory."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype), attn_implementation="eager")


def parameters(config: PretrainedConfig) -> int:
    """Number of weights, tied ones once."""
    return weightless(config).num_parameters()


def small(config: PretrainedConfig) -> bool:
    """Whether a CPU gets through a base of this shape."""
    return parameters(config) < ON_A_CPU


def weight_bytes(model: Any, quantisation: str) -> int:
    """Bytes of a base as `models.load_base` loads it: with "nf4" every linear layer but the head in four bits."""
    if quantisation == "none":
        return compute_module_sizes(model)[""]
    linear = {
        f"{name}.weight": CustomDtype.INT4
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not model.get_output_embeddings()
    }
    in_nf4 = sum(model.get_parameter(name).numel() for name in linear) / 2
    return round(compute_module_sizes(model, special_dtypes=linear)[""] + (NF4_SCALES - 1) * in_nf4)


def kept_per_token(model: Any) -> float:
    """Bytes of a token that a pass through a model on the meta device keeps for the way back, in all layers.

    Raises:
        DataError: the model's code asks for values, of which there are none.
    """
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}  # by identity, and held so that none takes another's

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    ids = torch.ones(1, PROBE, dtype=torch.long, device="meta")
    try:
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            innermost(model).base_model(input_ids=ids, attention_mask=ids, use_cache=False)
    except RuntimeError as error:
        raise DataError(f"activations of a {model.config.model_type} cannot be counted here ({error}).") from None
    return sum(storage.nbytes() for key, storage in kept.items() if key not in weights) / PROBE


def needs(recipe: Recipe, config: PretrainedConfig) -> dict[str, int]:
    """Bytes on each card in each stage: weights, adapter and the activations of the largest pass.

    A layer works in as many bytes as it keeps. Activations and logits are those of texts of `max_length` throughout;
    with checkpointing every layer keeps its input, and one layer the rest.
    """
    model, text = weightless(config, recipe.dtype), config.get_text_config()
    weights = weight_bytes(model, recipe.quantisation)
    adapted = new_adapter(model, recipe, seed=0).to(getattr(torch, recipe.dtype)).train()
    adapted.enable_input_require_grads()
    kept, width = kept_per_token(adapted), getattr(torch, recipe.dtype).itemsize
    layer = kept / text.num_hidden_layers
    if recipe.machine.checkpointing:
        kept = layer + width * text.hidden_size * text.num_hidden_layers
    shared = weights // recipe.machine.num_processes if recipe.machine.parallel == "fsdp" else weights
    found = {}
    for stage, sequences in (("SFT", _at_once(recipe, "sft")), ("DPO", 2 * _at_once(recipe, "dpo"))):
        made = sequences * recipe.max_length * (kept + layer + LOGITS * text.vocab_size)
        found[stage] = shared + TRAINED * trainable_parameters(adapted) + made + RESERVE
    found["perplexity"] = weights + min(ROW, recipe.machine.score_tokens) * (layer + LOGITS * text.vocab_size) + RESERVE
    tokens = min(65536, recipe.evaluation.batch * (PROMPT_TOKENS + recipe.evaluation.max_new_tokens))
    found["generation"] = weights + tokens * cache_per_token(config, width) + RESERVE
    return {stage: round(size) for stage, size in found.items()}


def cache_per_token(config: PretrainedConfig, width: int) -> int:
    """Bytes of the keys and values that generation keeps of a token, at `width` bytes a number."""
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return 2 * width * text.num_hidden_layers * heads * size


def largest_need(recipe: Recipe, config: PretrainedConfig) -> tuple[str, int]:
    """The stage that needs most memory on a card, and its bytes."""
    return max(needs(recipe, config).items(), key=lambda need: need[1])


def cards_with_room(size: int) -> str:
    """Names of the cards of `CARDS` that such a need fits on."""
    return ", ".join(card for card, sold in CARDS.items() if sold * USABLE * GB > size) or "none of those known here"


def _at_once(recipe: Recipe, stage: str) -> int:
    """Sequences, or pairs, that a process holds at once."""
    sizes = getattr(recipe, stage)
    return sizes.micro_batch or sizes.batch // recipe.machine.num_processes


def cure(recipe: Recipe, stage: str) -> str:
    """What to change in a recipe whose `stage` does not fit, the cheapest first."""
    if stage in ("SFT", "DPO") and _at_once(recipe, stage.lower()) > 1:
        return f"set a smaller {stage.lower()}.micro_batch in the recipe"
    if stage in ("SFT", "DPO") and not recipe.machine.checkpointing:
        return "set machine.checkpointing in the recipe"
    if stage in ("perplexity", "reference") and recipe.machine.score_tokens > recipe.max_length:
        return "set fewer machine.score_tokens in the recipe"
    if stage == "generation" and recipe.evaluation.batch > 1:
        return "set a smaller evaluation.batch in the recipe"
    if recipe.quantisation == "none":
        return "take NF4 (quantisation, or the recipe's -qlora)"
    return "take a larger card, or a smaller base"


def utilisation(stage: str, speed: float, weights: int, card: str) -> float | None:
    """Model FLOPs utilisation (Chowdhery et al. 2022, appendix B) of a card at `speed` tokens a second.

    The share of its peak in bfloat16, without attention's own products; None of a card that TRL does not know.

    Example:
        >>> utilisation("SFT", 10_000, 7_000_000_000, "NVIDIA A100-SXM4-80GB")
        0.8974358974358975
    """
    peak = get_peak_flops(card, "bfloat16")
    return 2 * PASSES[stage] * speed * weights / peak if peak else None
