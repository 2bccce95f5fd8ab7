"""How fast are answers generated in batches, beside one `model.generate` per question? Minutes on two cores.

    python benchmarks/generation.py [--quantisation nf4] [--questions 100] [--quick]

One model, the base under the SFT adapter of a run; the peer is transformers' own `generate` with its cache, question by
question. Greedy answers must be equal word for word, or nothing is written.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import torch
from teacher.running import publish
from timing import ended, in_turn, rate, ratio

from knowtuning.run import Run
from knowtuning.training import models
from knowtuning.training.generate import DECODINGS, generate, load_policy
from knowtuning.training.prompts import encode_prompt

TIMED = 100  # questions of a round: one by one, all of a run's take half a minute


@torch.no_grad()
def one_by_one(model: Any, tokenizer: Any, questions: list[str], decoding: str, max_new_tokens: int) -> list[str]:
    """Answers of transformers, each by a call of its own."""
    said = []
    for question in questions:
        ids = torch.tensor([encode_prompt(tokenizer, question)], device=model.device)
        options = {"max_new_tokens": max_new_tokens, "pad_token_id": tokenizer.pad_token_id, **DECODINGS[decoding]}
        output = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=True, **options)
        said.append(tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True).strip())
    return said


def measure(
    recipe: str = "lab", seed: int = 0, quantisation: str = "none", questions: int = 0, quick: bool = False
) -> dict:
    """Questions per second of both ways, greedy and sampled; the greedy answers to all questions are compared."""
    run = Run("generation", recipe, seed)
    tokenizer = models.load_tokenizer(run.need("base"))
    settings = run.recipe.replace(quantisation=quantisation)
    model = load_policy(settings, run.need("base"), run.need("adapters/sft"))
    asked = [row["question"] for row in run.read("data/test.jsonl")][: 20 if quick else questions or None]
    sizes = (run.recipe.evaluation.max_new_tokens, run.recipe.evaluation.batch)
    replies = generate(model, tokenizer, asked, "greedy", *sizes)
    alone = one_by_one(model, tokenizer, asked, "greedy", run.recipe.evaluation.max_new_tokens)
    different = sum(reply["answer"] != other for reply, other in zip(replies, alone, strict=True))
    if different:
        raise SystemExit(f"{different} of {len(asked)} greedy answers differ between batches and single questions.")
    timed = asked[:TIMED]
    found: dict[str, Any] = {
        "questions": len(asked),
        "questions_timed": len(timed),
        "weights": "NF4" if quantisation == "nf4" else "float32",
        "threads": torch.get_num_threads(),
        "batch": run.recipe.evaluation.batch,
        "tokens_per_answer": sum(reply["tokens"] for reply in replies) / len(replies),
        "greedy_answers_that_differ": different,
    }
    for decoding in ("greedy", "sampled"):
        ways = {
            "ours": lambda how=decoding: generate(model, tokenizer, timed, how, *sizes),
            "one by one": lambda how=decoding: one_by_one(model, tokenizer, timed, how, sizes[0]),
        }
        seconds = in_turn(ways, repeats=1 if quick else 5)
        found[decoding] = {name: rate(len(timed), seconds[name]) for name in ways}
        found[decoding]["times_as_fast"] = ratio(seconds["one by one"], seconds["ours"])
    return found


def main() -> None:
    """Measure, print and write `results/generation.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="lab")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quantisation", choices=["none", "nf4"], default="none")
    parser.add_argument("--questions", type=int, default=0, help="only the first ones (default: all)")
    parser.add_argument("--threads", type=int, default=0, help="of PyTorch (default: its own choice)")
    parser.add_argument("--quick", action="store_true", help="20 questions, one round, no file")
    chosen = vars(parser.parse_args())
    if threads := chosen.pop("threads"):
        torch.set_num_threads(threads)
    measured = measure(**chosen)
    print(json.dumps(measured, indent=1))
    if not chosen["quick"]:
        publish("generation", measured)


if __name__ == "__main__":
    sys.exit(ended(main))
