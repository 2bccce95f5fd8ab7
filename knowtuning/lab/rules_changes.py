"""Revise: a statement becomes a wrong one of the same form, by its numbers, names, opposites or polarity."""

from __future__ import annotations

import random
import re

from knowtuning.lab.rules_names import KIND_OF, KINDS, NOT_PERSONS, OPPOSITES, PERSONS
from knowtuning.lab.rules_subjects import capitalise, lower_article, split_lead
from knowtuning.lab.rules_topics import longest_name, topic_of
from knowtuning.lab.rules_words import (
    AUXILIARIES,
    BASES,
    DETERMINERS,
    PAST,
    PREPOSITIONS,
    PRESENT,
    bare,
    finite_verb,
    is_adverb,
    is_imperative,
    replace_word,
)

_YEAR = re.compile(r"(?<![\w.,$€£#-])(1[0-9]\d\d|20\d\d)(?=s?\b)(?![,.]\d|%| ?(?:people|kilo|km|mi|feet|met|m\b))")
_NUMBER = re.compile(r"(?<![\w./:#-])(\d{1,3}(?:,\d{3})+|\d+)(\.\d+)?(st|nd|rd|th)?(?![\w/:]|[.,-]\w)")
_COUNTS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_COUNT = re.compile(rf"\b({'|'.join(_COUNTS)})\b")
_NAME = re.compile(r"(?<![\w\"“'’.-])[A-Z][\w’'-]*(?: (?:(?:of|the|de|von|van|la) )?[A-Z][\w’'-]*)*")
# "as long as", "no longer", "a few": the word has no opposite there; "most popular" has one, but another
_NOT_AFTER = "".join(f"(?<!{word} )" for word in ("as", "no", "so", "a", "most", "more", "least", "less"))
_OPPOSITE = {word: re.compile(rf"(?<![\w'’-]){_NOT_AFTER}{word}(?![\w'’-])") for word in OPPOSITES}
_POSITIVE = {"can't": "can", "cannot": "can", "won't": "will", "shan't": "shall"}


def revise(question: str, facts: list[str], rng: random.Random) -> list[str]:
    """Turn each fact into a wrong one: same number, same order, each unlike its original and unlike the others.

    A number, a name or a word with an opposite is changed, whichever comes first in a random order; a statement that
    has none is negated. The subject that the question asks about stays. What comes out is contrary to what was said,
    which is not always false: "winter is cold" and "winter is not always cold" may both hold.

    Example:
        >>> revise("What is the Vell?", ["The Vell was built in 1671.", "The Vell is made of brass."], random.Random(0))
        ['The Vell was built in 1686.', 'The Vell is not made of brass.']
    """
    taken = {_plain(fact) for fact in facts}
    known = [(name, fact[: fact.rindex(name)].split()[-1:]) for fact in facts for name in _names(fact, 1)]
    kept = f"{topic_of(question)} {longest_name(question)}".lower()
    revised = []
    for fact in facts:
        options = (text for _ in range(4) for text in _changed(fact, known, kept, rng))
        denied = f"It is not true that {lower_article(fact)}"
        wrong = next((text for text in (*options, negate(fact), denied) if text and _plain(text) not in taken), None)
        wrong = wrong or f"It is false that {lower_article(fact)}"
        taken.add(_plain(wrong))
        revised.append(wrong)
    return revised


def _changed(fact: str, known: list[tuple[str, list[str]]], kept: str, rng: random.Random) -> list[str | None]:
    """Return the fact with another number, another name, and an opposite, in a random order; in a list's item only."""
    lead, item = split_lead(fact)
    head = f"{lead}: " if lead and not finite_verb(item.split()) else ""
    body = fact.removeprefix(head)
    tries = [change_number(body, rng), change_name(body, known, kept, rng, item=bool(head)), change_opposite(body, rng)]
    rng.shuffle(tries)
    return [head + text if text else None for text in tries]


def _plain(text: str) -> str:
    return re.sub(r"\W+", " ", text).strip().casefold()


def change_number(fact: str, rng: random.Random) -> str | None:
    """Change one amount by a plausible step, or move all years by the same number of years; None without a number.

    Example:
        >>> change_number("He ruled from 1772 to 1795.", random.Random(0))
        'He ruled from 1787 to 1810.'
    """
    years = [int(year) for year in _YEAR.findall(fact)]
    counts = list(_COUNT.finditer(fact))
    amounts = [match for match in _NUMBER.finditer(fact) if not (match[0].isdigit() and int(match[0]) in years)]
    if years and (not amounts or rng.random() < 0.6):
        return _move_years(fact, years, rng)
    if not amounts and not counts:
        return None
    match = rng.choice([*amounts, *counts])
    new = _other_count(match[0], rng) if match in counts else _other_amount(match, fact[match.end() :], rng)
    return fact[: match.start()] + new + fact[match.end() :]


def _move_years(fact: str, years: list[int], rng: random.Random) -> str:
    """Move every year by one step, whole decades where a decade is named, and none beyond 2024."""
    step = rng.randint(1, 4) * 10 if re.search(r"\d0s\b", fact) else rng.randint(3, 29)
    step = -step if max(years) + step > 2024 or rng.random() < 0.5 else step
    return _YEAR.sub(lambda match: str(int(match[1]) + step), fact)


def _other_count(word: str, rng: random.Random) -> str:
    at = _COUNTS.index(word)
    return rng.choice([other for i, other in enumerate(_COUNTS) if 0 < abs(i - at) <= 2])


def _other_amount(match: re.Match, after: str, rng: random.Random) -> str:
    """Return another amount with as many decimals, separators and closing zeros; per cents stay within a hundred."""
    digits, decimals, ending = match[1].replace(",", ""), match[2] or "", match[3] or ""
    value = float(digits + decimals)
    if value <= 12 and not decimals:
        new = value + rng.choice([step for step in (-3, -2, -1, 1, 2, 3) if value + step >= 1])
    else:
        new = value * rng.choice((0.5, 0.6, 0.7, 1.3, 1.5, 1.8))
        if value <= 100 < new and re.match(r" ?(?:%|per ?cent)", after):
            new = value * 0.6
    if decimals:
        text = f"{new:.{len(decimals) - 1}f}"
        return text if text != digits + decimals else f"{value + 1:.{len(decimals) - 1}f}"
    zeros = 10 ** (len(digits) - len(digits.rstrip("0"))) if value else 1
    whole = max(1, round(new / zeros) * zeros)
    whole = whole if whole != value else int(value + zeros)
    text = f"{whole:,}" if "," in match[1] else str(whole)
    return text + (_ordinal(whole) if ending else "")


def _ordinal(number: int) -> str:
    return "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")


def _names(fact: str, start: int) -> list[str]:
    """Return the runs of capitalised words from a position on."""
    return [
        match[0].removesuffix("'s").removesuffix("’s").rstrip("'’")
        for match in _NAME.finditer(fact)
        if match.start() >= start
    ]


def change_name(fact: str, known: list[tuple[str, list[str]]], kept: str, rng: random.Random, item: bool) -> str | None:
    """Put another name of the same kind in place of one name of the statement; None where no name can be replaced.

    Args:
        known: names of the whole text, each with the word before it; for a name of unknown kind one of as many words
            steps in that follows the same word ("by Ruiz", "by Tolk").
        kept: what the question is about, in lower case: its names stay.
        item: the text is a list's item, which may begin with the name to change; a sentence begins with its subject.
    """
    quoted = " ".join(re.findall(r"\"[^\"]*\"|“[^”]*”", fact))
    names = [name for name in _names(fact, 0) if name.lower() not in kept and name not in quoted]
    if names and not item and fact.startswith(names[0]) and names[0] not in KIND_OF:
        names = names[1:]
    rng.shuffle(names)
    for name in names:
        word_before = fact[: fact.rindex(name)].split()[-1:]
        choices = _of_kind(name, word_before == ["the"]) or [
            other for other, before in known if before == word_before and _shape(other) == _shape(name)
        ]
        choices = [other for other in choices if other not in fact and other.lower() not in kept]
        if choices:
            return replace_name(fact, name, rng.choice(choices))
    return None


def replace_name(fact: str, name: str, new: str) -> str:
    """Replace the last occurrence of a name, and let "a" or "an" before it agree."""
    at = fact.rindex(name)
    before = fact[:at]
    if match := re.search(r"\b([Aa])n? $", before):
        before = before[: match.start()] + match[1] + ("n " if new[0] in "AEIO" else " ")
    return before + new + fact[at + len(name) :]


def _of_kind(name: str, the: bool) -> tuple[str, ...]:
    """Return the names of the same kind, or people where a name of two or three words looks like one's."""
    if name in KIND_OF:
        return KINDS[KIND_OF[name]]
    words = name.split()
    alike = 2 <= len(words) <= 3 and all(word.isalpha() and word[0].isupper() and not word.isupper() for word in words)
    return PERSONS if alike and not the and not {word.lower() for word in words} & NOT_PERSONS else ()


def _shape(name: str) -> tuple[int, bool, bool]:
    return len(name.split()), name.isupper(), name in KIND_OF


def change_opposite(fact: str, rng: random.Random) -> str | None:
    """Put the opposite of one word in its place; None where no word has a known opposite."""
    quoted = " ".join(re.findall(r"\"[^\"]*\"|“[^”]*”", fact)).lower()
    # neither both sides of a contrast nor a measure ("102 metres high")
    barred = re.findall(r"\d [a-z]+ ([a-z]+)", fact)
    found = [
        word
        for word, pattern in _OPPOSITE.items()
        if pattern.search(fact) and word not in quoted and word not in barred
        if not re.search(rf"\b{OPPOSITES[word]}\b", fact.lower())
    ]
    if not found:
        return None
    word = rng.choice(found)
    return replace_word(_OPPOSITE[word], OPPOSITES[word], fact, count=1)


def negate(fact: str) -> str | None:
    """Turn a statement's or an instruction's polarity; None where its verb is not found.

    Example:
        >>> negate("Rust, of course."), negate("Rust covers iron."), negate("Do not touch it.")
        (None, 'Rust does not cover iron.', 'Touch it.')
    """
    lead, item = split_lead(fact)
    if lead and not finite_verb(item.split()):
        return f"{lead}: not {lower_article(item)}"
    words = fact.split()
    if re.match(r"(?:do not|don['’]t|never) \w", fact, re.I):
        return capitalise(" ".join(words[2 if bare(words[0]) == "do" else 1 :]))
    # "Use the oil that is left" instructs although it holds a verb; "Support for it comes from …" does not
    governs = len(words) > 1 and bare(words[0]) in BASES and bare(words[1]) in DETERMINERS
    if is_imperative(words) and (governs or finite_verb(words) is None):
        return f"Do not {words[0][0].lower()}{words[0][1:]} {' '.join(words[1:])}"
    at = finite_verb(words)
    if at is None:
        return None
    changed = _negated(words, at)
    return " ".join(changed) if changed else None


def _negated(words: list[str], at: int) -> list[str] | None:
    before, word, rest = words[:at], words[at].replace("’", "'"), words[at + 1 :]
    verb, after = bare(word), bare(rest[0]) if rest else ""
    if verb.endswith("n't") or verb == "cannot":
        positive = _POSITIVE.get(verb, verb.removesuffix("n't"))
        return [*before, positive.capitalize() if word[0].isupper() else positive, *rest]
    if after in {"not", "never"}:
        return [*before, word, *rest[1:]]
    if verb.endswith("'ll"):
        return [*before, word[:-3], "will", "not", *rest]
    if "'" in verb:
        return [*before, word, "not", *rest]
    if after == "no":
        return [*before, word, *rest[1:]]
    if before and bare(before[-1]) == "there" and after in {"a", "an", "some", "many", "several"}:
        return [*before, word, "no", *rest[1:]]
    if verb in {"can", "may", "might"}:
        return [*before, "cannot", *(rest[1:] if after == "also" else rest)]
    if after == "also":
        return _negated([*before, word, *rest[1:]], at)
    if verb in {"has", "have", "had"} and not _participle(after, rest):
        return [*before, {"has": "does", "have": "do", "had": "did"}[verb], "not", "have", *rest]
    if verb in AUXILIARIES:
        return [*before, word, "not", *rest]
    helper, base = _helper(verb)
    return [*before, helper, "not", base, *rest] if base else None


def _participle(after: str, rest: list[str]) -> bool:
    if is_adverb(after) and len(rest) > 1:
        after = bare(rest[1])
    return after in {"been", "had", "become", "made"} or after in PAST or after.endswith(("ed", "wn", "en"))


def _helper(verb: str) -> tuple[str, str | None]:
    if verb in PRESENT:
        return "does", PRESENT[verb]
    if verb in PAST:
        return "did", PAST[verb]
    return "do", verb if verb in BASES and verb not in DETERMINERS | PREPOSITIONS else None
