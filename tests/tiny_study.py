"""A study of made-up answers, small enough to check by eye: KnowTuning tells one true fact more than SFT."""

import random

from knowtuning.files import write_json, write_jsonl

QUESTIONS = 12
CELLS = (("lab", 0, "medical", 0), ("lab", 1, "medical", 0), ("lab-base-1", 0, "medical", 1), ("g", 0, "generic", 0))
MORE = {"base": -1, "sft": 0, "ka": 0, "ka_random": 0, "no_kcc": 0, "rlaif": 0, "knowtuning": 1}


def answer(number, correct, incorrect, order=1.0, greedy=True):
    said = correct + incorrect
    return {
        "id": f"q{number}",
        "question": f"What is {number}?",
        "tier": "known" if number < 8 else "rare",
        "correct": correct,
        "incorrect": incorrect,
        "unreadable": 0,
        "repeated": 0,
        "completeness": correct / 8,
        "precision": correct / said if said else None,
        "order": order if said > 1 else None,
        "words": 5 * said,
        "meteor": correct / 10,
        **({"bertscore": 0.8} if greedy else {}),
    }


def write_study(folder):
    """Write four cells, a grid of learning rates, two points of a map, and a judge; return the folder."""
    for recipe, seed, world, base in CELLS:
        cell = folder / recipe / f"seed-{seed}"
        for arm, more in MORE.items():
            rng = random.Random(f"{arm} {recipe} {seed}")
            for decoding in ("greedy", "sampled"):
                rows = [
                    answer(n, 3 + more + n % 2 + (rng.random() < 0.1), n % 3, greedy=decoding == "greedy")
                    for n in range(QUESTIONS)
                ]
                write_jsonl(cell / "answers" / f"{arm}.{decoding}.jsonl", rows)
        write_json(
            cell / "cell.json",
            {
                "recipe": recipe,
                "seed": seed,
                "world": world,
                "base_seed": base,
                "learning_rates": {"sft": 1e-3},
                "training": {"sft": {"steps": 10, "rows": 400, "seconds": 1.0}},
                "teacher": {
                    "knowtuning": {task: used(400) for task in ("extract", "rewrite", "rephrase", "revise")},
                    "facttune": {"extract": used(2400), "verify": used(2400 + seed)},
                },
            },
        )
    write_json(
        folder / "tuning.json",
        {
            "criterion": "F1",
            "grid": [1.0, 2.0],
            "seeds": [100],
            "rows": [{"arm": "sft", "multiple": m, "rate": m / 1000, "seed": 100, "f1": 0.5 * m} for m in (1.0, 2.0)],
            "chosen": {"sft": 0.002},
            "multiples": {"sft": 2.0},
        },
    )
    for axis, value, gain in (("default", "", 1.0), ("alpha", "0.25", 0.5)):
        for seed in (0, 1):
            scores = {"sft": {"correct": 3.0}, "knowtuning": {"correct": 3.0 + gain + 0.1 * seed, "correct: rare": 1.0}}
            write_json(
                folder / "map" / f"{axis}{value}" / f"seed-{seed}" / "point.json",
                {
                    "point": {"axis": axis, "value": value},
                    "seed": seed,
                    "arms": {arm: {"greedy": means} for arm, means in scores.items()},
                    "base": {"known recall": 1.0, "rare recall": 0.25},
                    "chosen reward at the end": {"knowtuning": -0.5},
                },
            )
    share = {"value": 0.5, "low": 0.4, "high": 0.6}
    judged = {"judge": "j", "arm": "knowtuning", "against": "sft", "aspect": "completeness", "questions": 12}
    judged |= {"unreadable": 1, "true": {"win_rate": 0.75}, "measured": {"pairs": 12, "sensitivity": share}}
    write_json(folder / "judge.json", {"recipe": "lab", "rows": [{**judged, "raw": {"win_rate": share}}]})
    return folder


def used(calls):
    return {"calls": calls, "prompt_tokens": 100 * calls, "completion_tokens": 10 * calls}
