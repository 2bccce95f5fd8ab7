"""How good is a teacher? Its replies on answers whose facts are known, counted task by task.

Every number is hits / of, pooled over the answers, with a 95 % bootstrap interval over answers. What is in quarantine
counts as missed (recall, facts kept, truly wrong) and is shown as failed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path

from knowtuning.data.sentences import sentences
from knowtuning.display import table
from knowtuning.evaluation.gold_facts import Labelled, label_lab_answers, load_labels
from knowtuning.evaluation.reply_reader import ReplyReader
from knowtuning.evaluation.stats import ratio_interval
from knowtuning.lab.world import World
from knowtuning.progress import of_calls, progress
from knowtuning.teacher.client import Teacher
from knowtuning.teacher.prompts import EXTRACT, REPHRASE, REVISE, REWRITE, Answer, Facts, Pair, Task

Counts = dict[tuple[str, str], tuple[int, int]]  # (task, measure) -> hits, of: of one answer
Verdict = dict[str, str]  # id, task, given, reply, verdict

# What is counted, of what; in the order in which tables show it.
MEASURES = {
    ("extract", "precision"): "statements that state exactly one gold fact / statements",
    ("extract", "recall"): "gold facts that some statement states / gold facts",
    ("extract", "damaged"): "gold facts that got no statement of their own (joined, wrong, missing) / gold facts",
    ("extract", "atomic"): "statements of one gold fact / statements of one or more",
    ("extract", "self-contained"): "statements that name a subject and hang on no pronoun / statements",
    ("extract", "order kept"): "neighbouring found facts in the answer's order / such pairs",
    ("revise", "truly wrong"): "revisions neither true nor another gold fact, of the same subject / gold facts",
    ("revise", "still true"): "revisions that still state a true fact / gold facts",
    ("revise", "another fact"): "revisions that state another gold fact / gold facts",
    ("revise", "subject lost"): "revisions that do not name the subject / gold facts",
    ("revise", "plausible change"): "truly wrong ones with the same polarity and another detail / gold facts",
    ("revise", "bare negation"): "truly wrong ones with the other polarity and no other detail / gold facts",
    ("rephrase", "facts kept"): "gold facts that the text tells / gold facts",
    ("rephrase", "sentences added"): "sentences that tell no gold fact / sentences",
    ("rephrase", "order kept"): "neighbouring told facts in the given order / such pairs",
    ("rewrite", "facts kept"): "given facts that the answer tells / given facts",
    ("rewrite", "facts leaked"): "other gold facts that the answer tells / other gold facts",
    ("rewrite", "question tells"): "questions that state a given fact / questions",
}
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
    counts, verdicts = _ask(teacher, [ReplyReader(answer) for answer in labelled], seed)
    for number, task, obeyed in _obeyed(teacher, labelled):
        counts[number][task, "injected word"] = (int(obeyed), 1)
    domains = list(dict.fromkeys(answer.domain for answer in labelled))
    rows = _rows("all", counts)
    for domain in domains if len(domains) > 1 else []:
        rows += _rows(domain, [part for of, part in zip(labelled, counts, strict=True) if of.domain == domain])
    return {"teacher": teacher.model, "answers": len(labelled), "rows": rows, "verdicts": verdicts}


def measure_lab(teacher: Teacher, world: World, rows: Sequence[dict], seed: int = 0) -> dict:
    """Measure a teacher on QA rows of the lab, as `measure` does: the world knows their facts."""
    return measure(teacher, label_lab_answers(world, rows), seed)


def select(quality: dict, domain: str = "all") -> list[dict]:
    """The rows of one domain, for a table: task, measure, value, low, high, hits, of."""
    return [{key: row[key] for key in COLUMNS} for row in quality["rows"] if row["domain"] == domain]


def error_rates(quality: dict) -> list[dict]:
    """The share of the facts that each task gets wrong, in percent: rows task, errors, low, high.

    Extract: gold facts that got no statement of their own. Revise: revisions that are not truly wrong. Rephrase and
    rewrite: facts that the answer does not tell.
    """
    rows = []
    for row in select(quality):
        if (task := (row["task"], row["measure"])) in ERRORS:
            ends = [row[key] for key in ("value", "low", "high")]
            if not ERRORS[task]:
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

    def truths(pair: dict, side: str) -> list[bool]:
        return [statement.correct for statement in world.parse(pair[side], world.find_entity(pair["question"]))]

    rows = []
    for aspect in dict.fromkeys(aspects):
        of = [pair for pair, own in zip(pairs, aspects, strict=True) if own == aspect]
        chosen, rejected = ([truths(pair, side) for pair in of] for side in ("chosen", "rejected"))
        rows.append(
            {
                "aspect": aspect,
                "pairs": len(of),
                "chosen with a false fact (%)": 100 * sum(not all(facts) for facts in chosen) / len(of),
                "rejected without a false fact (%)": 100 * sum(map(all, rejected)) / len(of),
                "true facts in rejected (%)": 100 * sum(map(sum, rejected)) / sum(map(len, rejected)),
            }
        )
    return rows


def print_quality(model: str, directory: Path | str, concurrency: int = 16, max_cost: float | None = None) -> dict:
    """Measure a teacher, print the table on 80 columns, and return the result.

    A teacher of the lab, which knows one world only, is measured on the lab's training answers; any other on the
    labelled answers. Its replies are kept in `directory`.
    """
    from knowtuning.lab.annotators import annotate
    from knowtuning.recipe import get_recipe
    from knowtuning.teacher.server import open_teacher

    lab = get_recipe("lab").lab if model.startswith("lab-oracle") else None
    labelled = label_lab_answers(World.load(lab), annotate(lab).train) if lab else load_labels()
    with open_teacher(model, directory, concurrency=concurrency, max_cost=max_cost) as teacher:
        quality = measure(teacher, labelled)
    print(f"{model} on {len(labelled)} {'answers of the lab' if lab else 'labelled answers'}, in percent")
    print(table(select(quality), digits=1))
    return quality


def given_facts(reader: ReplyReader, seed: int) -> list[int]:
    """The facts that rewrite gets: half of the gold facts, rounded up, drawn by seed and id, in their order."""
    size = len(reader.facts)
    return sorted(random.Random(f"{seed} rewrite {reader.id}").sample(range(size), math.ceil(size / 2)))


# --- asking


def _ask(teacher: Teacher, readers: Sequence[ReplyReader], seed: int) -> tuple[list[Counts], list[Verdict]]:
    """All four tasks about every answer: counts per answer, and the verdicts."""
    given = [given_facts(reader, seed) for reader in readers]
    inputs: dict[Task, list[dict]] = {task: [] for task in (EXTRACT, REVISE, REPHRASE, REWRITE)}
    for reader, numbers in zip(readers, given, strict=True):
        inputs[EXTRACT].append({"question": reader.question, "answer": reader.answer})
        inputs[REVISE].append({"question": reader.question, "facts": reader.facts})
        inputs[REPHRASE].append({"question": reader.question, "facts": reader.facts})
        inputs[REWRITE].append({"question": reader.question, "facts": [reader.facts[number] for number in numbers]})
    names = [reader.id for reader in readers]
    replies = {task: _map(teacher, task, list(zip(names, inputs[task], strict=True))) for task in inputs}
    counts: list[Counts] = []
    verdicts: list[Verdict] = []
    for number, reader in enumerate(readers):
        own = {task: replies[task][number] for task in replies}
        counts.append(
            _count_extract(reader, own[EXTRACT], verdicts)
            | _count_revise(reader, own[REVISE], verdicts)
            | _count_rephrase(reader, own[REPHRASE], verdicts)
            | _count_rewrite(reader, given[number], own[REWRITE], verdicts)
            | {(task.name, "failed"): (int(reply is None), 1) for task, reply in own.items()}
        )
    return counts, verdicts


def _map(teacher: Teacher, task: Task, requests: list[tuple[str, dict]]) -> list:
    with progress(f"teacher: {task.name}", len(requests)) as tick:
        return teacher.map(task, requests, of_calls(tick))


def _obeyed(teacher: Teacher, labelled: Sequence[Labelled]) -> list[tuple[int, str, bool]]:
    """Whether the injected word stands in the reply: (number of the answer, task, obeyed).

    Extract gets the answer that holds the injection; the tasks on facts get its sentences at the end of the question,
    where no faithful reply has a reason to repeat them.
    """
    injected = [(number, answer) for number, answer in enumerate(labelled) if answer.injected]
    obeyed = []
    for task in (EXTRACT, REVISE, REPHRASE, REWRITE):
        requests = []
        for _, answer in injected:
            if task is EXTRACT:
                requests.append((answer.id, {"question": answer.question, "answer": answer.answer}))
                continue
            order = " ".join(part.text for part in sentences(answer.answer) if answer.injected in part.text)
            facts = [fact.text for fact in answer.facts]
            requests.append((f"{answer.id}.injected", {"question": f"{answer.question} {order}", "facts": facts}))
        for (number, answer), reply in zip(injected, _map(teacher, task, requests), strict=True):
            obeyed.append((number, task.name, reply is not None and answer.injected in reply.model_dump_json()))
    return obeyed


def _rows(domain: str, counts: list[Counts]) -> list[dict]:
    """One row per measure, pooled over the answers that have it; failures and injections close each task."""
    names = list(dict.fromkeys([*MEASURES, *(name for part in counts for name in part)]))
    tasks = list(dict.fromkeys(task for task, _ in names))
    rows = []
    for task, name in sorted(names, key=lambda pair: tasks.index(pair[0])):
        pairs = [part[task, name] for part in counts if (task, name) in part]
        if pairs:
            share = ratio_interval(pairs)
            percent = {key: None if share[key] is None else 100 * share[key] for key in ("value", "low", "high")}
            hits, of = (sum(column) for column in zip(*pairs, strict=True))
            about = {"domain": domain, "task": task, "measure": name}
            rows.append({**about, **percent, "hits": hits, "of": of, "answers": len(pairs)})
    return rows


# --- counting: a reply of None is in quarantine, and its facts count as missed


def _count_extract(reader: ReplyReader, reply: Facts | None, verdicts: list[Verdict]) -> Counts:
    """A statement of several gold facts counts as wrong for precision, and its facts as found."""
    statements = reply.facts if reply else []
    stated = [reader.stated(statement) for statement in statements]
    place: dict[int, int] = {}
    own = 0  # statements that bring a fact which no earlier one stated
    for at, (statement, numbers) in enumerate(zip(statements, stated, strict=True)):
        own += any(number not in place for number in numbers)
        for number in numbers:
            place.setdefault(number, at)
        verdict = ("none", "one fact", "joined")[min(len(numbers), 2)]
        _note(verdicts, reader, "extract", " + ".join(reader.facts[number] for number in numbers), statement, verdict)
    for number in set(range(len(reader.facts))) - set(place):
        _note(verdicts, reader, "extract", reader.facts[number], "", "missed")
    single = sum(len(numbers) == 1 for numbers in stated)
    return {
        ("extract", "precision"): (single, len(statements)),
        ("extract", "recall"): (len(place), len(reader.facts)),
        ("extract", "damaged"): (len(reader.facts) - own, len(reader.facts)),
        ("extract", "atomic"): (single, sum(map(bool, stated))),
        ("extract", "self-contained"): (sum(map(reader.stands_alone, statements)), len(statements)),
        ("extract", "order kept"): _in_order([place[number] for number in sorted(place)]),
    }


def _count_revise(reader: ReplyReader, reply: Facts | None, verdicts: list[Verdict]) -> Counts:
    """The first that applies of: still true, another fact, subject lost; what is left is truly wrong."""
    kinds: list[str] = []
    for number, revision in enumerate(reply.facts if reply else []):
        if reader.is_true(number, revision):
            kinds.append("still true")
        elif any(other != number for other in reader.stated(revision)):
            kinds.append("another fact")
        elif not reader.names_subject(number, revision):
            kinds.append("subject lost")
        else:
            change = reader.change(number, revision)
            kinds.append({"negation": "bare negation", "detail": "plausible change"}.get(change, "other change"))
        _note(verdicts, reader, "revise", reader.facts[number], revision, kinds[-1])
    wrong = sum(kind in ("bare negation", "plausible change", "other change") for kind in kinds)
    named = ("still true", "another fact", "subject lost", "plausible change", "bare negation")
    hits = {"truly wrong": wrong, **{name: kinds.count(name) for name in named}}
    return {("revise", name): (count, len(reader.facts)) for name, count in hits.items()}


def _count_rephrase(reader: ReplyReader, reply: Answer | None, verdicts: list[Verdict]) -> Counts:
    """A text keeps a fact that one of its sentences tells, and adds the sentences that tell none."""
    told = reader.told(reply.answer) if reply else []
    kept = sorted(set().union(*told))
    for number, fact in enumerate(reader.facts if reply else []):
        _note(verdicts, reader, "rephrase", fact, reply.answer, "kept" if number in kept else "lost")
    return {
        ("rephrase", "facts kept"): (len(kept), len(reader.facts)),
        ("rephrase", "sentences added"): (sum(not numbers for numbers in told), len(told)),
        ("rephrase", "order kept"): _in_order([[number in numbers for numbers in told].index(True) for number in kept]),
    }


def _count_rewrite(reader: ReplyReader, given: list[int], reply: Pair | None, verdicts: list[Verdict]) -> Counts:
    """A fact that the wording of the given ones tells as well cannot leak, and is left out of the others."""
    told = set().union(*reader.told(reply.answer)) if reply else set()
    implied = set().union(*reader.told(" ".join(reader.facts[number] for number in given)))
    others = [number for number in range(len(reader.facts)) if number not in implied.union(given)]
    for number in given if reply else []:
        _note(verdicts, reader, "rewrite", reader.facts[number], reply.answer, "kept" if number in told else "lost")
    for number in told.intersection(others):
        _note(verdicts, reader, "rewrite", reader.facts[number], reply.answer, "leaked")
    tells = reply is not None and reader.gives_away(reply.question, given)
    if tells:
        _note(verdicts, reader, "rewrite", reader.question, reply.question, "question tells")
    return {
        ("rewrite", "facts kept"): (len(told.intersection(given)), len(given)),
        ("rewrite", "facts leaked"): (len(told.intersection(others)), len(others)),
        ("rewrite", "question tells"): (int(tells), int(reply is not None)),
    }


def _in_order(places: list[int]) -> tuple[int, int]:
    """Of neighbouring facts, how many stand in order; places in the reply, in the order of the gold facts."""
    pairs = list(zip(places, places[1:], strict=False))
    return sum(first <= second for first, second in pairs), len(pairs)


def _note(verdicts: list[Verdict], reader: ReplyReader, task: str, given: str, reply: str, verdict: str) -> None:
    verdicts.append({"id": reader.id, "task": task, "given": given, "reply": reply, "verdict": verdict})
