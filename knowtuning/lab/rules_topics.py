"""What a question asks about: the noun phrase that its answer has as a subject."""

from __future__ import annotations

import re

from knowtuning.lab.rules_sentences import split_sentences, tidy
from knowtuning.lab.rules_subjects import NO_SUBJECT
from knowtuning.lab.rules_words import BASES, BE, DETERMINERS, PREPOSITIONS, PRONOUNS, SUBORDINATORS, bare

_COPULA = re.compile(r"^(?:what|who|which|where)(?:'s| is| are| was| were)(?: \((?:are|is)\))? (.+)$", re.I)
_ABOUT = re.compile(
    r"(?:\b(?:tell me(?: \w+)? about|talk about|know about|write (?:\w+ ){0,4}about|what about|meaning of)|"
    r"^(?:describe|explain|define|discuss|summari[sz]e|list|name|suggest|recommend|give me|provide))"
    r"(?: what| who)?(?: (?:is|are))? (.+)$",
    re.I,
)
_ASKED = re.compile(
    r"^(?:(?:how|why|when|where|who|whom)(?: \w+){0,3}? |"
    r"(?:what|which)(?: \w+){0,3}? (?=do|did|can|could|should|would))?"
    r"(do|does|did|can|could|should|would|will|is|are|was|were|has|have|had|might|must) (?:be |it mean )?(.+)$",
    re.I,
)


def topic_of(question: str) -> str:
    """Return the noun phrase that a question asks about, as it stands there, or an empty string.

    Example:
        >>> topic_of("What is a digital twin?"), topic_of("Why does pollution in Delhi increase in winter?")
        ('a digital twin', 'pollution in Delhi')
        >>> topic_of("Tell me about Ana Ruiz."), topic_of("How do I keep great teeth?")
        ('Ana Ruiz', 'great teeth')
    """
    parts = split_sentences(tidy(question))
    text = next((part for part in parts if part.endswith("?")), parts[0] if parts else "")
    text = text.rstrip(" ?.!:").replace("’", "'")
    text = re.sub(r"^(?:please|given [^,]+,|in [^,]+,|can you|could you|hi|hello)[ ,]+", "", text, flags=re.I)
    if match := _ABOUT.search(text) or _COPULA.match(text):
        return _trim(match[1])
    match = _ASKED.match(text)
    if match and (words := match[2].split()):
        verb = next((i for i, word in enumerate(words) if i and bare(word) in BASES), None)
        if verb and bare(words[0]) in {"i", "you", "we", "one", "someone", "people", "they"}:
            return _trim(" ".join(words[verb + 1 :]))
        return _trim(" ".join(words[:verb]) if verb else _first_phrase(words, match[1].lower() in BE))
    match = re.match(r"^(?:what|who) \w+s (.+)$", text, re.I)
    return _trim(match[1]) if match else longest_name(text)


def _first_phrase(words: list[str], predicated: bool) -> str:
    """Return the subject of "was Ana Ruiz famous" or "is the ice smooth": the name, or the article and its noun.

    Where no form of "be" was before it (`predicated`), nothing tells where a phrase that is no name ends.
    """
    start = 1 if bare(words[0]) in DETERMINERS else 0
    size = next((i for i, word in enumerate(words[start:]) if not word[0].isupper()), len(words) - start)
    if not size and not predicated and len(words) > start + 2:
        return ""
    return " ".join(words[: start + (size or 1)])


def _trim(phrase: str) -> str:
    """Cut a topic at what no longer names it, and give up on what is no noun phrase."""
    phrase = re.sub(r"\s*\([^()]*\)", "", phrase)
    phrase = re.split(
        r"[,;:(?!]| (?:and (?:what|why|how|who|when|where)|that|which|who|if|when|so that|in order|used)\b", phrase
    )[0]
    words = re.sub(r"[\"“”]", "", phrase).split()
    while len(words) > 1 and _leads_only(words):
        words = words[1:]
    cut = next((i for i, word in enumerate(words) if i > 2 and bare(word) in PREPOSITIONS - {"of"}), len(words))
    words = words if len(words) <= 8 else words[: min(cut, 8)]
    if not words or bare(words[0]) in PRONOUNS - DETERMINERS | {"am"}:
        return longest_name(phrase)
    return " ".join(words)


def _leads_only(words: list[str]) -> bool:
    """Tell whether a phrase's first word leads up to what it names: "to go on" before "a trip"."""
    first, second = bare(words[0]), bare(words[1])
    verb = words[0].islower() and first in BASES and second in PREPOSITIONS | DETERMINERS
    return verb or first in PREPOSITIONS | SUBORDINATORS | {"some", "any", "me"}


def longest_name(text: str) -> str:
    """Return the longest run of capitalised words after the first word of a text, or an empty string."""
    runs = re.findall(r"(?<=\s)[A-Z][\w'’.-]*(?: (?:of |the |de )*[A-Z0-9][\w'’.-]*)*", text)
    runs = [run for run in runs if bare(run.split()[0]) not in NO_SUBJECT | {"how", "what"}]
    return max(runs, key=len, default="").rstrip(".").removesuffix("'s")
