"""FactTune: prefer the answer of higher estimated factuality (Tian et al. 2023, section 3)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from knowtuning.baselines.samples import ask, couples, different, evenly, preference
from knowtuning.data.sentences import sentences
from knowtuning.teacher.client import Teacher
from knowtuning.teacher.prompts import EXTRACT, REWRITE, VERIFY, Task
from knowtuning.training.generate import generate

ASPECT = "factuality reward"

Scored = list[list[dict]]  # rows {"answer", "facts", "reward", …}, one list per sample, one row per answer


def fact_scores(
    teacher: Teacher, samples: Sequence[dict], references: Mapping[str, str]
) -> tuple[Scored, dict[str, int]]:
    """Reward FS: the share of an answer's facts that the reference supports (Tian et al., section 3, reference-based).

    It is FActScore without its penalty for short answers; a training answer (`references`, by id) stands where Tian et
    al. have a page of Wikipedia. An answer without facts, or whose facts could not be verified, has no reward.

    Returns:
        For each sample `{"id", "question", "answers"}` a row `{"answer", "facts", "verdicts", "reward"}` per answer,
        the reward from 0 to 1 or None, and counts: answers, those without facts (empty, or nothing extracted), facts,
        those supported, contradicted and not in the reference, and answers not verified. What two answers share counts
        twice.
    """
    facts, counts = _facts(teacher, samples)
    requests = {}
    for sample, listed in zip(samples, facts, strict=True):
        for own in filter(None, listed):
            about = {"question": sample["question"], "reference": references[sample["id"]], "facts": own}
            requests.setdefault((sample["id"], *own), (f"{sample['id']}.{len(requests)}", about))
    replies = _replies(teacher, VERIFY, requests)
    scored: Scored = [[] for _ in samples]
    for sample, listed, rows in zip(samples, facts, scored, strict=True):
        for answer, own in zip(sample["answers"], listed, strict=True):
            reply = replies.get((sample["id"], *own))
            verdicts = reply.verdicts if reply else []
            reward = verdicts.count("supported") / len(verdicts) if verdicts else None
            rows.append({"answer": answer, "facts": own, "verdicts": verdicts, "reward": reward})
    every = [row for rows in scored for row in rows]
    verdicts = Counter(verdict for row in every for verdict in row["verdicts"])
    counts |= {name: verdicts[name] for name in ("supported", "contradicted", "not in reference")}
    return scored, counts | {"not verified": sum(bool(row["facts"]) and row["reward"] is None for row in every)}


def confidences(
    teacher: Teacher,
    model: Any,
    tokenizer: Any,
    samples: Sequence[dict],
    times: int = 20,
    max_new_tokens: int = 48,
    batch_size: int = 256,
    seed: int = 0,
) -> tuple[Scored, dict[str, int]]:
    """Reward MC: how sure the model is of an answer's facts, on average (Tian et al., section 3, reference-free).

    The teacher turns each fact into a question, the model answers it `times` times (temperature 1, top_p 0.9), and the
    share of the answer given most often is its confidence. Answers are equal by `normal`. No reference is needed.

    Args:
        model: the one whose confidence is asked for; best one that answers in a single sentence (Tian et al. show the
            base examples of short answers), as one that always tells all it knows hardly agrees with itself.
        max_new_tokens: room for the first sentence, which alone is compared.

    Returns:
        For each sample a row `{"answer", "facts", "confidences", "reward"}` per answer, confidences None for facts
        without a question, the reward their mean over the others (0 to 1) or None, and counts: answers, those without
        facts, facts, those without a question, distinct questions, and answers sampled to them.
    """
    if times < 2:
        raise ValueError(f"times is {times}; agreement needs at least two sampled answers.")
    facts, counts = _facts(teacher, samples)
    requests = {}
    for sample, listed in zip(samples, facts, strict=True):
        for fact in (fact for own in listed for fact in own):
            about = {"question": sample["question"], "facts": [fact]}
            requests.setdefault((sample["question"], fact), (f"{sample['id']}.fact {len(requests)}", about))
    questions = {key: reply.question for key, reply in _replies(teacher, REWRITE, requests).items() if reply}
    distinct = list(dict.fromkeys(questions.values()))
    repeated = [question for question in distinct for _ in range(times)]
    replies = generate(model, tokenizer, repeated, "nucleus", max_new_tokens, batch_size, seed) if repeated else []
    texts = [reply["answer"] for reply in replies]
    modal = {question: modal_count(texts[n * times : (n + 1) * times]) for n, question in enumerate(distinct)}
    scored: Scored = [[] for _ in samples]
    for sample, listed, rows in zip(samples, facts, scored, strict=True):
        for answer, own in zip(sample["answers"], listed, strict=True):
            counted = [modal.get(questions.get((sample["question"], fact))) for fact in own]
            agreed = [count for count in counted if count is not None]
            # whole numbers first, so that equal means are equal whatever the order of the facts
            reward = sum(agreed) / (times * len(agreed)) if agreed else None
            sure = [None if count is None else count / times for count in counted]
            rows.append({"answer": answer, "facts": own, "confidences": sure, "reward": reward})
    return scored, counts | {
        "facts without a question": sum(row["confidences"].count(None) for rows in scored for row in rows),
        "distinct questions": len(distinct),
        "sampled answers": len(texts),
    }


def pairs(
    samples: Sequence[dict], rewards: Scored, limit: int, seed: int = 0
) -> tuple[list[dict], dict[str, int | float]]:
    """All pairs of answers to one question whose rewards differ, the higher one preferred.

    Args:
        rewards: of these samples, as `fact_scores` and `confidences` return them.
        limit: how many pairs are kept, drawn evenly over the questions by the seed.

    Returns:
        Pairs `{"id", "question", "chosen", "rejected", "aspect", "rewards"}`, rewards of both sides in this order, and
        counts: candidates (pairs of different answers), those without a reward on either side, ties, strict ones, and
        pairs kept.
    """
    if limit < 1:
        raise ValueError(f"limit is {limit}; ask for at least one pair.")
    groups, candidates, rewarded = [], 0, 0
    for sample, rows in zip(samples, rewards, strict=True):
        value = [row["reward"] for row in rows]
        every = couples(sample["answers"])
        both = [(a, b) for a, b in every if value[a] is not None and value[b] is not None]
        strict = [(a, b) if value[a] > value[b] else (b, a) for a, b in both if value[a] != value[b]]
        candidates, rewarded = candidates + len(every), rewarded + len(both)
        groups.append((f"facttune {sample['id']}", strict))
    drawn = evenly(groups, seed)
    made = [
        preference(samples[place], *sides, ASPECT) | {"rewards": [rewards[place][side]["reward"] for side in sides]}
        for place, sides in drawn[:limit]
    ]
    return made, {
        "candidates": candidates,
        "without a reward": candidates - rewarded,
        "ties": rewarded - len(drawn),
        "strict": len(drawn),
        "pairs": len(made),
    }


def normal(answer: str) -> str:
    """The first sentence of an answer without case, spacing and punctuation: what a question about one fact asks for.

    >>> normal("It was built  in 1671. Few know it.") == normal("it was built in 1671")
    True
    """
    first = next((sentence.text for sentence in sentences(answer)), "")
    return " ".join(re.findall(r"\w+", first.casefold()))


def modal_count(answers: Sequence[str]) -> int:
    """How many of the answers are the one given most often; an empty answer agrees with nothing.

    >>> modal_count(["Tar.", "tar", "Tea.", ""])
    2
    """
    return max(Counter(filter(None, map(normal, answers))).values(), default=0)


def _facts(teacher: Teacher, samples: Sequence[dict]) -> tuple[list[list[list[str]]], dict[str, int]]:
    """The facts of every answer, none where it is empty or the teacher found none, and what was counted."""
    requests = {}
    for sample in samples:
        for place in different(sample["answers"]):
            answer = sample["answers"][place].strip()
            about = {"question": sample["question"], "answer": answer}
            requests.setdefault((sample["question"], answer), (f"{sample['id']}.{place}", about))
    known = {key: reply.facts for key, reply in _replies(teacher, EXTRACT, requests).items() if reply}
    facts = [[known.get((row["question"], answer.strip()), []) for answer in row["answers"]] for row in samples]
    listed = [own for answers in facts for own in answers]
    return facts, {"answers": len(listed), "without facts": listed.count([]), "facts": sum(map(len, listed))}


def _replies(teacher: Teacher, task: Task, requests: dict) -> dict:
    """Replies by the keys of `requests`, whose values are requests; equal requests share a key."""
    return dict(zip(requests, ask(teacher, task, list(requests.values())), strict=True))
