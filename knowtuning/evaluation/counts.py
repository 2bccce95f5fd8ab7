"""What is counted of one reply, task by task. A reply of None is in quarantine: its facts count as missed."""

from __future__ import annotations

from knowtuning.evaluation.readers import FALSE, Grammar, Marked
from knowtuning.teacher.prompts import Answer, Facts, Pair

Reader = Marked | Grammar
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


def count_extract(reader: Reader, reply: Facts | None, verdicts: list[Verdict]) -> Counts:
    """A statement of several gold facts counts as wrong for precision, and its facts as found."""
    statements = reply.facts if reply else []
    stated = [reader.stated(statement) for statement in statements]
    gold = [[number for number in numbers if number != FALSE] for numbers in stated]
    place: dict[int, int] = {}
    own = 0  # statements that bring a fact which no earlier one stated
    for n, numbers in enumerate(gold):
        own += any(number not in place for number in numbers)
        for number in numbers:
            place.setdefault(number, n)
    for statement, numbers in zip(statements, stated, strict=True):
        verdict = "one fact" if len(numbers) == 1 and numbers != [FALSE] else "joined" if len(numbers) > 1 else "none"
        about = " + ".join(reader.facts[number] for number in numbers if number != FALSE)
        _note(verdicts, reader, "extract", about, statement, verdict)
    for number in set(range(len(reader.facts))) - set(place):
        _note(verdicts, reader, "extract", reader.facts[number], "", "missed")
    single = sum(len(numbers) == 1 for numbers in stated if numbers != [FALSE])
    return {
        ("extract", "precision"): (single, len(statements)),
        ("extract", "recall"): (len(place), len(reader.facts)),
        ("extract", "damaged"): (len(reader.facts) - own, len(reader.facts)),
        ("extract", "atomic"): (single, sum(map(bool, gold))),
        ("extract", "self-contained"): (sum(map(reader.stands_alone, statements)), len(statements)),
        ("extract", "order kept"): _in_order([place[number] for number in sorted(place)]),
    }


def count_revise(reader: Reader, reply: Facts | None, verdicts: list[Verdict]) -> Counts:
    """The first that applies of: still true, another fact, subject lost; what is left is truly wrong."""
    found: list[str] = []
    for number, revision in enumerate(reply.facts if reply else []):
        if reader.is_true(number, revision):
            found.append("still true")
        elif any(other not in (number, FALSE) for other in reader.stated(revision)):
            found.append("another fact")
        elif not reader.names_subject(number, revision):
            found.append("subject lost")
        else:
            change = reader.change(number, revision)
            found.append({"negation": "bare negation", "detail": "plausible change"}.get(change, "other change"))
        _note(verdicts, reader, "revise", reader.facts[number], revision, found[-1])
    wrong = sum(verdict in ("bare negation", "plausible change", "other change") for verdict in found)
    named = ("still true", "another fact", "subject lost", "plausible change", "bare negation")
    hits = {"truly wrong": wrong, **{name: found.count(name) for name in named}}
    return {("revise", name): (count, len(reader.facts)) for name, count in hits.items()}


def count_rephrase(reader: Reader, reply: Answer | None, verdicts: list[Verdict]) -> Counts:
    """A text keeps a fact that one of its sentences tells, and adds the sentences that tell none."""
    told = reader.told(reply.answer) if reply else []
    kept = sorted(set().union(*told))
    places = [next(n for n, numbers in enumerate(told) if number in numbers) for number in kept]
    for number, fact in enumerate(reader.facts):
        if reply:
            _note(verdicts, reader, "rephrase", fact, reply.answer, "kept" if number in kept else "lost")
    return {
        ("rephrase", "facts kept"): (len(kept), len(reader.facts)),
        ("rephrase", "sentences added"): (sum(not numbers for numbers in told), len(told)),
        ("rephrase", "order kept"): _in_order(places),
    }


def count_rewrite(reader: Reader, given: list[int], reply: Pair | None, verdicts: list[Verdict]) -> Counts:
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


def _note(verdicts: list[Verdict], reader: Reader, task: str, given: str, reply: str, verdict: str) -> None:
    verdicts.append({"id": reader.id, "task": task, "given": given, "reply": reply, "verdict": verdict})
