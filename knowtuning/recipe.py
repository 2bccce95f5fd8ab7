"""Recipes: everything about a run that is size or machinery and not method, one frozen record per use."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from knowtuning.lab.settings import LAB, SETTINGS, SMOKE, LabSettings

ALL_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
CHOICES = {
    "prompt": ("plain", "llmtuner-0.5.3", "llmtuner-0.3.3", "chat"),
    "quantisation": ("nf4", "none"),
    "dtype": ("float32", "bfloat16"),
    "dpo_sft_mean": ("tokens", "answers"),
    "parallel": ("ddp", "fsdp"),
    "engine": ("transformers", "vllm"),
}


@dataclass(frozen=True)
class Recipe:
    """Sizes and machinery of a run; the knobs of the method (alpha, beta, gamma, …) live in the notebooks.

    `base` is a recipe name whose notebook 00 trains the base ("lab", "smoke"), or a folder or hub name for
    `AutoModelForCausalLM.from_pretrained`. `lab` is None for real text, where nobody knows the true facts.
    Lengths are tokens, batches are sequences (pairs for DPO), learning rates are peaks of a cosine schedule. `prompt`
    names a form of `training.prompts`. `dpo_sft_mean` says over what the SFT term of DPO is a mean: the tokens of the
    batch (TRL), or the token means of its answers (llmtuner).
    """

    name: str
    about: str
    lab: LabSettings | None
    base: str
    teacher: str
    concurrency: int = 16
    # what a run was measured to need, for `knowtuning doctor`
    memory_gb: float = 2.5
    disk_gb: float = 1.0
    # data: rows held out when the source has no split of its own, and those set aside for choosing a checkpoint
    valid_rows: int = 100
    test_rows: int = 100
    val_size: int = 60
    # model
    prompt: str = "plain"
    quantisation: str = "nf4"
    dtype: str = "float32"
    lora_rank: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.0
    lora_targets: tuple[str, ...] = ALL_PROJECTIONS
    max_length: int = 512
    # training; a micro-batch is what one process holds at once (0: its whole share of the batch)
    sft_learning_rate: float = 1e-3
    sft_epochs: int = 3
    sft_batch: int = 8
    sft_micro_batch: int = 0
    dpo_learning_rate: float = 2e-4
    dpo_epochs: int = 1
    dpo_batch: int = 16
    dpo_micro_batch: int = 0
    dpo_sft_mean: str = "tokens"
    # machinery of training: processes (torchrun), how they share a model, recomputed activations, fused kernels (an
    # extra, for GPUs), torch.compile (which pays after some thousand steps)
    num_processes: int = 1
    parallel: str = "ddp"
    checkpointing: bool = False
    liger: bool = False
    compile: bool = False
    # scoring and evaluation; `score_tokens` bounds one scoring pass with its padding: small on CPUs
    score_tokens: int = 1024
    engine: str = "transformers"
    max_new_tokens: int = 160
    eval_batch: int = 64
    bertscore: bool = True

    def __post_init__(self) -> None:
        for field, known in CHOICES.items():
            if (value := getattr(self, field)) not in known:
                raise ValueError(f"recipe {self.name}: {field} is {value!r}; use one of {', '.join(known)}.")
        for stage in ("sft", "dpo"):
            batch, micro = getattr(self, f"{stage}_batch"), getattr(self, f"{stage}_micro_batch")
            at_once = (micro or 1) * self.num_processes
            if self.num_processes < 1 or batch % at_once:
                raise ValueError(
                    f"recipe {self.name}: {stage}_batch is {batch}, which {self.num_processes} processes with "
                    f"{stage}_micro_batch={micro} cannot share evenly; make it a multiple of {at_once}."
                )
        if self.compile and self.parallel == "fsdp" and self.num_processes > 1:
            raise ValueError(f"recipe {self.name}: compile is not made for fsdp; set compile=False or use ddp.")
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and not isinstance(value, bool) and value < 0:
                raise ValueError(f"recipe {self.name}: {field.name} is {value}; it cannot be negative.")

    def _repr_html_(self) -> str:
        from knowtuning.display import table

        rows = [{"setting": f.name, "value": str(getattr(self, f.name))} for f in fields(self) if f.name != "lab"]
        return table(rows)._repr_html_()


_lab = Recipe(
    name="lab",
    about="fictional world, small Llama trained from scratch, oracle teacher: minutes on two CPU cores",
    lab=LAB,
    base="lab",
    teacher="lab-oracle",
)
_smoke = replace(
    _lab,
    name="smoke",
    about="the lab at its smallest: does every notebook run? Its scores mean nothing",
    lab=SMOKE,
    base="smoke",
    val_size=8,
    sft_epochs=2,
    max_new_tokens=80,
)


def _with_errors(recipe: Recipe, percent: int) -> Recipe:
    """The same lab and base, with a teacher that gets `percent` of the facts wrong."""
    name, teacher = f"{recipe.name}-errors-{percent}", f"{recipe.teacher}-errors-{percent}"
    about = f"as {recipe.name}, with a teacher that gets {percent} % of the facts wrong in every task"
    return replace(recipe, name=name, teacher=teacher, about=about)


def _with_base(name: str, about: str) -> Recipe:
    """The lab with a base of its own."""
    return replace(_lab, name=name, about=about, lab=SETTINGS[name], base=name)


def _paper(size: str, **changes) -> Recipe:
    """What the authors' scripts say, for a Llama-2 of that size; the README's table holds what they leave open."""
    name = f"paper-{size}"
    scripts = Recipe(
        name=name,
        about=f"Llama-2-{size} in bfloat16 with LoRA, by the letter of the authors' scripts",
        lab=None,
        base=f"meta-llama/Llama-2-{size}-hf",
        teacher="gpt-6-luna",
        memory_gb=32,
        disk_gb=60,
        valid_rows=200,
        test_rows=200,
        val_size=100,
        prompt="llmtuner-0.5.3",
        quantisation="none",
        dtype="bfloat16",
        lora_rank=8,
        lora_alpha=16,
        lora_targets=("q_proj", "v_proj"),
        max_length=1024,
        sft_learning_rate=1e-4,
        sft_batch=32,
        sft_micro_batch=4,
        dpo_learning_rate=1e-5,
        dpo_batch=16,
        dpo_micro_batch=2,
        dpo_sft_mean="answers",
        checkpointing=True,
        score_tokens=32768,
        max_new_tokens=512,
        eval_batch=32,
    )
    return replace(scripts, **changes)


def _quantised(recipe: Recipe, **changes) -> Recipe:
    """The same with the base in NF4: QLoRA, on smaller cards."""
    about = recipe.about.replace("in bfloat16 with LoRA", "in NF4 with QLoRA")
    return replace(recipe, name=f"{recipe.name}-qlora", about=about, quantisation="nf4", **changes)


_paper_7b = _paper("7b")
_paper_13b = _paper("13b", disk_gb=100)

RECIPES = {
    recipe.name: recipe
    for recipe in (
        _lab,
        _smoke,
        _with_base("lab-base-1", "the lab with a base of another seed"),
        _with_base("lab-generic", "the lab in its other world: festivals instead of diseases"),
        _with_base("lab-generic-base-1", "the world of festivals with a base of another seed"),
        *(
            _with_base(f"lab-told-{n}", f"the lab with a base that was told each known fact {n} times instead of 50")
            for n in (20, 30, 40)
        ),
        Recipe(
            name="dolly-offline",
            about="real questions and answers through every stage without a key; its scores mean nothing",
            lab=None,
            base="lab",
            teacher="english-rules",
            valid_rows=20,
            test_rows=20,
            val_size=10,
            sft_epochs=1,
            max_new_tokens=200,
        ),
        Recipe(
            name="gpu",
            about="one card of 24 GB: a base of 1.7 billion weights in NF4, any endpoint as the teacher",
            lab=None,
            base="HuggingFaceTB/SmolLM2-1.7B",
            teacher="gpt-6-luna",
            memory_gb=16,
            disk_gb=20,
            valid_rows=200,
            test_rows=200,
            val_size=100,
            dtype="bfloat16",
            max_length=1024,
            sft_learning_rate=2e-4,
            sft_batch=32,
            sft_micro_batch=4,
            dpo_learning_rate=2e-5,
            dpo_micro_batch=2,
            checkpointing=True,
            score_tokens=32768,
            max_new_tokens=512,
            eval_batch=16,
        ),
        _paper_7b,
        _quantised(_paper_7b, memory_gb=16),
        replace(
            _paper_7b,
            name="paper-7b-first",
            about="Llama-2-7b by the first release's settings (arXiv v1): prompt, rates, batches, dropout",
            prompt="llmtuner-0.3.3",
            lora_dropout=0.1,
            sft_learning_rate=5e-5,
            sft_batch=16,
            dpo_batch=8,
            test_rows=300,
        ),
        _paper_13b,
        _quantised(_paper_13b, memory_gb=24, num_processes=2, parallel="fsdp"),
        _with_errors(_lab, 10),
        _with_errors(_lab, 30),
        _with_errors(_smoke, 30),
    )
}


def get_recipe(name: str) -> Recipe:
    """Return the recipe called `name`; an unknown name raises `ValueError` that lists the known ones."""
    if name not in RECIPES:
        raise ValueError(f"recipe {name!r} is unknown; use one of {', '.join(RECIPES)}.")
    return RECIPES[name]
