"""SFT and DPO beside LLaMA-Factory 0.9.5 and plain TRL: same base, files, batches and steps. Part of `make bench`

Each training is a process of its own, in turn: ours, TRL with its defaults, LLaMA-Factory.
All train on the same tokens (with the tail that LLaMA-Factory's template puts after each answer), in float32, without
evaluation, on all cores; the samples per second are those of the training loops, ours with the reference's
log-probabilities counted in. DPO starts from our SFT adapter everywhere. That the result is the same is shown by our
own losses of all adapters over the whole file.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "interchange"), str(HERE.parent)]

from configs import PREF_BETA, PREF_FTX, dpo_config, sft_config  # noqa: E402
from factory import train, versions_in  # noqa: E402
from losses import preference_loss, sft_loss  # noqa: E402
from teacher.running import publish  # noqa: E402
from timing import ended, ratio, spread  # noqa: E402
from trainers import TAIL  # noqa: E402

from knowtuning.data.llamafactory import read_alpaca, read_ranking  # noqa: E402
from knowtuning.display import table  # noqa: E402
from knowtuning.files import ROOT, DataError, read_json  # noqa: E402
from knowtuning.run import Run  # noqa: E402
from knowtuning.training import dpo, models, sft  # noqa: E402

VENV = ROOT / ".venv-llamafactory"
WAYS = {"ours": "ours", "trl": "stock", "llamafactory": ""}  # `trainers.py`'s names
LIMIT = 0.02  # nats between the losses: three orders of the examples, and three sums of floats
FILES = {"sft": "ka.json", "dpo": "kc.json"}


def main() -> int:
    """Train in turn, compare, print, and write `benchmarks/results/training.json`; 1 where the losses differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="lab")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one run of 64 rows; writes nothing")
    chosen = parser.parse_args()
    if not (VENV / "installed").exists():
        print("training: LLaMA-Factory is not installed: run `make bench`.", file=sys.stderr)
        return 2
    run = Run("training", recipe=chosen.recipe, seed=0)
    measured = measure(run, 1 if chosen.quick else chosen.runs, 64 if chosen.quick else 0)
    for stage, rows in measured["stages"].items():
        print(f"{stage}:", table([{"trainer": way, **_shown(row)} for way, row in rows.items()], digits=3), sep="\n")
    if not chosen.quick:
        publish("training", measured)
    return 0 if measured["same losses"] else 1


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    speed = row["samples_per_second"]
    return {
        "samples/s": speed["median"],
        "from": speed["min"],
        "to": speed["max"],
        "ours is": row["ours_is"]["median"],
        "loss": row["loss"],
    }


def measure(run: Run, runs: int, rows: int) -> dict[str, Any]:
    """Both stages; `rows` of the files only (0: all)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stages, start = {}, folder / "start"
        for stage in FILES:
            found: dict[str, list[dict]] = {way: [] for way in WAYS}
            for number in range(runs):
                for way in WAYS:
                    place = folder / f"{stage}-{way}"
                    shutil.rmtree(place, ignore_errors=True)
                    found[way].append(_once(run, stage, way, place, start, rows))
                    print(f"{stage} {number + 1}/{runs} {way}: {found[way][-1]['samples_per_second']:.1f}", flush=True)
            if stage == "sft":
                shutil.copytree(folder / "sft-ours", start)
            adapters = {way: _adapter(folder / f"{stage}-{way}") for way in WAYS}
            stages[stage] = _compared(found, _losses(run, stage, adapters, start, rows))
    same = all(
        abs(row["loss"] - stages[stage]["ours"]["loss"]) < LIMIT for stage in stages for row in stages[stage].values()
    )
    return {
        "recipe": run.recipe.name,
        "cores": os.cpu_count(),
        "rows": rows or "all",
        "stages": stages,
        "same losses": same,
        "versions of LLaMA-Factory": versions_in(VENV),
    }


def _once(run: Run, stage: str, way: str, place: Path, start: Path, rows: int) -> dict[str, Any]:
    """One training in a process of its own."""
    if way == "llamafactory":
        told = (run.recipe, run.need("base"), run.root, models.load_tokenizer(run.need("base")).bos_token, 0, place)
        config = sft_config(*told) if stage == "sft" else dpo_config(*told, start=start)
        for name in ("do_eval", "eval_on_start", "eval_dataset", "per_device_eval_batch_size"):
            config.pop(name, None)
        return _records(train(VENV, place, config | {"max_samples": rows or 10**6}, evaluated=False), place)
    command = [sys.executable, str(HERE / "trainers.py"), stage, WAYS[way], str(place)]
    command += ["--recipe", run.recipe.name, "--rows", str(rows), "--start", str(start)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise DataError(f"{stage} by {way} failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _records(numbers: dict[str, Any], place: Path) -> dict[str, Any]:
    result = read_json(place / "adapter" / "all_results.json")
    return {
        "samples_per_second": result["train_samples_per_second"],
        "seconds": result["train_runtime"],
        "steps": numbers["steps"],
    }


def _adapter(place: Path) -> Path:
    return place / "adapter" if (place / "adapter").exists() else place


def _compared(found: dict[str, list[dict]], losses: dict[str, float]) -> dict[str, dict[str, Any]]:
    """Medians and spread of each trainer, ours as a multiple of it, and its adapter's loss."""
    rows = {}
    for way, runs in found.items():
        speeds = [one["samples_per_second"] for one in runs]
        rows[way] = {
            "samples_per_second": spread(speeds),
            "ours_is": ratio([one["samples_per_second"] for one in found["ours"]], speeds),
            "steps": runs[0]["steps"],
            "loss": losses[way],
        }
    again = [one["samples_per_second_without_reference"] for one in found["ours"]]
    rows["ours"]["samples_per_second_with_a_reference_on_disk"] = statistics.median(again)
    return rows


def _losses(run: Run, stage: str, adapters: dict[str, Path], start: Path, rows: int) -> dict[str, float]:
    """The loss of each adapter over the file, by the plain formulas."""
    base, tokenizer = run.need("base"), models.load_tokenizer(run.need("base"))
    tail = tokenizer(TAIL, add_special_tokens=False)["input_ids"]
    tuned = {way: models.load_adapter(models.load_base(base, "none"), path).eval() for way, path in adapters.items()}
    if stage == "sft":
        examples, _ = sft.sft_examples(tokenizer, read_alpaca(run.need("ka.json"))[: rows or None], 10**6)
        examples = [{name: ids + tail for name, ids in example.items()} for example in examples]
        return {way: sft_loss(model, examples) for way, model in tuned.items()}
    reference = models.load_adapter(models.load_base(base, "none"), start).eval()
    examples = []
    for pair in dpo.dpo_examples(tokenizer, read_ranking(run.need("kc.json"))[: rows or None], 10**6)[0]:
        example = {}
        for side in dpo.SIDES:
            prompt, answer = pair["prompt_ids"], pair[f"{side}_ids"] + tail
            example |= {f"{side}_input_ids": prompt + answer, f"{side}_labels": [-100] * len(prompt) + answer}
        examples.append(example)
    return {way: preference_loss(model, reference, examples, PREF_BETA, PREF_FTX) for way, model in tuned.items()}


if __name__ == "__main__":
    sys.exit(ended(main))
