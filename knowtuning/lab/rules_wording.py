"""Rephrase: the same facts in the same order, in other words and as running text."""

from __future__ import annotations

import random
import re

from knowtuning.lab.rules_subjects import Subject, capitalise, lower_article, subject_of
from knowtuning.lab.rules_words import (
    DETERMINERS,
    PREPOSITIONS,
    PRONOUNS,
    SUBORDINATORS,
    bare,
    finite_verb,
    is_imperative,
    replace_word,
    word_set,
)

CONTRACTED = {
    r"\bcan['’]t\b": "cannot",
    r"\bwon['’]t\b": "will not",
    r"(?<=\w)n['’]t\b": " not",
    r"\b(it|he|she|that|there)['’]s (?=a |an |the |not |very |important|known|called)": r"\1 is ",
    r"\b(it|he|she|that|there)['’]s (?=been )": r"\1 has ",
    r"(?<=\w)['’]re\b": " are",
    r"(?<=\w)['’]ve\b": " have",
    r"(?<=\w)['’]ll\b": " will",
    r"\bI['’]m\b": "I am",
}
# Only pairs that mean the same nearly everywhere; a number stands for itself in (?=\d).
SYNONYMS = {
    "because of": "owing to",
    "due to": "because of",
    "in order to": "so as to",
    "such as": "including",
    "also known as": "also called",
    "located in": "situated in",
    r"(?:approximately|about|around) (?=\d)": "roughly ",
    r"over (?=\d)": "more than ",
    "at least (?=\\d)": "no fewer than ",
    r"(?<!how )(?<!as )(?<!so )(?<!too )many (?!of|a\b|more|other)": "numerous ",
    "often": "frequently",
    "usually": "generally",
    "typically": "normally",
    "commonly": "frequently",
    "primarily": "mainly",
    "mainly": "chiefly",
    "several": "a number of",
    "important": "significant",
    "begins": "starts",
    "began": "started",
    "shows": "displays",
    "allows": "permits",
    "requires": "calls for",
    "consists of": "is made up of",
    "includes": "comprises",
    "famous": "well known",
    "quickly": "rapidly",
    "rapidly": "quickly",
    "entire": "whole",
    "large": "big",
    "throughout": "all through",
    "during": "in the course of",
    "needs to": "has to",
    "need to": "have to",
    "originally": "at first",
    "currently": "at present",
    "eventually": "in the end",
    "difficult": "hard",
    "for example": "for instance",
    r"e\.g\.": "for example",
    "types of": "kinds of",
    "type of": "kind of",
    "utilize": "use",
    "purchase": "buy",
    "obtain": "get",
    "each year": "every year",
    "wide range of": "broad range of",
    "is considered (?=an? |the )": "is regarded as ",
    "was considered (?=an? |the )": "was regarded as ",
    "percent": "per cent",
}
_WORDING = [
    *((re.compile(pattern), new) for pattern, new in CONTRACTED.items()),
    *(
        (re.compile(rf"(?<![\w'’-]){pattern}(?![\w'’-])" if pattern[-1].isalpha() else rf"\b{pattern}"), new)
        for pattern, new in SYNONYMS.items()
    ),
]
MONTH = "January|February|March|April|May|June|July|August|September|October|November|December"
_DATED = re.compile(rf"^([^,;:()]+) ((?:in|on) (?:(?:{MONTH})(?: \d{{1,2}},?)? )?\d{{4}})\.$")
_CONNECTIVES = ("In addition", "Moreover", "Furthermore", "What is more", "Besides")
_NEVER_FIRST = word_set("however therefore thus also finally first second third then next for in additionally")


def rephrase(facts: list[str], rng: random.Random) -> str:
    """Say every fact, in the order given, in other words: contractions, synonyms, order in the sentence, joining.

    Names, numbers and everything inside quotation marks stay as they are.

    Example:
        >>> rephrase(["The dam was built in 1931.", "The dam often leaks.", "It's a famous sight."], random.Random(1))
        'In 1931, the dam was built. It frequently leaks. It is a well known sight.'
    """
    return _running([_fronted(_reworded(fact, rng), rng) for fact in facts], rng)


def fluent(facts: list[str]) -> str:
    """Join facts into running text without touching their words; only repeated subjects become pronouns.

    Example:
        >>> fluent(["The dam leaks.", "The dam is old.", "Parts: a wall.", "Parts: a gate."])
        'The dam leaks. It is old. Parts: a wall; a gate.'
    """
    return _running(facts, None)


def _reworded(fact: str, rng: random.Random) -> str:
    """Reword what stands outside quotation marks; two rules never work on the same words."""
    pieces = re.split(r"(\"[^\"]*\"|“[^”]*”)", fact)
    for at in range(0, len(pieces), 2):
        done: list[str] = []
        for pattern, new in _WORDING:
            if any(re.search(pattern, old) for old in done) or not pattern.search(pieces[at]) or rng.random() < 0.2:
                continue
            pieces[at] = replace_word(pattern, new, pieces[at])
            done.append(new)
    return capitalise("".join(pieces))


def _fronted(fact: str, rng: random.Random) -> str:
    """Put a closing date in front: "The dam was built in 1931." becomes "In 1931, the dam was built."."""
    match = _DATED.match(fact)
    if not match or rng.random() < 0.3:
        return fact
    words = match[1].split()
    verb = finite_verb(words)
    if (
        not verb
        or len(words) > 18
        or bare(words[0]) in PREPOSITIONS | SUBORDINATORS
        or bare(words[verb]) in {"is", "are"}
    ):
        return fact
    participle = bare(words[-1]).endswith(("ed", "en")) and len(words) - 1 - verb > 1
    if participle or bare(words[-1]) in DETERMINERS or not starts_small(fact):
        return fact
    return f"{capitalise(match[2])}, {lower_article(match[1])}."


def starts_small(text: str) -> bool:
    """Tell whether a sentence can follow a comma: its first word is of a closed class, or plainly a name."""
    words = text.split()
    first = words[0]
    if first.lower() in DETERMINERS | PREPOSITIONS | SUBORDINATORS | PRONOUNS:
        return True
    return len(words) > 1 and first[0].isupper() and words[1][0].isupper() and not is_imperative(words)


def _running(facts: list[str], rng: random.Random | None) -> str:
    """Join facts into text: lists under one lead, pronouns for repeated subjects and, with `rng`, longer sentences."""
    sentences: list[str] = []
    last: Subject | None = None
    joined = False
    for fact in facts:
        lead, colon, item = fact.partition(": ")
        if colon and sentences and sentences[-1].startswith(f"{lead}: "):
            sentences[-1] = f"{sentences[-1].rstrip('.')}; {item}"
            continue
        subject = None if colon else subject_of(fact)
        same = last is not None and subject == last and fact.startswith(last.text)
        rest = fact[len(last.text) :].strip() if same else ""
        if same and rng and not joined and _joins(sentences[-1], rest) and rng.random() < 0.6:
            sentences[-1] = f"{sentences[-1].rstrip('.')} and {rest}"
            joined = True
        else:
            text = (
                f"{pronoun_for(subject)} {rest}"
                if same and pronoun_for(subject) and finite_verb(["it", *rest.split()]) == 1
                else fact
            )
            sentences.append(_connected(text, rng) if rng and sentences and not joined else text)
            joined = False
        last = subject
    return " ".join(sentences)


def pronoun_for(subject: Subject) -> str:
    """Return "It" or "They" for a thing or things, nothing for what may be a person."""
    if subject.many:
        return "They"
    return "" if subject.name or subject.person else "It"


def _joins(sentence: str, rest: str) -> bool:
    """Tell whether "and" may join a sentence with a further predicate: both are short, and neither has an "and"."""
    verb = finite_verb(["it", *rest.split()])
    short = len(sentence.split()) + len(rest.split()) <= 26
    return short and verb == 1 and not re.search(r"\band\b|[;:]|\b(?:who|which|that|if|when)\b", f"{sentence} {rest}")


def _connected(sentence: str, rng: random.Random) -> str:
    first = bare(sentence.split()[0])
    if rng.random() < 0.7 or first in _NEVER_FIRST | SUBORDINATORS or not starts_small(sentence):
        return sentence
    if finite_verb(sentence.split()) is None or is_imperative(sentence.split()):
        return sentence
    return f"{rng.choice(_CONNECTIVES)}, {lower_article(sentence)}"
