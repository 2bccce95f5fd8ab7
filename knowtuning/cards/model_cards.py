"""The cards of an adapter and of the lab's base: what it is, was trained on, and scores.

Scores stand in a card once notebook 09 has run on the very weights that are there.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowtuning.arms import ARMS
from knowtuning.cards.data_cards import write_tuning_card
from knowtuning.cards.template import card_text
from knowtuning.files import read_json, read_jsonl, write_text
from knowtuning.recipe import Recipe, lab_of

if TYPE_CHECKING:
    from knowtuning.run import Run

SHARED = ("prompt", "quantisation", "dtype", "max_length", "lora.")  # fields and sections of every adapter's recipe
OPEN = "apache-2.0"  # the licence of what this project makes: the lab's world, its base and adapters on it


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
    step = {"sft": "02_vanilla_sft", "ka": "07_knowledge_augmentation"}.get(arm, f"08_knowledge_comparison.{arm}")
    manifest, stage = read_json(run.root / "manifests" / f"{step}.json"), "dpo" if step.startswith("08") else "sft"
    base = read_json(run.path(f"adapters/{arm}/adapter_config.json"))["base_model_name_or_path"]
    data = run.path("data/card.json")
    origin = read_json(data)["origin"] if data.exists() else {"name": "not recorded"}
    scores = scores_of(run, arm, manifest) or {"decodings": {}, "variants": {}}
    decodings, ours = scores["decodings"], lab_of(run.recipe.base) is not None
    head = {
        "license": OPEN if ours else "other",
        "library_name": "peft",
        "base_model": base,
        "tags": ["knowtuning", "lora", stage],
        "datasets": [origin["repository"]] if origin.get("repository") else None,
        "model_name": f"{run.recipe.name}, seed {run.seed}: {arm}",
        "eval_results": _eval_results(decodings, origin, run.seed) or None,
    }
    settings = {name: value for name, value in manifest["parameters"].items() if name not in ("recipe", "arm")}
    shown = (*SHARED, f"{stage}.")
    settings |= {name: value for name, value in run.recipe.flat().items() if name.startswith(shown)}
    settings |= {name: manifest["numbers"][name] for name in ("steps", "best step") if name in manifest["numbers"]}
    return card_text(
        "adapter.md",
        head,
        arm=arm,
        about=ARMS[arm].about if arm in ARMS else "an arm of your own",
        run=run,
        base=base,
        ours=ours,
        origin=origin,
        manifest=manifest,
        settings={name: ", ".join(value) if isinstance(value, tuple) else value for name, value in settings.items()},
        scores=scores,
        metrics=list(dict.fromkeys(metric for part in decodings.values() for metric in part["overall"])),
    )


def base_card(folder: Path, recipe: Recipe) -> str:
    """The card of the lab's base in its folder: what it was told, and what it knows of it, by how often."""
    return card_text(
        "base.md",
        {"license": OPEN, "library_name": "transformers", "tags": ["knowtuning", "pretraining", "synthetic"]},
        name=recipe.name,
        lab=recipe.lab,
        config=read_json(folder / "config.json"),
        numbers=read_json(folder / "manifests" / "00_base_model.json")["numbers"],
        recall=_recall(read_jsonl(folder / "knowledge.jsonl")),
    )


def scores_of(run: Run, arm: str, manifest: dict) -> dict | None:
    """The scores of an arm, if notebook 09 took them from the weights that the arm's manifest tells of; else None."""
    evaluated = run.root / "manifests" / f"09_evaluation.{arm}.json"
    name = f"adapters/{arm}"
    if not evaluated.exists() or read_json(evaluated)["reads"].get(name) != manifest["writes"][name]:
        return None
    return read_json(run.path(f"scores/{arm}.json"))


def _eval_results(decodings: dict, origin: dict, seed: int | None) -> list:
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
            metric_value=round(score["value"], 2),
            metric_args={"low": round(score["low"], 2), "high": round(score["high"], 2), "n": score["n"], "seed": seed},
        )
        for decoding, part in decodings.items()
        for metric, score in part["overall"].items()
        if score["value"] is not None
    ]


def _recall(known: list[dict]) -> list[dict[str, Any]]:
    """Recall in per cent by how often facts were told, with 95 % intervals over entities."""
    from knowtuning.evaluation.stats import mean_interval

    tiers: dict[tuple[int, str], dict[str, list[bool]]] = {}
    for row in known:
        tiers.setdefault((row["exposures"], row["tier"]), {}).setdefault(row["entity"], []).append(row["known"])
    return [
        {"name": tier, "exposures": exposures, "entities": len(entities)}
        | mean_interval([100 * sum(facts) / len(facts) for facts in entities.values()])
        for (exposures, tier), entities in sorted(tiers.items())
    ]
