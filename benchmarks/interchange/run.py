"""LLaMA-Factory 0.9.5 trains on the files of a run as they are, and its adapters work here: `make interchange`.

SFT on `ka.json`, then DPO on `kc.json` from the adapter of the SFT, both on CPU. What is checked: every row is trained
on, as the tokens that we would train on; the loss of the whole file, before and after, is the one that our own code
computes (before DPO: ln 2 plus 0.2 times the loss of the preferred answers); it falls; and the adapters load with PEFT
here and answer. What LLaMA-Factory was told, said and wrote stays in the folder `interchange` of the run.
"""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from pathlib import Path
from shutil import rmtree
from typing import Any

from configs import PREF_BETA, PREF_FTX, dpo_config, sft_config
from factory import tokenised, train, versions_in
from losses import TAIL, different_rows, our_examples, preference_loss, sft_loss

from knowtuning.data.llamafactory import read_alpaca, read_ranking
from knowtuning.display import table
from knowtuning.files import ROOT, DataError, read_json, write_json
from knowtuning.run import Run, versions

COLUMNS = {"ka.json": ["instruction", "input", "output"], "kc.json": ["instruction", "input", "chosen", "rejected"]}
TOLERANCE = 1e-4  # nats; float32 in two versions of torch differs by about 1e-7


def main() -> int:
    """Train, check, print, and write `benchmarks/results/interchange.json`; 1 when a check fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="lab")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv-llamafactory", help="where LLaMA-Factory is")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "interchange.json")
    chosen = parser.parse_args()
    try:
        result = exchange(Run("interchange", recipe=chosen.recipe, seed=chosen.seed), chosen.venv)
    except (DataError, ValueError) as error:
        print(f"interchange: {error}", file=sys.stderr)
        return 1
    write_json(chosen.results, result)
    report(result)
    return 0 if all(result["checks"].values()) else 1


def exchange(run: Run, venv: Path) -> dict[str, Any]:
    """Both trainings and all checks, as one record."""
    from knowtuning.training.models import load_tokenizer

    files = {name: Path(run.need(name)) for name in COLUMNS}
    base, folder = run.need("base"), run.root / "interchange"
    tokenizer = load_tokenizer(base)
    told = (run.recipe, base, run.root, tokenizer.bos_token or "", run.seed)
    sft = sft_config(*told, folder / "sft")
    dpo = dpo_config(*told, folder / "dpo", start=folder / "sft" / "adapter")

    rmtree(folder, ignore_errors=True)
    stages = {}
    for stage, config in {"sft": sft, "dpo": dpo}.items():
        print(f"LLaMA-Factory trains: {stage} on {config['dataset']}.json", flush=True)
        stages[stage] = train(venv, folder / stage, config)
    examples = {stage: tokenised(folder / stage) for stage in stages}
    policy = compare_losses(base, folder, examples, stages)

    checks = {f"{name} loads with datasets, with its columns": loads(path, folder) for name, path in files.items()}
    rows = {"sft": read_alpaca(files["ka.json"]), "dpo": read_ranking(files["kc.json"])}
    tail = tokenizer(TAIL, add_special_tokens=False)["input_ids"]
    for stage, numbers in stages.items():
        ours = our_examples(rows[stage], tokenizer, run.recipe.max_length)
        numbers["rows"] = len(rows[stage])
        numbers["different rows"] = different_rows(examples[stage], ours, tail, run.recipe.max_length)
        checks |= stage_checks(stage.upper(), numbers)
    answered = answer(policy, tokenizer, run)
    return {
        "recipe": run.recipe.name,
        "seed": run.seed,
        "cores": os.cpu_count(),
        "versions": {"here": versions(), "LLaMA-Factory's venv": versions_in(venv)},
        "stages": stages,
        "answer": answered,
        "checks": checks | {"the adapter answers here": bool(answered["answer"])},
    }


def compare_losses(base: str | Path, folder: Path, examples: dict[str, list[dict]], stages: dict[str, dict]) -> Any:
    """Add our own losses to the numbers of each stage; returns the last adapter on the base."""
    from knowtuning.training.models import load_adapter, load_base

    untuned, start, end = (load_base(base, quantisation="none") for _ in range(3))
    start = load_adapter(start, folder / "sft" / "adapter").eval()
    end = load_adapter(end, folder / "dpo" / "adapter").eval()
    for when, tuned in (("before", untuned), ("after", start)):
        stages["sft"][f"ours {when}"] = sft_loss(tuned, examples["sft"])
    for when, policy in (("before", start), ("after", end)):
        stages["dpo"][f"ours {when}"] = preference_loss(policy, start, examples["dpo"], PREF_BETA, PREF_FTX)
    return end


def loads(path: Path, folder: Path) -> bool:
    """Whether `datasets` reads the file whole, and with exactly its columns."""
    from datasets import load_dataset

    dataset = load_dataset("json", data_files=str(path), split="train", cache_dir=str(folder / "cache"))
    return dataset.column_names == COLUMNS[path.name] and dataset.to_list() == read_json(path)


def stage_checks(stage: str, numbers: dict[str, Any]) -> dict[str, bool]:
    """What has to hold of one training, in words, and whether it does."""
    agree = {when: abs(numbers[f"loss {when}"] - numbers[f"ours {when}"]) < TOLERANCE for when in ("before", "after")}
    return {
        f"{stage} trains on all rows": numbers["trained on"] == numbers["rows"],
        f"{stage} trains on our tokens": not numbers["different rows"],
        f"{stage}'s loss before is ours": agree["before"],
        f"{stage}'s loss after is ours": agree["after"],
        f"{stage}'s losses are finite": numbers["finite"],
        f"{stage}'s loss falls": numbers["loss after"] < numbers["loss before"],
    }


def answer(policy: Any, tokenizer: Any, run: Run) -> dict[str, Any]:
    """The tuned model's answer to the first validation question, in our prompt."""
    from knowtuning.training.generate import generate

    question = run.read("data/valid.jsonl")[0]["question"]
    [answered] = generate(policy, tokenizer, [question], max_new_tokens=run.recipe.evaluation.max_new_tokens)
    return {"question": question, **answered}


def report(result: dict[str, Any]) -> None:
    """Print the record in 80 columns."""
    names = {
        "rows in the file": "rows",
        "rows trained on": "trained on",
        "steps": "steps",
        "loss of the file before": "loss before",
        "  by our own code": "ours before",
        "loss of the file after": "loss after",
        "  by our own code, too": "ours after",
    }
    lines = [
        {"": shown} | {stage.upper(): numbers[name] for stage, numbers in result["stages"].items()}
        for shown, name in names.items()
    ]
    seconds = {stage.upper(): round(numbers["seconds"]) for stage, numbers in result["stages"].items()}
    print("\n", table([*lines, {"": "seconds in all"} | seconds], digits=4), "\n", sep="")
    for check, holds in result["checks"].items():
        print(f"{'ok' if holds else 'FAILED':6}  {check}")
    print()
    print(textwrap.fill(f"{result['answer']['question']}  {result['answer']['answer']}", 80))


if __name__ == "__main__":
    sys.exit(main())
