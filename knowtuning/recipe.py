"""Recipes: everything about a run that is size or machinery and not method, read from recipes/*.yaml and validated."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from knowtuning.files import ROOT, DataError, read_yaml, runs_folder, shown, write_text

FOLDER = ROOT / "recipes"
ANNOTATED = ("train", "valid", "test", "answer_sizes", "swaps", "false_share")  # what no base depends on
KEPT = "recipe.yaml"  # in the folder of a run: the recipe as it was resolved


class Section(BaseModel):
    """A frozen group of settings that refuses what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def replace(self: S, **changes: Any) -> S:
        """The same with other values, validated; of a section only what is given: `replace(sft={"epochs": 1})`."""
        source = f"recipe {self.name}" if isinstance(self, Recipe) else "settings"
        return _validated(type(self), _merged(self.model_dump(), changes), source)


S = TypeVar("S", bound=Section)
Names = BeforeValidator(lambda value: value.split(",") if isinstance(value, str) and value != "all-linear" else value)
Pairs = BeforeValidator(lambda value: tuple(value.items()) if isinstance(value, dict) else value)
Asked = Annotated[tuple[tuple[str, int], ...], Pairs]


class Tier(NamedTuple):
    """Entities whose facts the corpus tells equally often: `exposures` times each."""

    name: str
    entities: int
    exposures: int


class LabSettings(Section):
    """One lab, from its world to its annotators; equal settings give the same texts on every machine.

    No entity is in two of `train`, `valid` and `test`.
    """

    world: str = Field(description="file of data/lab/ without its ending")
    world_seed: int = Field(0, description="draws the names and values of the world's entities")
    base_seed: int = Field(0, description="draws the base's first weights and the order of its texts")
    tiers: tuple[Tier, ...] = Field(description="groups of entities, and how often their facts are told")
    pronoun_share: float = Field(ge=0, le=1, description="sentences of the corpus that say it for the entity's name")
    qa_entities: float = Field(ge=0, le=1, description="share of the entities that the corpus also asks about")
    qa_share: float = Field(ge=0, le=1, description="share of their tellings that are questions and answers")
    vocabulary: int = Field(ge=1, description="tokens that the base's tokenizer knows")
    hidden: int = Field(ge=1, description="width of the base")
    intermediate: int = Field(ge=1, description="width of its MLPs")
    layers: int = Field(ge=1, description="transformer layers of the base")
    heads: int = Field(ge=1, description="attention heads of a layer")
    context: int = Field(ge=1, description="longest sequence of the base, in tokens")
    window: int = Field(ge=1, description="tokens of a pretraining sequence")
    batch: int = Field(ge=1, description="pretraining sequences of a step")
    learning_rate: float = Field(ge=0, description="peak of pretraining's cosine schedule")
    warmup_steps: int = Field(ge=0, description="steps in which it rises to the peak")
    weight_decay: float = Field(ge=0, description="of pretraining's AdamW")
    train: Asked = Field(description="entities asked about in training, by tier")
    valid: Asked = Field(description="the same for validation")
    test: Asked = Field(description="the same for the test")
    answer_sizes: tuple[int, ...] = Field(description="numbers of facts that a person's answer is drawn from")
    swaps: tuple[int, ...] = Field(description="numbers of neighbouring facts told in the wrong order, drawn from")
    false_share: float = Field(0.0, ge=0, le=1, description="facts of the answers with another value than the true one")

    @model_validator(mode="after")
    def _tiers_suffice(self) -> LabSettings:
        sizes = {tier.name: tier.entities for tier in self.tiers}
        if len(sizes) < len(self.tiers):
            raise ValueError("two tiers share a name; name each tier differently")
        for tier, count in (*self.train, *self.valid, *self.test):
            if tier not in sizes:
                raise ValueError(f"tier {tier!r} is asked about ({count} entities) but not in `tiers`")
        for tier, size in sizes.items():
            asked = sum(count for part in (self.train, self.valid, self.test) for name, count in part if name == tier)
            if asked > size:
                raise ValueError(f"tier {tier!r} has {size} entities, the splits ask for {asked}; add some")
        return self


class Data(Section):
    """Rows that are not trained on."""

    valid_rows: int = Field(ge=0, description="validation rows, where the source has no split of its own")
    test_rows: int = Field(ge=0, description="test rows, where the source has no split of its own")
    val_size: int = Field(ge=0, description="training rows set aside for choosing SFT's checkpoint")


class Lora(Section):
    """The adapter."""

    rank: int = Field(ge=1, description="rank of the two thin matrices")
    alpha: int = Field(ge=0, description="their product is scaled by alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the adapter's input")
    targets: Annotated[Literal["all-linear"] | tuple[str, ...], Names] = Field(
        description="names of the matrices that get one, or all-linear: every linear layer but the last"
    )


class Sft(Section):
    """Supervised fine-tuning, vanilla and on KA alike."""

    learning_rate: float = Field(ge=0, description="peak of the cosine schedule")
    epochs: int = Field(ge=0, description="passes over the training rows")
    batch: int = Field(ge=1, description="sequences of an optimiser step")
    micro_batch: int = Field(0, ge=0, description="sequences that a process holds at once; 0: its share of the batch")


class Dpo(Section):
    """Direct preference optimisation."""

    learning_rate: float = Field(ge=0, description="peak of the cosine schedule")
    epochs: int = Field(ge=0, description="passes over the pairs")
    batch: int = Field(ge=1, description="pairs of an optimiser step")
    micro_batch: int = Field(0, ge=0, description="pairs that a process holds at once; 0: its share of the batch")
    sft_mean: Literal["tokens", "answers"] = Field(
        "tokens", description="the SFT term is a mean over the batch's tokens (TRL) or its answers' means (llmtuner)"
    )


class Evaluation(Section):
    """Answers and their scores."""

    max_new_tokens: int = Field(ge=1, description="longest answer, in tokens")
    batch: int = Field(ge=1, description="answers generated at once, and validation sequences scored at once")
    bertscore: bool = Field(True, description="score answers by BERTScore too")


class Machine(Section):
    """What a run needs, and how it uses the machine; none of it changes what is trained, up to rounding."""

    memory_gb: float = Field(ge=0, description="main memory that a run was measured to need, for doctor and clusters")
    disk_gb: float = Field(ge=0, description="disk that it was measured to need")
    num_processes: int = Field(1, ge=1, description="processes of a training, one per GPU (torchrun)")
    parallel: Literal["ddp", "fsdp"] = Field("ddp", description="each process holds the model (ddp) or a part (fsdp)")
    checkpointing: bool = Field(False, description="compute activations again in place of keeping them: less memory")
    liger: bool = Field(False, description="fused kernels of liger-kernel, an extra, for GPUs")
    score_tokens: int = Field(ge=1, description="tokens of one pass that scores facts or the reference; small on CPUs")


class Recipe(Section):
    """Sizes and machinery of a run; the knobs of the method (alpha, beta, gamma, …) live in the notebooks."""

    name: str = Field(pattern=r"^[\w.,=+-]+$", description="the file's name without its ending; runs lie in runs/NAME")
    about: str = Field(description="one sentence for `knowtuning recipes` and the cards")
    base: str = Field(description="folder or hub name of a causal LM, or the recipe whose notebook 00 trains it")
    teacher: str = Field(description="model that the endpoint is asked for, or a local one (lab-oracle, english-rules)")
    concurrency: int = Field(16, ge=1, description="calls of the teacher under way at once")
    prompt: Literal["plain", "llmtuner-0.5.3", "llmtuner-0.3.3", "chat"] = Field(
        description="form of training.prompts; chat: the base's own chat template"
    )
    quantisation: Literal["nf4", "none"] = Field(description="nf4: the base in 4 bits (QLoRA)")
    dtype: Literal["float32", "bfloat16"] = Field(description="precision of the computation")
    max_length: int = Field(ge=1, description="longest sequence of a training, in tokens; what is cut is counted")
    data: Data
    lora: Lora
    sft: Sft
    dpo: Dpo
    evaluation: Evaluation
    machine: Machine
    lab: LabSettings | None = Field(None, description="the fictional world; none for real text")

    @model_validator(mode="after")
    def _batches_are_shared_evenly(self) -> Recipe:
        processes = self.machine.num_processes
        for stage, sizes in (("sft", self.sft), ("dpo", self.dpo)):
            if sizes.batch % (at_once := (sizes.micro_batch or 1) * processes):
                raise ValueError(
                    f"{stage}.batch is {sizes.batch}, which {processes} processes with {stage}.micro_batch="
                    f"{sizes.micro_batch} cannot share evenly; make it a multiple of {at_once}"
                )
        return self

    def flat(self) -> dict[str, Any]:
        """Every setting but the lab's, by its full name: {"base": …, "sft.learning_rate": …}."""
        return _flat(self.model_dump(exclude={"lab"}))

    def _repr_html_(self) -> str:
        from knowtuning.display import table

        meaning = fields_of(Recipe)
        rows = [{"setting": k, "value": str(v), "meaning": meaning[k].description} for k, v in self.flat().items()]
        return table(rows)._repr_html_()


def fields_of(model: type[Section], prefix: str = "") -> dict[str, Any]:
    """pydantic's description of every field of a section and of the sections in it, by its full name."""
    fields: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        kind = LabSettings if name == "lab" else field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            fields |= fields_of(kind, f"{prefix}{name}.")
        else:
            fields[prefix + name] = field
    return fields


def recipe_names() -> list[str]:
    """The recipes of the repository, in the order of their names."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def get_recipe(name: str, changes: Iterable[str] = ()) -> Recipe:
    """Read a recipe by its name, or by the path of a YAML file, and change it by "key=value" words.

    A name is that of a file in recipes/, or of a run that keeps its own (`keep`). A recipe with changes is another
    one: they are part of its name, and so its runs have a folder of their own.

    Raises:
        DataError: no such recipe, or a field that is unknown, missing or out of range, in one sentence.

    Example:
        >>> get_recipe("lab", ["sft.epochs=5"]).name
        'lab+sft.epochs=5'
    """
    path = _find(name)
    settings = _read(path)
    source, own_base = shown(path), settings.get("base") == settings["name"]
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or key == "name":
            raise DataError(f"--set {change}: write key=value of a field, such as sft.learning_rate=1e-4.")
        value = yaml.safe_load(text) if text[:1] in ("[", "{") else text
        source = f"recipe {name} with {key}={text}"
        settings = _merged(settings, _nested(key, _folder(value, Path()) if key == "base" else value))
        if key != "about":
            settings["name"] += f"+{key}=" + re.sub(r"[^\w.,=-]+", "-", text.strip("/").replace("/", "--"))
            settings["about"] = f"{settings.get('about')}; {key}={text}"
        if own_base and key.startswith("lab."):
            settings["base"] = settings["name"]
    recipe = _validated(Recipe, settings, source)
    if recipe.lab and recipe.base != recipe.name and (trained := lab_of(recipe.base)):
        other = [field for field, value in recipe.lab if field not in ANNOTATED and value != getattr(trained, field)]
        if other:
            raise DataError(
                f"{source}: base {recipe.base} was trained with another lab.{other[0]}; give `base: {recipe.name}`."
            )
    return recipe


def lab_of(base: str) -> LabSettings | None:
    """The lab whose notebook 00 trains the base of this name; None for a folder or a name on the hub."""
    known = "/" not in base and ((FOLDER / f"{base}.yaml").exists() or (runs_folder() / base / KEPT).exists())
    return get_recipe(base).lab if known else None


def keep(recipe: Recipe) -> str:
    """Let notebooks, jobs and the local teacher find a recipe by its name, which is returned.

    One that is no file of recipes/ is written, as it was resolved, into the folder of its runs.
    """
    path = runs_folder() / recipe.name / KEPT
    if recipe.name not in recipe_names():
        settings = recipe.model_dump(mode="json", exclude={"name"})
        text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=120)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)
    return recipe.name


def _find(name: str, beside: Path = Path()) -> Path:
    """The file of a recipe, given by name or by path; a path may begin at `beside` or at the repository."""
    if not name.endswith((".yaml", ".yml")):
        for path in (FOLDER / f"{name}.yaml", runs_folder() / name / KEPT):
            if path.exists():
                return path
        known = ", ".join(recipe_names())
        raise DataError(f"recipe {name!r} is unknown; use one of {known}, or the path of a .yaml file.")
    path = next((path for path in (beside / name, ROOT / name) if path.exists()), None)
    if path is None:
        raise DataError(f"recipe {name} does not exist.")
    if path.stem in recipe_names() and path.resolve().parent != FOLDER:
        raise DataError(f"recipe {name}: the name {path.stem} is taken by recipes/{path.stem}.yaml; rename your file.")
    return path.resolve()


def _read(path: Path, below: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The settings that a file states, over those of the recipe that it extends."""
    stated = dict(_parse(path, path.stat().st_mtime_ns))
    if "name" in stated:
        raise DataError(f"{shown(path)}: a recipe's name is that of its file; leave `name` out.")
    if "base" in stated:
        stated["base"] = _folder(stated["base"], path.parent)
    name = path.parent.name if path.name == KEPT else path.stem
    if not (extended := stated.pop("extends", None)):
        return {"name": name, **stated}
    if path in below:
        raise DataError(f"{shown(path)}: extends itself ({extended}).")
    return _merged(_read(_find(str(extended), path.parent), (*below, path)), {"name": name, **stated})


@lru_cache
def _parse(path: Path, changed: int) -> dict[str, Any]:
    stated = read_yaml(path)
    if not isinstance(stated, dict):
        raise DataError(f"{shown(path)}: expected `field: value` lines, found {type(stated).__name__}.")
    return stated


def _folder(base: Any, beside: Path) -> Any:
    """A base that is a folder beside the recipe as an absolute path, as notebooks run elsewhere."""
    is_folder = isinstance(base, str) and base not in recipe_names() and (beside / base).is_dir()
    return str((beside / base).resolve()) if is_folder else base


def _merged(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(settings)
    for key, value in changes.items():
        inside = isinstance(value, dict) and isinstance(merged.get(key), dict) and key not in ("train", "valid", "test")
        merged[key] = _merged(merged[key], value) if inside else value
    return merged


def _nested(key: str, value: Any) -> dict[str, Any]:
    """{"sft.epochs": 5} as {"sft": {"epochs": 5}}."""
    head, dot, rest = key.partition(".")
    return {head: _nested(rest, value) if dot else value}


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _validated(model: type[S], settings: dict[str, Any], source: str) -> S:
    """The record, or a `DataError` of one sentence about the first field that is wrong."""
    try:
        return model.model_validate(settings)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = [*fields_of(model), *model.model_fields]
        near = difflib.get_close_matches(key, known, 1, 0.0)[0]
        raise DataError(f"{source}: {key} is no field of a recipe; did you mean {near}?")
    if first["type"] == "missing":
        raise DataError(f"{source}: {key} is missing; give it, or begin with `extends: NAME of a recipe`.")
    said = first["msg"].removeprefix("Value error, ")
    what = f"{key} is {first['input']!r}; " if first["type"] != "value_error" else ""
    raise DataError(f"{source}: {what}{said[:1].lower()}{said[1:]}.")
