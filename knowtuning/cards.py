"""Model cards that a run writes: what an adapter or the lab's base is, was trained on and scores, as the hub reads it.

A notebook that trains or scores a model writes the card anew when it ends (`Run.finish`), so that a card never says
more than what lies beside it: scores stand in it once notebook 09 has run on the very weights that are there.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowtuning.arms import ARMS
from knowtuning.data.tuning_card import PAPER, markdown_table, write_tuning_card
from knowtuning.files import read_json, read_jsonl, write_text
from knowtuning.recipe import Recipe, lab_of

if TYPE_CHECKING:
    from knowtuning.run import Run

SHARED = ("prompt", "quantisation", "dtype", "max_length", "lora.")  # fields and sections of every adapter's recipe
OPEN = "apache-2.0"  # the licence of what this project makes: the lab's world, its base and adapters on it
MEDICAL = "Its diseases, or whatever its world holds, are invented. Nothing that it says is medical or other advice."


def write_cards(run: Run, written: Iterable[str]) -> None:
    """Write the cards of what a notebook has just written, by the artefacts' names; its manifest is there already."""
    for name in written:
        folder, _, rest = name.partition("/")
        if name == "base":
            write_text(run.path("base") / "README.md", base_card(run.path("base"), run.recipe))
        elif folder in ("adapters", "scores") and (arm := rest.removesuffix(".json")) != "base":
            write_text(run.path(f"adapters/{arm}/README.md"), adapter_card(run, arm))
        elif name in ("ka.json", "kc.json") or (folder == "pairs" and not rest.endswith(".provenance.jsonl")):
            write_tuning_card(run.root)


def adapter_card(run: Run, arm: str) -> str:
    """The card of one adapter of a run."""
    manifest = read_json(run.root / "manifests" / f"{_trained_by(arm)}.json")
    base = read_json(run.path(f"adapters/{arm}/adapter_config.json"))["base_model_name_or_path"]
    data = run.path("data/card.json")
    origin = read_json(data)["origin"] if data.exists() else {"name": "not recorded"}
    scores, ours = scores_of(run, arm, manifest), bool(lab_of(run.recipe.base))
    title = f"{arm}: {ARMS[arm].about if arm in ARMS else 'an arm of your own'}"
    head = {
        "language": "en",
        "license": OPEN if ours else "other",
        "library_name": "peft",
        "base_model": base,
        "pipeline_tag": "text-generation",
        "tags": ["knowtuning", "lora", "dpo" if manifest["step"].startswith("08") else "sft"],
        "datasets": [origin["repository"]] if origin.get("repository") else None,
        "model_name": f"{run.recipe.name}, seed {run.seed}: {arm}",
        "eval_results": _eval_results(scores, origin, run.seed) or None,
    }
    return _card(
        head,
        f"# {title}",
        f"A LoRA adapter, made by [KnowTuning]({PAPER}) as the project knowtuning reproduces it: the arm `{arm}` of "
        f"recipe `{run.recipe.name}` ({run.recipe.about}), seed {run.seed}.",
        "## Base",
        f"`{base}`, quantised: {run.recipe.quantisation}."
        + (" It was trained from scratch on a fictional world and has a card of its own." if ours else ""),
        "## Data",
        _data(origin, manifest),
        "## Settings",
        _settings(run, manifest),
        "## Scores",
        *_scores(scores),
        "## Limits",
        _limits(scores, ours),
        "## Use",
        _use(run, base, arm),
        "## Licence and citation",
        f"{OPEN}." if ours else f"The licence of the base and that of the data ({origin.get('licence', 'unknown')}).",
        CITATION,
    )


def base_card(folder: Path, recipe: Recipe) -> str:
    """The card of the lab's base in its folder: what it was told, and what it knows of it, by how often."""
    manifest, config = read_json(folder / "manifests" / "00_base_model.json"), read_json(folder / "config.json")
    settings, numbers = recipe.lab, manifest["numbers"]
    head = {
        "language": "en",
        "license": OPEN,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["knowtuning", "pretraining", "synthetic"],
    }
    shape = f"{config['num_hidden_layers']} layers, width {config['hidden_size']}, {config['vocab_size']:,} tokens"
    return _card(
        head,
        f"# The base of {recipe.name}: a small Llama whose knowledge is known",
        f"{numbers['parameters']:,} weights ({shape}), trained from scratch on {numbers['tokens']:,} tokens about the "
        f"fictional world `{settings.world}`, whose facts are told a set number of times each. With it the project "
        f"knowtuning measures what [KnowTuning]({PAPER}) does to facts that a model knows well, barely or not at all.",
        "## Data",
        f"Made by this project out of `data/lab/{settings.world}.yaml` (world seed {settings.world_seed}); "
        f"training order and weights: base seed {settings.base_seed}. Licence: {OPEN}.",
        "## Scores",
        "Recall: the share of the facts that come out of the model when their sentence is begun, with 95 % intervals "
        "over entities.",
        _recall(read_jsonl(folder / "knowledge.jsonl")),
        f"A fact that it does not know has the higher perplexity with a probability of {numbers['auc']} (AUC).",
        "## Settings",
        markdown_table(
            ["setting", "value"],
            [[name, f"`{value}`"] for name, value in settings],
        ),
        "## Limits",
        f"It completes sentences about its world and knows nothing else. {MEDICAL}",
        "## Use",
        "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f'model = AutoModelForCausalLM.from_pretrained("{recipe.name}/base")\n'
        f'tokenizer = AutoTokenizer.from_pretrained("{recipe.name}/base")\n```',
        "## Licence and citation",
        f"{OPEN}.",
        CITATION,
    )


def scores_of(run: Run, arm: str, manifest: dict) -> dict | None:
    """The scores of an arm, if notebook 09 took them from the weights that the arm's manifest tells of; else None."""
    scored = run.root / "manifests" / f"09_evaluation.{arm}.json"
    name = f"adapters/{arm}"
    if not scored.exists() or read_json(scored)["reads"].get(name) != manifest["writes"][name]:
        return None
    return read_json(run.path(f"scores/{arm}.json"))


def _trained_by(arm: str) -> str:
    """The step whose manifest tells how an arm was trained."""
    return {"sft": "02_vanilla_sft", "ka": "07_knowledge_augmentation"}.get(arm, f"08_knowledge_comparison.{arm}")


def _card(head: dict[str, Any], *sections: str) -> str:
    from huggingface_hub import ModelCardData

    return "\n\n".join([f"---\n{ModelCardData(**head).to_yaml()}\n---", *filter(None, sections)]) + "\n"


def _eval_results(scores: dict | None, origin: dict, seed: int | None) -> list:
    """Every metric of every decoding as the hub's model index holds it."""
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=origin.get("repository") or "knowtuning",
            dataset_name=f"{origin['name']}, held-out questions",
            dataset_split="test",
            metric_type=metric.lower().replace("% ", "percent ").replace(" ", "_"),
            metric_name=f"{metric} ({decoding})",
            metric_value=round(found["value"], 2),
            metric_args={"low": round(found["low"], 2), "high": round(found["high"], 2), "n": found["n"], "seed": seed},
        )
        for decoding, part in (scores or {"decodings": {}})["decodings"].items()
        for metric, found in part["overall"].items()
        if found["value"] is not None
    ]


def _data(origin: dict, manifest: dict) -> str:
    numbers = manifest["numbers"]
    told = [f"* source: {origin['name']}", f"* licence: {origin.get('licence', 'unknown')}"]
    told += [f"* {key}: {origin[key]}" for key in ("homepage", "repository", "revision") if origin.get(key)]
    told += [f"* {name}: {numbers[name]:,}" for name in ("rows", "pairs", "answers cut") if name in numbers]
    files = {name: digest for name, digest in manifest["reads"].items() if name.endswith((".json", ".jsonl"))}
    told += [f"* `{name}`: SHA-256 `{digest}`" for name, digest in files.items()]
    return "\n".join(told)


def _settings(run: Run, manifest: dict) -> str:
    stage = "dpo" if manifest["step"].startswith("08") else "sft"
    settings = {name: value for name, value in manifest["parameters"].items() if name not in ("recipe", "arm")}
    shown = (*SHARED, f"{stage}.")
    settings |= {name: value for name, value in run.recipe.flat().items() if name.startswith(shown)}
    settings |= {name: manifest["numbers"][name] for name in ("steps", "best step") if name in manifest["numbers"]}
    rows = [[name, f"`{', '.join(value) if isinstance(value, tuple) else value}`"] for name, value in settings.items()]
    used = ", ".join(f"{name} {manifest['versions'][name]}" for name in ("torch", "transformers", "trl", "peft"))
    return f"{markdown_table(['setting', 'value'], rows)}\n\nTrained with {used}."


def _scores(scores: dict | None) -> list[str]:
    if scores is None:
        return ["None yet: notebook 09 has not been run on these weights."]
    decodings = scores["decodings"]
    metrics = list(dict.fromkeys(metric for part in decodings.values() for metric in part["overall"]))
    rows = [[metric, *(_interval(part["overall"].get(metric)) for part in decodings.values())] for metric in metrics]
    asked = ", ".join(f"{part['questions']} {name}" for name, part in decodings.items())
    return [
        f"On held-out questions ({asked}), with 95 % intervals for other questions; other trainings are not in them.",
        markdown_table(["metric", *decodings], rows),
        " · ".join(scores["variants"].values()),
    ]


def _interval(found: dict | None) -> str:
    if found is None or found["value"] is None:
        return ""
    return f"{found['value']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


def _limits(scores: dict | None, ours: bool) -> str:
    told = ["The weights of one training, with one seed: read differences between arms over several."]
    wrong = [
        f"{100 - part['overall']['% correct']['value']:.1f} % ({name})"
        for name, part in (scores or {"decodings": {}})["decodings"].items()
        if "% correct" in part["overall"]
    ]
    if wrong:
        told.append(f"Of the facts that it tells about held-out entities, so many are wrong: {', '.join(wrong)}.")
    told.append(
        f"It answers questions about its world and knows nothing else. {MEDICAL}"
        if ours
        else "It may state what is false in fluent words. Nothing that it says is medical or other advice."
    )
    return " ".join(told)


def _use(run: Run, base: str, arm: str) -> str:
    form = run.recipe
    return (
        "With knowtuning installed, in the folder that holds the runs:\n\n```python\n"
        "from knowtuning.training.generate import generate\n"
        "from knowtuning.training.models import load_adapter, load_base, load_tokenizer\n\n"
        f'tokenizer = load_tokenizer("{base}", "{form.prompt}")\n'
        f'model = load_base("{base}", "{form.quantisation}", "{form.dtype}")\n'
        f'model = load_adapter(model, "{form.name}/seed-{run.seed}/adapters/{arm}").eval()\n'
        'print(generate(model, tokenizer, ["…"])[0]["answer"])\n```\n\n'
        "`PeftModel.from_pretrained` loads it as well; the prompt's form is what it was trained with."
    )


def _recall(known: list[dict]) -> str:
    from knowtuning.evaluation.stats import mean_interval

    tiers: dict[tuple[int, str], dict[str, list[bool]]] = {}
    for row in known:
        tiers.setdefault((row["exposures"], row["tier"]), {}).setdefault(row["entity"], []).append(row["known"])
    rows = []
    for (exposures, tier), entities in sorted(tiers.items()):
        found = mean_interval([100 * sum(facts) / len(facts) for facts in entities.values()])
        rows.append([tier, exposures, len(entities), _interval(found)])
    return markdown_table(["tier", "each fact is told", "entities", "recall (%)"], rows)


CITATION = f"""```bibtex
@inproceedings{{lyu2024knowtuning,
  title = {{{{KnowTuning}}: Knowledge-aware Fine-tuning for Large Language Models}},
  author = {{Lyu, Yougang and others}},
  booktitle = {{Proceedings of the 2024 Conference on Empirical Methods in Natural Language Processing}},
  year = {{2024}},
  url = {{{PAPER}}}
}}
```"""
