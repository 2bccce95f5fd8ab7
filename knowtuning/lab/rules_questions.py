"""Rewrite: a fine-grained question about some facts, and the answer that consists of them."""

from __future__ import annotations

import random
import re
from collections import Counter
from typing import NamedTuple

from knowtuning.lab.rules_subjects import PERSONS, Subject, capitalise, lower_article, split_lead, subject_of
from knowtuning.lab.rules_topics import topic_of
from knowtuning.lab.rules_wording import MONTH, pronoun_for
from knowtuning.lab.rules_words import (
    ADVERBS,
    AUXILIARIES,
    BASES,
    BE,
    DETERMINERS,
    PAST,
    PREPOSITIONS,
    PRESENT,
    PRONOUNS,
    SUBORDINATORS,
    bare,
    finite_verb,
    is_adverb,
)

_FORMS = (
    "What should one know about {topic}, in particular about {aspects}?",
    "What can be said about {topic} with regard to {aspects}?",
    "With regard to {aspects}: what is known about {topic}?",
)
_DATE = re.compile(rf"\b(?:in|on|since|from|until) (?:(?:early|late) )?(?:the )?(?:(?:{MONTH})\b|\d{{4}}s?\b)")
_GOVERNING = ("refer", "consist", "depend", "derive", "serve", "relate")
_PLACES = ("located", "situated", "based", "found", "born", "held")


class Wh(NamedTuple):
    """A wh-question around its subject: direct "when was" Ana "born", indirect "when" Ana "was born"."""

    word: str
    helper: str
    verb: str
    after: str

    def direct(self, subject: str) -> str:
        """Return the question itself, without its mark."""
        return " ".join(part for part in (self.word, self.helper, subject, self.after) if part)

    def indirect(self, subject: str) -> str:
        """Return the question as a clause: "when Ana was born"."""
        return " ".join(part for part in (self.word, subject, self.verb) if part)


def rewrite_question(question: str, facts: list[str], rng: random.Random) -> str:
    """Return a question about exactly these facts.

    Up to three facts of one subject become wh-questions where their verbs allow it. Else the question names the topic
    and, for up to eight facts, the phrase that each is about; it gives no number away.

    Example:
        >>> rewrite_question("What is it?", ["The dam was built in 1931.", "The dam holds trout."], random.Random(0))
        'When was the dam built, and what does it hold?'
    """
    subjects = [subject_of(fact) for fact in facts]
    asked = [wh_question(fact, subject) for fact, subject in zip(facts, subjects, strict=True)]
    common = Counter(subject for subject in subjects if subject).most_common(1)
    if common and len(facts) <= 3 and all(asked) and common[0][1] == len(facts):
        return _direct(asked, common[0][0])
    topic = topic_of(question) or (common[0][0].text if common else "") or _about(facts[0])
    aspects: list[str] = []
    for fact, subject, wh in zip(facts, subjects, asked, strict=True):
        aspect = _aspect(fact, subject, wh, topic)
        if aspect and aspect.lower() not in {known.lower() for known in (*aspects, topic)}:
            aspects.append(aspect)
    topic = lower_article(topic) if topic else "this"
    if not aspects:
        return f"What should one know about {topic}?"
    return capitalise(rng.choice(_FORMS).format(topic=topic, aspects=_listed(aspects[:8])))


def _direct(asked: list[Wh | None], subject: Subject) -> str:
    name = subject.inner()
    short = pronoun_for(subject).lower() or name
    parts = list(dict.fromkeys(wh.direct(name if i == 0 else short) for i, wh in enumerate(asked) if wh))
    return capitalise(_listed(parts, ", and ")) + "?"


def _listed(parts: list[str], last: str = " and ") -> str:
    return last.join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else parts[0]


def wh_question(fact: str, subject: Subject | None) -> Wh | None:
    """Return the wh-question that a plain fact answers, or None where no pattern fits.

    Example:
        >>> fact = "Ana Ruiz was born in Lima."
        >>> wh_question(fact, subject_of(fact)).direct("Ana Ruiz")
        'where was Ana Ruiz born'
    """
    text = re.sub(r"\s*\([^()]*\)", "", fact.rstrip("."))
    words = text.split()
    at = finite_verb(words)
    if subject is None or at is None or not text.startswith(subject.text) or at != len(subject.text.split()):
        return None
    verb, rest = bare(words[at]), words[at + 1 :]
    if not rest or bare(rest[0]) in {"not", "no", "never"} or "'" in verb:
        return None
    if verb in BE:
        return _of_be(verb, rest, subject)
    if verb in {"has", "have", "had"}:
        helper = {"has": "does", "have": "do", "had": "did"}[verb]
        takes_object = bare(rest[0]) in DETERMINERS or rest[0][0].isdigit()
        return Wh("what", helper, verb, "have") if takes_object else None
    if verb in AUXILIARIES:
        doing = bare(rest[0]) in BASES and len(rest) > 1 and verb not in {"do", "does", "did"}
        return Wh("what", verb, f"{verb} do", "do") if doing else None
    return _of_verb(verb, rest, subject)


def _of_be(verb: str, rest: list[str], subject: Subject) -> Wh | None:
    adverbs = next((i for i, word in enumerate(rest) if not is_adverb(bare(word))), 0)
    rest = rest[adverbs:]
    first, tail = bare(rest[0]), " ".join(rest[1:])
    if first in {"a", "an", "the", "one"} or (verb in {"are", "were"} and first not in PREPOSITIONS and len(rest) < 4):
        person = subject.name and any(bare(word) in PERSONS or bare(word).endswith("ist") for word in rest[:8])
        return Wh("who" if person or subject.person else "what", verb, verb, "")
    participle = first in PAST or first.endswith("ed") or first in {"born", "known", "written", "made", "given", "held"}
    if not participle or len(rest) < 2:
        return None
    after = bare(rest[1])
    if _DATE.match(tail):
        return Wh("when", verb, f"{verb} {first}", first)
    if after == "by" and len(rest) > 2 and rest[2][0].isupper():
        return Wh("by whom", verb, f"{verb} {first}", first)
    if first in _PLACES and after in {"in", "at", "near"}:
        return Wh("where", verb, f"{verb} {first}", first)
    if after in {"to", "for", "as", "of", "from", "with"}:
        return Wh("what", verb, f"{verb} {first} {after}", f"{first} {after}")
    return None


def _of_verb(verb: str, rest: list[str], subject: Subject) -> Wh | None:
    present = verb in PRESENT or (verb in BASES and subject.many)
    helper = ("do" if subject.many else "does") if present else "did"
    base = PRESENT.get(verb, verb) if present else PAST.get(verb)
    if base is None:
        return None
    first = bare(rest[0])
    if _DATE.match(" ".join(rest)):
        return Wh("when", helper, verb, base)
    if first in {"to", "of", "from", "for", "on", "in", "as"} and base in _GOVERNING:
        return Wh("what", helper, f"{verb} {first}", f"{base} {first}")
    if first in {"in", "at", "near"} and base in {"live", "grow", "occur", "play", "study", "work", "reside", "begin"}:
        return Wh("where", helper, verb, base)
    no_object = base == "help" or first in PREPOSITIONS | SUBORDINATORS | PRONOUNS - DETERMINERS | ADVERBS | {"to"}
    return None if no_object or is_adverb(first) or first.endswith("ing") else Wh("what", helper, verb, base)


def _aspect(fact: str, subject: Subject | None, wh: Wh | None, topic: str) -> str:
    """Return what a fact is about beside the topic: its own subject, the wh-clause it answers, or its key phrase."""
    lead, _ = split_lead(fact)
    if lead and not finite_verb(lead.split()) and len(lead.split()) <= 8 and lead.lower() != topic.lower():
        return lower_article(lead)
    same = subject is not None and _same(subject.text, topic)
    if subject is not None and not same and len(subject.text.split()) <= 7:
        return subject.inner()
    if subject is not None and same and wh is not None:
        return wh.indirect(pronoun_for(subject).lower() or lower_article(topic))
    return _about(fact if subject is None else " ".join(fact.split()[len(subject.text.split()) :]))


def _same(subject: str, topic: str) -> bool:
    """Tell whether a subject is the topic, articles and letter case aside."""
    plain = [re.sub(r"^(?:the|an?) ", "", text.lower()) for text in (subject, topic)]
    return plain[0] == plain[1]


def _about(text: str) -> str:
    """Return the longest noun-like phrase of at most five words, without numbers, or an empty string."""
    small = DETERMINERS | PREPOSITIONS - {"of"} | PRONOUNS | SUBORDINATORS | AUXILIARIES | ADVERBS
    phrases: list[list[str]] = [[]]
    words = re.sub(r"[\"“”]", " ", re.sub(r"[()\[\]]", " , ", text)).rstrip(" .").split()
    for before, word in zip(["", *words], words, strict=False):
        plain = bare(word)
        verb = plain in PRESENT or plain in PAST or plain.endswith("ing") and not phrases[-1]
        verb = verb or (plain in BASES and bare(before) in {"", "to"})
        ends = (
            plain.endswith("n't")
            or plain in small | {"and", "or", "but", "not", "be", "been", "being"}
            or verb
            or is_adverb(plain)
        )
        if ends or any(char.isdigit() for char in plain) or not plain or (plain == "of" and not phrases[-1]):
            phrases.append([])
            continue
        phrases[-1].append(word.rstrip(",;:.!?"))
        if word[-1] in ",;:.!?":
            phrases.append([])
    phrases = [_whole(phrase[:5]) for phrase in phrases]
    best = max(phrases, key=lambda phrase: (len(phrase), sum(map(len, phrase))))
    return "" if len(best) == 1 and best[0].endswith("ed") else " ".join(best)


def _whole(phrase: list[str]) -> list[str]:
    return phrase[:-1] if phrase and bare(phrase[-1]) == "of" else phrase
