"""Before a run pays for anything: a look at what the teacher makes of a few rows, and what all of them will cost."""

from __future__ import annotations

import textwrap

from rich import box
from rich.console import Console
from rich.table import Table

from knowtuning.data import sources
from knowtuning.files import DataError, shown
from knowtuning.knowledge.estimate import Estimate, Range, estimate
from knowtuning.knowledge.pipeline import Made, rehearse
from knowtuning.lab import annotators
from knowtuning.recipe import Recipe
from knowtuning.teacher.budget import Price, load_price
from knowtuning.teacher.calls import totals
from knowtuning.teacher.client import Teacher

WIDTH = 80


def training_rows(recipe: Recipe, data: str = "", copy: str = "", rows: int = 0, seed: int = 0) -> list[dict]:
    """The QA rows that a walk with these options asks its teacher about: those that notebook 01 leaves for training."""
    if recipe.lab:
        return annotators.annotate(recipe.lab, seed).train
    if not data:
        raise DataError(f"recipe {recipe.name} needs real text: give --data FILE.")
    return sources.draw(data, copy, rows, recipe.data.valid_rows, recipe.data.test_rows, seed)[0].train


def preview(teacher: Teacher, rows: list[dict], seed: int = 0) -> Made:
    """Send rows through extract, rewrite, revise and rephrase, and print each with what came out."""
    made = rehearse(teacher, rows, seed=seed)
    for number, row in enumerate(rows, start=1):
        print(f"── {number} of {len(rows)} · {row['id']} " + "─" * 20)
        _print_row(row, made)
    if failed := totals(teacher.counts)["quarantined"]:
        print(f"Reasons and raw replies: {shown(teacher.folder / 'quarantine.jsonl')}")
    print(f"{failed} requests failed (model {teacher.model}).")
    return made


def _print_row(row: dict, made: Made) -> None:
    """A QA row and what the method makes of it; "(failed)" where there is nothing."""
    parts = (made.facts, made.rewritten, made.pairs)
    facts, rewritten, pairs = ([part for part in rows if part["id"] == row["id"]] for rows in parts)
    false = [fact for pair in pairs if pair["aspect"] == "factuality" for fact in pair["disturbed"]]
    _say("question", row["question"])
    _say("answer", row["answer"])
    for place, fact in enumerate(facts[0]["facts"] if facts else []):
        _say(f"fact {place + 1}", fact)
        _say("  false", false[place] if place < len(false) else "(failed)")
    _say("new question", rewritten[0]["question"] if rewritten else "(failed)")
    _say("new answer", rewritten[0]["answer"] if rewritten else "(failed)")
    _say("rephrased", pairs[0]["chosen"] if pairs else "(failed)")


def _say(label: str, text: str) -> None:
    indent = " " * 14
    lines = [line for part in text.splitlines() or [""] for line in textwrap.wrap(part, WIDTH - len(indent)) or [""]]
    print(f"{label:<14}" + f"\n{indent}".join(lines))


def print_estimate(
    teacher: Teacher, rows: list[dict], sample: int = 60, price: Price | None = None, batch: bool = False, seed: int = 0
) -> Estimate:
    """Estimate calls, tokens and dollars of a walk's teacher stages and print them, stage by stage."""
    model = teacher.model
    price = price or load_price(model)
    result = estimate(teacher, rows, sample, seed=seed, price=price, batch=batch)
    table = Table("stage", box=box.SIMPLE)
    columns = [("calls", "calls"), ("tokens in", "prompt_tokens"), ("tokens out", "completion_tokens")]
    columns += [("dollars", "dollars")] if price else []
    for heading, _ in columns:
        table.add_column(heading, justify="right")
    for name, counts in result.stages.items():
        table.add_row(
            name, *(_shown(counts[key], key == "dollars") for _, key in columns), end_section=name == "rephrase"
        )
    print(f"{model}: {result.rows} training rows, {result.sample} of them asked; expected and 95 % interval")
    Console(width=WIDTH).print(table)
    if price is None:
        print(
            f"No price of {model} is known: add it to data/prices.yaml, or give --price IN,OUT (dollars per million)."
        )
    else:
        half = f", batch calls at {price.batch:g} of it" if batch else ""
        print(f"Price: ${price.input:g} in, ${price.output:g} out per million tokens ({price.date}){half}.")
    print("What was asked for this is on record and is not paid again.")
    return result


def _shown(values: Range, dollars: bool) -> str:
    write = _dollars if dollars else _count
    low, high = write(values.low), write(values.high)
    return write(values.expected) if low == high else f"{write(values.expected)}\n{low} to {high}"


def _dollars(value: float) -> str:
    return f"{value:,.2f}" if value >= 1 else f"{value:.4f}"


def _count(value: float) -> str:
    if value < 10_000:
        return f"{value:,.0f}"
    return f"{value / 1e3:,.0f} k" if value < 1e6 else f"{value / 1e6:,.2f} M"
