"""How fast are facts scored, and in how much memory, beside the loop of `evaluate`'s perplexity? Minutes on two cores.

    python benchmarks/perplexity.py [--quantisation nf4] [--data dolly.json --rows 200] [--quick]

The peer is written anew here, after the published algorithm of the measurement `perplexity` of the package `evaluate`,
which itself has to be fetched from the hub: pad all texts to the longest of all, take 16 at a time, make all logits,
shift them, take the cross entropy of every token, and keep that of the tokens that count. The measurement knows texts
only; here it is given prompts too, so that both compute the same number. Beside it stands a kinder one, which pads
each batch to its own longest text. All use one model, the base under the SFT adapter of a run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from teacher.running import publish
from timing import ended, in_turn, rate, ratio
from torch.nn.functional import cross_entropy

from knowtuning.data.sentences import sentences
from knowtuning.data.sources import load
from knowtuning.knowledge.difficulty import fact_nll, perplexity
from knowtuning.run import Run, peak_memory_mb
from knowtuning.training import models
from knowtuning.training.prompts import encode_prompt

BATCH = 16
BUDGETS = (1024, 2048, 8192, 32768)
Items = list[tuple[str, str]]


@torch.no_grad()
def loop(model: Any, tokenizer: Any, items: Items, to_longest_of_all: bool = True) -> list[float]:
    """Perplexity of each fact after its question, as the peer computes it."""
    prompts = {question: encode_prompt(tokenizer, question) for question in dict(items)}
    facts = tokenizer([fact for _, fact in items], add_special_tokens=False)["input_ids"]
    texts = [(prompts[question], fact) for (question, _), fact in zip(items, facts, strict=True)]
    longest = max(len(prompt) + len(fact) for prompt, fact in texts)
    found: list[float] = []
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        width = longest if to_longest_of_all else max(len(prompt) + len(fact) for prompt, fact in batch)
        ids = torch.full((len(batch), width), tokenizer.pad_token_id)
        mask, counts = torch.zeros_like(ids), torch.zeros_like(ids)
        for row, (prompt, fact) in enumerate(batch):
            size = len(prompt) + len(fact)
            ids[row, :size] = torch.tensor(prompt + fact)
            mask[row, :size] = 1
            counts[row, len(prompt) : size] = 1
        ids, mask, counts = (tensor.to(model.device) for tensor in (ids, mask, counts))
        logits = model(ids, attention_mask=mask).logits[:, :-1].float().contiguous()
        losses = cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none") * counts[:, 1:]
        found += (losses.sum(1) / counts[:, 1:].sum(1)).exp().tolist()
    return found


def ours(model: Any, tokenizer: Any, items: Items, max_tokens: int) -> list[float]:
    """The same by the package."""
    return [perplexity(*score) for score in fact_nll(model, tokenizer, items, max_tokens)]


def measure(
    recipe: str = "lab", seed: int = 0, quantisation: str = "none", data: str = "", rows: int = 0, quick: bool = False
) -> dict:
    """Facts per second of the three ways, how far their numbers are apart, and the memory of a pass by its budget."""
    run = Run("perplexity", recipe, seed)
    model, tokenizer = _model(run, quantisation)
    items, max_tokens = _items(run, data, rows), run.recipe.machine.score_tokens
    ways = {
        "ours": lambda: ours(model, tokenizer, items, max_tokens),
        "loop": lambda: loop(model, tokenizer, items),
        "loop, each batch to its own longest": lambda: loop(model, tokenizer, items, to_longest_of_all=False),
    }
    said = {name: way() for name, way in ways.items()}
    apart = max(abs(a - b) / b for a, b in zip(said["ours"], said["loop"], strict=True))
    if apart > 1e-4:
        raise SystemExit(f"ours and the loop differ by {apart:.1e} of the perplexity: they do not compute the same.")
    seconds = in_turn(ways, repeats=2 if quick else 7)
    return {
        "data": Path(data).name if data else f"facts of recipe {recipe}, seed {seed}",
        "facts": len(items),
        "questions": len({question for question, _ in items}),
        "weights": "NF4" if quantisation == "nf4" else "float32",
        "threads": torch.get_num_threads(),
        "score_tokens": max_tokens,
        "largest_relative_difference": apart,
        "facts_per_second": {name: rate(len(items), seconds[name]) for name in ways},
        "times_as_fast_as": {name: ratio(seconds[name], seconds["ours"]) for name in ways if name != "ours"},
        "mb_of_a_pass": {
            name: _in_a_process("--budget", budget, recipe, seed, quantisation, data, rows)
            for name, budget in [("loop", 0), *((f"{n} tokens", n) for n in (BUDGETS[:2] if quick else BUDGETS))]
        },
    }


def _model(run: Run, quantisation: str) -> tuple[Any, Any]:
    base = run.need("base")
    model = models.load_adapter(models.load_base(base, quantisation), run.need("adapters/sft")).eval()
    return model, models.load_tokenizer(base)


def _items(run: Run, data: str, rows: int) -> Items:
    """(question, fact): those of the run, or the sentences of another file's answers."""
    if data:
        return [(row["question"], one.text) for row in load(data)[: rows or None] for one in sentences(row["answer"])]
    questions = {row["id"]: row["question"] for row in run.read("data/train.jsonl")}
    return [(questions[row["id"]], fact) for row in run.read("facts.jsonl")[: rows or None] for fact in row["facts"]]


def _in_a_process(name: str, budget: int, *given: Any) -> float:
    """Memory in a fresh process, as what one freed stays with it."""
    command = [sys.executable, __file__, name, str(budget)]
    for option, value in zip(("--recipe", "--seed", "--quantisation", "--data", "--rows"), given, strict=True):
        command += [option, str(value)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def memory(recipe: str, seed: int, quantisation: str, data: str, rows: int, budget: int) -> float:
    """MB that scoring takes at most on top of the loaded model, by the kernel's count; budget 0 is the loop (Linux)."""
    run = Run("perplexity", recipe, seed)
    model, tokenizer = _model(run, quantisation)
    items = _items(run, data, rows)
    fact_nll(model, tokenizer, items[:1])  # what is made once does not count
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_memory_mb()
    ours(model, tokenizer, items, budget) if budget else loop(model, tokenizer, items)
    return peak_memory_mb() - before


def main() -> None:
    """Measure, print and write `results/perplexity.json`, or `perplexity-….json` for other data or weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="lab")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quantisation", choices=["none", "nf4"], default="none")
    parser.add_argument("--data", default="", help="question-and-answer file whose answers' sentences are scored")
    parser.add_argument("--rows", type=int, default=0, help="only the first rows (default: all)")
    parser.add_argument("--threads", type=int, default=0, help="of PyTorch (default: its own choice)")
    parser.add_argument("--quick", action="store_true", help="two rounds, two budgets, no file")
    parser.add_argument("--budget", type=int, help=argparse.SUPPRESS)
    chosen = vars(parser.parse_args())
    if threads := chosen.pop("threads"):
        torch.set_num_threads(threads)
    budget = chosen.pop("budget")
    if budget is not None:
        chosen.pop("quick")
        print(memory(**chosen, budget=budget))
        return
    measured = measure(**chosen)
    print(json.dumps(measured, indent=1))
    if not chosen["quick"]:
        about = [Path(chosen["data"]).stem, "nf4" if chosen["quantisation"] == "nf4" else ""]
        publish("-".join(["perplexity", *filter(None, about)]), measured)


if __name__ == "__main__":
    sys.exit(ended(main))
