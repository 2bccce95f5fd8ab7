"""The base model, its NF4 quantisation, and LoRA adapters on top of it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCardData
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging

from knowtuning.files import DataError, read_json, write_json, write_text
from knowtuning.recipe import Recipe
from knowtuning.training.prompts import use_form

logging.disable_progress_bar()
logging.set_verbosity_error()
# PEFT 0.21 still uses names that transformers 5.23 has put on notice; the versions are pinned together.
warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def device() -> str:
    """The accelerator where there is one (of several, the one that this process has set), else the CPU."""
    return f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"


def load_tokenizer(base: str | Path, prompt: str = "plain") -> Any:
    """The base's tokenizer with a form of `prompts.PROMPTS`; one without a padding token pads with its end token."""
    tokenizer = AutoTokenizer.from_pretrained(str(base))
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return use_form(tokenizer, prompt)


def load_base(base: str | Path, quantisation: str = "nf4", dtype: str = "float32") -> Any:
    """Load the base, frozen for QLoRA: NF4 with double quantisation, or unquantised.

    Args:
        quantisation: "nf4" or "none".
        dtype: "float32" or "bfloat16", of the computation (NF4) or of the weights (none).
    """
    compute = getattr(torch, dtype)
    if quantisation == "none":
        model = AutoModelForCausalLM.from_pretrained(str(base), dtype=compute).to(device())
    else:
        keep_nf4_weights_unpacked()
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=compute,
            # FSDP shards only what is stored in one floating dtype
            bnb_4bit_quant_storage=torch.uint8 if device() == "cpu" else compute,
        )
        model = AutoModelForCausalLM.from_pretrained(
            str(base), quantization_config=config, device_map=device(), dtype=compute
        )
    return model.eval()


def keep_nf4_weights_unpacked() -> None:
    """Stop bitsandbytes from repacking NF4 weights at the first evaluation on CPUs with avx512_bf16.

    The repacked weights give no gradient to LoRA: training after an evaluation would go on, print a loss and learn
    nothing. The switch is private to bitsandbytes 0.50, so a test checks that gradients survive an evaluation.
    """
    import bitsandbytes.nn.modules as modules

    if not hasattr(modules, "has_avx512bf16"):
        raise RuntimeError("bitsandbytes has no has_avx512bf16 any more: check LoRA gradients on CPU, then drop this.")
    modules.has_avx512bf16 = lambda: False


def new_adapter(model: Any, recipe: Recipe, seed: int) -> PeftModel:
    """Put a fresh LoRA adapter on the base; B starts at zero, so that the adapted model equals the base.

    Raises:
        DataError: a matrix that the recipe names is none of this base's, which PEFT would pass over if others are.
    """
    if recipe.lora.targets != "all-linear":
        linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear | Conv1D)]
        missing = [target for target in recipe.lora.targets if not any(f".{n}".endswith(f".{target}") for n in linear)]
        if missing:
            own = ", ".join(sorted({name.rpartition(".")[2] for name in linear}))
            text = f"recipe {recipe.name}: lora.targets names {', '.join(missing)}, but the base has {own}"
            raise DataError(f"{text}: name some of these, or set lora.targets=all-linear.")
    torch.manual_seed(seed)
    config = LoraConfig(
        r=recipe.lora.rank,
        lora_alpha=recipe.lora.alpha,
        lora_dropout=recipe.lora.dropout,
        target_modules="all-linear" if recipe.lora.targets == "all-linear" else list(recipe.lora.targets),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def load_adapter(model: Any, path: str | Path, trainable: bool = False) -> PeftModel:
    """Put a saved adapter on the base, to evaluate it or to train it further."""
    adapted = PeftModel.from_pretrained(model, str(path), adapter_name="default", is_trainable=trainable)
    # the saved name of a local base is not its path, and a trainer that saves would look it up on the hub
    adapted.peft_config["default"].base_model_name_or_path = model.name_or_path
    return adapted


def load_adapters(model: Any, paths: Mapping[str, Path]) -> PeftModel:
    """Put saved adapters side by side on one base, each under its name, to switch between: `set_adapter(name)`."""
    (first, path), *others = paths.items()
    adapted = PeftModel.from_pretrained(model, str(path), adapter_name=first)
    for name, path in others:
        adapted.load_adapter(str(path), adapter_name=name)
    return adapted.eval()


def save_adapter(model: PeftModel, path: Path, about: str) -> Path:
    """Save the trained adapter as safetensors; the frozen reference copy of DPO stays out.

    Its card says what it is `about` until the notebook that trains it ends, and writes the whole one (`cards`).
    """
    # embeddings are never trained here, and "auto" would look them up on the hub
    model.save_pretrained(str(path), selected_adapters=["default"], save_embedding_layers=False)
    base = _public_name(model.peft_config["default"].base_model_name_or_path)
    head = ModelCardData(library_name="peft", base_model=base, pipeline_tag="text-generation").to_yaml()
    write_text(path / "README.md", f"---\n{head}\n---\n\n# {path.name}\n\n{about}\n")
    # PEFT keeps the names of the matrices as a set, whose order changes from process to process
    config = read_json(path / "adapter_config.json")
    config |= {"base_model_name_or_path": base, "target_modules": sorted(config["target_modules"])}
    write_json(path / "adapter_config.json", config)
    return path


def trainable_parameters(model: Any) -> int:
    """Number of parameters that training moves."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _public_name(base: str) -> str:
    """A hub name as it is; of a local folder the last two parts, so that no card carries a path of one machine."""
    path = Path(base)
    return "/".join(path.parts[-2:]) if path.is_absolute() else base
