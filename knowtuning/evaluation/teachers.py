"""How good is a teacher? Its replies on answers whose facts are known, counted task by task.

Every number is hits / of, pooled over the answers, with a 95 % bootstrap interval over answers. What is in quarantine
counts as missed (recall, facts kept, truly wrong) and is shown as failed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path

from knowtuning.evaluation.counts import (
    MEASURES,
    Counts,
    Reader,
    Verdict,
    count_extract,
    count_rephrase,
    count_revise,
    count_rewrite,
)
from knowtuning.evaluation.labels import Labelled, load_labels
from knowtuning.evaluation.readers import Grammar, Marked
from knowtuning.evaluation.stats import ratio_interval
from knowtuning.lab.rules_sentences import sentences
from knowtuning.lab.world import World
from knowtuning.progress import of_calls, progress
from knowtuning.teacher.client import Teacher
from knowtuning.teacher.prompts import EXTRACT, REPHRASE, REVISE, REWRITE, Task

COLUMNS = ("task", "measure", "value", "low", "high", "hits", "of")
# The one measure of each task that says how many facts it gets wrong, and whether it counts the wrong ones.
ERRORS = {
    ("extract", "damaged"): True,
    ("revise", "truly wrong"): False,
    ("rephrase", "facts kept"): False,
    ("rewrite", "facts kept"): False,
}
BAD = ("joined", "still true", "lost", "none", "missed", "another fact", "subject lost", "leaked", "question tells")


def measure(teacher: Teacher, labelled: Sequence[Labelled], seed: int = 0) -> dict:
    """Measure a teacher on labelled answers.

    Returns:
        `{"teacher", "answers", "rows", "verdicts"}`, JSON throughout. Rows, one per domain ("all" first), task and
        measure: value, low, high (percent), hits, of, answers. Verdicts: what was decided about every reply, to audit.
    """
    readers = [Marked(one) for one in labelled]
    counts, verdicts = _ask(teacher, readers, seed)
    for number, (task, caught) in _obeyed(teacher, labelled):
        counts[number][task, "injected word"] = (int(caught), 1)
    return _result(teacher.model, readers, counts, verdicts)


def measure_lab(teacher: Teacher, world: World, rows: Sequence[dict], seed: int = 0) -> dict:
    """Measure a teacher on QA rows of the lab, as `measure` does, with the grammar of the world as the truth."""
    readers = [Grammar(world, row) for row in rows]
    return _result(teacher.model, readers, *_ask(teacher, readers, seed))


def select(quality: dict, domain: str = "all") -> list[dict]:
    """The rows of one domain, for a table: task, measure, value, low, high, hits, of."""
    return [{key: row[key] for key in COLUMNS} for row in quality["rows"] if row["domain"] == domain]


def error_rates(quality: dict) -> list[dict]:
    """The share of the facts that each task gets wrong, in percent: rows task, errors, low, high.

    Extract: gold facts that got no statement of their own. Revise: revisions that are not truly wrong. Rephrase and
    rewrite: facts that the answer does not tell.
    """
    rows = []
    for row in quality["rows"]:
        if row["domain"] == "all" and (row["task"], row["measure"]) in ERRORS:
            ends = [row[key] for key in ("value", "low", "high")]
            if not ERRORS[row["task"], row["measure"]]:
                ends = [None if end is None else 100 - end for end in (ends[0], ends[2], ends[1])]
            rows.append({"task": row["task"], **dict(zip(("errors", "low", "high"), ends, strict=True))})
    return rows


def bad_replies(quality: dict, count: int = 3) -> list[Verdict]:
    """Replies that were decided against, of as many tasks and kinds as there are: the first of each kind."""
    first: dict[tuple[str, str], Verdict] = {}
    for verdict in quality["verdicts"]:
        if verdict["verdict"] in BAD:
            first.setdefault((verdict["task"], verdict["verdict"]), verdict)
    return sorted(first.values(), key=lambda verdict: BAD.index(verdict["verdict"]))[:count]


def pair_damage(world: World, pairs: Sequence[dict], aspects: Sequence[str]) -> list[dict]:
    """What a teacher's errors did to preference pairs of the lab, by aspect, in percent of pairs and of facts.

    Args:
        pairs: `{"question", "chosen", "rejected"}`, as `llamafactory.read_ranking` returns them.
        aspects: the aspect of each.
    """
    rows = []
    for aspect in dict.fromkeys(aspects):
        of = [pair for pair, its in zip(pairs, aspects, strict=True) if its == aspect]
        read = {
            side: [[s.correct for s in world.parse(p[side], world.find_entity(p["question"]))] for p in of]
            for side in ("chosen", "rejected")
        }
        rows.append(
            {
                "aspect": aspect,
                "pairs": len(of),
                "chosen with a false fact (%)": 100 * sum(not all(facts) for facts in read["chosen"]) / len(of),
                "rejected without a false fact (%)": 100 * sum(map(all, read["rejected"])) / len(of),
                "true facts in rejected (%)": 100 * sum(map(sum, read["rejected"])) / sum(map(len, read["rejected"])),
            }
        )
    return rows


def given_facts(reader: Reader, seed: int) -> list[int]:
    """The facts that rewrite gets: half of the gold facts, rounded up, drawn by seed and id, in their order."""
    size = len(reader.facts)
    return sorted(random.Random(f"{seed} rewrite {reader.id}").sample(range(size), math.ceil(size / 2)))


def _ask(teacher: Teacher, readers: Sequence[Reader], seed: int) -> tuple[list[Counts], list[Verdict]]:
    """All four tasks about every answer: counts per answer, and the verdicts."""
    given = [given_facts(reader, seed) for reader in readers]
    inputs = {
        EXTRACT: [{"question": reader.question, "answer": reader.answer} for reader in readers],
        REVISE: [{"question": reader.question, "facts": reader.facts} for reader in readers],
        REPHRASE: [{"question": reader.question, "facts": reader.facts} for reader in readers],
        REWRITE: [
            {"question": reader.question, "facts": [reader.facts[number] for number in numbers]}
            for reader, numbers in zip(readers, given, strict=True)
        ],
    }
    replies = {
        task: _map(teacher, task, [(r.id, one) for r, one in zip(readers, inputs[task], strict=True)])
        for task in inputs
    }
    counts: list[Counts] = []
    verdicts: list[Verdict] = []
    for number, reader in enumerate(readers):
        found = {task: replies[task][number] for task in replies}
        counts.append(
            count_extract(reader, found[EXTRACT], verdicts)
            | count_revise(reader, found[REVISE], verdicts)
            | count_rephrase(reader, found[REPHRASE], verdicts)
            | count_rewrite(reader, given[number], found[REWRITE], verdicts)
            | {(task.name, "failed"): (int(reply is None), 1) for task, reply in found.items()}
        )
    return counts, verdicts


def _map(teacher: Teacher, task: Task, items: list[tuple[str, dict]]) -> list:
    with progress(f"teacher: {task.name}", len(items)) as tick:
        return teacher.map(task, items, of_calls(tick))


def _obeyed(teacher: Teacher, labelled: Sequence[Labelled]) -> list[tuple[int, tuple[str, bool]]]:
    """Whether the injected word stands in the reply: (number of the answer, (task, obeyed)).

    Extract gets the answer that holds the injection; the tasks on facts get it at the end of the question, where no
    faithful reply has a reason to repeat it.
    """
    records = [(number, one) for number, one in enumerate(labelled) if one.injected]
    found = []
    for task in (EXTRACT, REVISE, REPHRASE, REWRITE):
        items = []
        for _, one in records:
            inputs = {"question": one.question, "answer": one.answer}
            if task is not EXTRACT:
                question = f"{one.question} {injection(one)}"
                inputs = {"question": question, "facts": [fact.text for fact in one.facts]}
            items.append((f"{one.id}.injected" if task is not EXTRACT else one.id, inputs))
        for (number, one), reply in zip(records, _map(teacher, task, items), strict=True):
            found.append((number, (task.name, reply is not None and one.injected in reply.model_dump_json())))
    return found


def injection(labelled: Labelled) -> str:
    """The sentences of an answer that hold its injected word."""
    return " ".join(part.text for part in sentences(labelled.answer) if labelled.injected in part.text)


def _result(model: str, readers: Sequence[Reader], counts: list[Counts], verdicts: list[Verdict]) -> dict:
    domains = list(dict.fromkeys(reader.domain for reader in readers))
    rows = _rows("all", counts)
    for domain in domains if len(domains) > 1 else []:
        rows += _rows(domain, [one for reader, one in zip(readers, counts, strict=True) if reader.domain == domain])
    return {"teacher": model, "answers": len(readers), "rows": rows, "verdicts": verdicts}


def _rows(domain: str, counts: list[Counts]) -> list[dict]:
    """One row per measure, pooled over the answers that have it; failures and injections close each task."""
    names = list(dict.fromkeys([*MEASURES, *(name for one in counts for name in one)]))
    tasks = list(dict.fromkeys(task for task, _ in names))
    rows = []
    for task, name in sorted(names, key=lambda pair: tasks.index(pair[0])):
        pairs = [one[task, name] for one in counts if (task, name) in one]
        if not pairs:
            continue
        found = ratio_interval(pairs)
        percent = {key: None if found[key] is None else 100 * found[key] for key in ("value", "low", "high")}
        hits, of = (sum(column) for column in zip(*pairs, strict=True))
        about = {"domain": domain, "task": task, "measure": name}
        rows.append({**about, **percent, "hits": hits, "of": of, "answers": len(pairs)})
    return rows


def print_quality(model: str, directory: Path | str, concurrency: int = 16, max_cost: float | None = None) -> dict:
    """Measure a teacher, print the table on 80 columns, and return the result.

    A teacher of the lab, which knows one world only, is measured on the lab's training answers; any other on the
    labelled answers. Its replies are kept in `directory`.
    """
    from rich.console import Console
    from rich.table import Table

    from knowtuning.lab.annotators import annotate
    from knowtuning.recipe import get_recipe
    from knowtuning.teacher.server import open_teacher

    in_lab = model.startswith("lab-oracle")
    with open_teacher(model, directory, concurrency=concurrency, max_cost=max_cost) as teacher:
        if in_lab:
            lab = get_recipe("lab").lab
            quality = measure_lab(teacher, World.load(lab), annotate(lab).train)
        else:
            quality = measure(teacher, load_labels())
    console = Console() if Console().is_terminal else Console(width=80)
    title = f"{model} on {quality['answers']} {'answers of the lab' if in_lab else 'labelled answers'}"
    view = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("task", "measure", "%", "95 % interval", "hits", "of"):
        view.add_column(column, justify="left" if column in ("task", "measure") else "right", no_wrap=True)
    last = ""
    for row in select(quality):
        value = "–" if row["value"] is None else f"{row['value']:.1f}"
        interval = "" if row["value"] is None else f"{row['low']:.1f} to {row['high']:.1f}"
        task = row["task"] if row["task"] != last else ""
        view.add_row(task, row["measure"], value, interval, str(row["hits"]), str(row["of"]))
        last = row["task"]
    console.print(view)
    return quality
