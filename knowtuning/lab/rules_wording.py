"""Rephrase: the same facts in the same order, in other words and as running text."""

from __future__ import annotations

import random
import re

from knowtuning.lab.rules_names import KIND_OF
from knowtuning.lab.rules_subjects import Subject, capitalise, lower_article, split_lead, subject_of
from knowtuning.lab.rules_words import (
    DETERMINERS,
    PREPOSITIONS,
    SUBJECT_PRONOUNS,
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
    "such as": "like",
    "also known as": "also called",
    "located in": "situated in",
    r"(?:approximately|about|around) (?=\d)": "roughly ",
    r"over (?=\d)": "more than ",
    "at least (?=\\d)": "no fewer than ",
    r"(?<!how )(?<!as )(?<!so )(?<!too )(?<!the )many (?=(?!other)(?:\w+ )?\w{3,}s\b)": "numerous ",
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
    "provides": "offers",
    "provide": "offer",
    "creates": "produces",
    "ensure that": "make sure that",
    "make sure to": "take care to",
    "keep in mind": "bear in mind",
    "try to": "attempt to",
    "start with": "begin with",
    "choose": "select",
    "happens": "occurs",
    "occurs": "happens",
    "reduces": "lowers",
    "amount of": "quantity of",
    "a lot of": "lots of",
    "especially": "particularly",
    "particularly": "especially",
    "almost": "nearly",
    "nearly": "almost",
    "so that": "in such a way that",
    "well-known": "famous",
    "buy": "purchase",
    "maybe": "perhaps",
    "(?<=you )must": "have to",
    r"should (?!not|also|only|\w+ly\b|you|he|it|they|we|i\b|the|an?\b|(?-i:[A-Z]))": "ought to ",
    "want to": "wish to",
    "wants to": "wishes to",
    "as well as": "along with",
    "made up of": "composed of",
    r"each (?=\w+ )(?!of|other|with|is|are|has)": "every ",
    r"(?<!a )(?<!the )(?<!\w\wy )different (?=\w{3,}s\b)": "various ",
    "is used to": "serves to",
    "is used for": "serves for",
    "is known as": "goes by the name of",
    "main": "principal",
    "huge": "enormous",
    "beautiful": "lovely",
    "therefore": "for this reason",
}
_WORDING = [
    *((re.compile(pattern, re.I), new) for pattern, new in CONTRACTED.items()),
    *(
        (re.compile(rf"(?<![\w'’-]){pattern}" + (r"(?![\w'’-])" if pattern[-1].isalpha() else ""), re.I), new)
        for pattern, new in SYNONYMS.items()
    ),
]
MONTH = "January|February|March|April|May|June|July|August|September|October|November|December"
_DATED = re.compile(rf"^([^,;:()]+) ((?:in|on) (?:(?:{MONTH})(?: \d{{1,2}},?)? )?\d{{4}})\.$")
_CONDITION = re.compile(r"^(If|When|Because|Although|Unless|After|Before) ([^,;:()]+), (?:then )?([^,;:()]+)\.$")
_REASON = re.compile(r"^([^,;:()]+) (if|when|because|although|unless) ([^,;:()]+)\.$")
_OPENING = re.compile(r"^((?:In|On|At|During|After|Before|With|By) [^,;:()]{3,40}), ([^,;:()]+)\.$")
_ALSO = re.compile(r"^([^,;:()]{1,50}?) also (?!known|called|referred|named)")
_CONNECTIVES = ("In addition", "Moreover", "Furthermore", "What is more", "Besides")
_NEVER_FIRST = word_set("however therefore thus also finally first second third then next for in additionally")


def rephrase(facts: list[str], rng: random.Random) -> str:
    """Say every fact, in the order given, in other words: contractions, synonyms, order in the sentence, joining.

    Names, numbers and everything inside quotation marks stay as they are.

    Example:
        >>> rephrase(["The dam was built in 1931.", "The dam often cracks.", "It's a famous sight."], random.Random(5))
        'In 1931, the dam was built. The dam frequently cracks. Besides, it is a well known sight.'
    """
    return _running([_reordered(_reworded(fact, rng), rng) for fact in facts], rng)


def fluent(facts: list[str]) -> str:
    """Join facts into running text without touching their words; only repeated subjects become pronouns.

    Example:
        >>> fluent(["The dam was built badly.", "The dam is old.", "Parts: a wall.", "Parts: a gate."])
        'The dam was built badly. It is old. Parts: a wall; a gate.'
    """
    return _running(facts, None)


def _reworded(fact: str, rng: random.Random) -> str:
    """Reword what stands outside quotation marks; two rules never work on the same words."""
    pieces = re.split(r"(\"[^\"]*\"|“[^”]*”)", fact)
    for at in range(0, len(pieces), 2):
        done: list[str] = []
        for pattern, new in _WORDING:
            if any(pattern.search(old) for old in done) or not pattern.search(pieces[at]):
                continue
            if "'" not in pattern.pattern and rng.random() < 0.2:
                continue
            pieces[at] = replace_word(pattern, new, pieces[at])
            done.append(new)
    return capitalise("".join(pieces))


def _reordered(fact: str, rng: random.Random) -> str:
    """Move a date or an "also" to the front, or a condition to the end; most facts have none and stay."""
    if rng.random() < 0.25:
        return fact
    if match := _CONDITION.match(fact):
        clause = finite_verb(match[3].split())
        if clause and bare(match[3].split()[0]) not in SUBJECT_PRONOUNS | {"this", "these", "that", "do", "make"}:
            return f"{capitalise(match[3])} {match[1].lower()} {lower_article(match[2])}."
    if (match := _ALSO.match(fact)) and starts_small(fact) and finite_verb(fact.split()):
        return f"In addition, {lower_article(match[1])} {fact[match.end() :]}"
    if (match := _REASON.match(fact)) and starts_small(fact) and _two_clauses(match[1], match[3]):
        return f"{capitalise(match[2])} {match[3]}, {lower_article(match[1])}."
    if (match := _OPENING.match(fact)) and len(match[2].split()) <= 14 and finite_verb(match[2].split()):
        return f"{capitalise(match[2])} {lower_article(match[1])}."
    return _fronted(fact)


def _two_clauses(main: str, condition: str) -> bool:
    """Tell whether both sides of a conjunction are plain clauses, so that they may change places."""
    holds = re.search(
        r"\b(?:that|who|which|whether|how|what|if|when|because|and|to|even|only|just|is|not|\w+ly)$", main
    )
    plain = not re.search(r"\b(?:and|but|that|who|which|whether|than)\b", main)
    return plain and not holds and bool(finite_verb(main.split())) and bool(finite_verb(condition.split()))


def _fronted(fact: str) -> str:
    """Put a closing date in front: "The dam was built in 1931." becomes "In 1931, the dam was built."."""
    match = _DATED.match(fact)
    words = match[1].split() if match else []
    verb = finite_verb(words)
    if not match or not verb or len(words) > 18 or not starts_small(fact) or bare(words[verb]) in {"is", "are"}:
        return fact
    # "was a film released in 1931": the date belongs to the participle, unless it is the sentence's own
    participle = bare(words[-1]).endswith(("ed", "en")) and len(words) - 1 - verb > 1
    if participle or bare(words[-1]) in DETERMINERS or bare(words[0]) in PREPOSITIONS | SUBORDINATORS:
        return fact
    return f"{capitalise(match[2])}, {lower_article(match[1])}."


def starts_small(text: str) -> bool:
    """Tell whether a sentence can follow a comma: its first word can be written small, or is plainly a name."""
    words = text.split()
    if lower_article(text) != text or words[0] in KIND_OF:
        return True
    return len(words) > 1 and words[0][0].isupper() and words[1][0].isupper() and not is_imperative(words)


def _running(facts: list[str], rng: random.Random | None) -> str:
    """Join facts into text: lists under one lead, pronouns for repeated subjects and, with `rng`, longer sentences."""
    sentences: list[str] = []
    last: Subject | None = None
    joined = False
    for fact in facts:
        lead, item = split_lead(fact)
        if lead and sentences and sentences[-1].startswith(f"{lead}: "):
            sentences[-1] = f"{sentences[-1].rstrip('.')}; {item}"
            continue
        subject = None if lead else subject_of(fact)
        same = last is not None and subject == last and fact.startswith(last.text)
        rest = fact[len(last.text) :].strip() if same else ""
        if same and rng and not joined and _joins(sentences[-1], rest) and rng.random() < 0.6:
            sentences[-1] = f"{sentences[-1].rstrip('.')} and {rest}"
            joined = True
        elif rng and sentences and not same and not joined and _pairs(sentences[-1], fact) and rng.random() < 0.5:
            sentences[-1] = f"{sentences[-1].rstrip('.')}, and {lower_article(fact)}"
            joined = True
        else:
            pronoun = pronoun_for(subject) if same and finite_verb(["it", *rest.split()]) == 1 else ""
            text = f"{pronoun} {rest}" if pronoun else fact
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


def _pairs(sentence: str, fact: str) -> bool:
    """Tell whether ", and" may join two short statements about different things."""
    both = [sentence.split(), fact.split()]
    plain = not re.search(r"[,;:()]|\b(?:and|but|if|when|because)\b", f"{sentence} {fact}")
    clauses = all(finite_verb(words) and len(words) <= 14 for words in both)
    return plain and clauses and starts_small(fact) and bare(both[1][0]) not in _NEVER_FIRST


def _connected(sentence: str, rng: random.Random) -> str:
    first = bare(sentence.split()[0])
    if rng.random() < 0.7 or first in _NEVER_FIRST | SUBORDINATORS or not starts_small(sentence):
        return sentence
    if finite_verb(sentence.split()) is None or is_imperative(sentence.split()):
        return sentence
    return f"{rng.choice(_CONNECTIVES)}, {lower_article(sentence)}"
