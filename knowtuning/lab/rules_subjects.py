"""What a sentence is about, which name a leading pronoun stands for, and how a phrase moves within a sentence."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from knowtuning.lab.rules_names import KIND_OF
from knowtuning.lab.rules_words import (
    BASES,
    DETERMINERS,
    PAST,
    PREPOSITIONS,
    PRESENT,
    PRONOUNS,
    SUBORDINATORS,
    bare,
    finite_verb,
    is_adverb,
    plural,
    word_set,
)

TITLES = word_set(
    "mr mrs ms dr sir lady lord king queen prince princess professor president general saint pope emperor judge captain"
)
PERSONS = word_set(
    "man woman boy girl person king queen actor actress author writer singer player doctor teacher president leader "
    "artist scientist poet painter founder father mother son daughter brother sister character emperor wife husband"
)
_INTRO = re.compile(
    r"^(?:([A-Za-z]\w*(?: [^,;]{1,60})?), |((?:In|By|Since) (?:\w+ )?\d{4}) )"
    r"(it|they|he|she|its|their|his|her)\b(?! ?')"
)
_EXPLETIVE = re.compile(
    r"^it (?:takes|took|seems|seemed|appears|depends|says|rains|turns out|turned out|does not matter|happens)\b|"
    r"^it(?:'s| is| was| (?:can|may|could|would|will|might) be| has been| helps)"
    r"(?: also| not| \w+ly| always| often| quite| very| more| most| a| the)*"
    r" (?:important|necessary|possible|common|good|better|best|hard|easy|easier|difficult|essential|recommended|likely|"
    r"said|believed|thought|estimated|reported|clear|true|up|time|worth|useful|helpful|because|crucial|critical|advised|"
    r"vital|impossible|unlikely|idea|rare|safe|wise|legal|illegal|normal|to|that|when|if|who|how|\w+ that)\b|"
    r"^it (?:is|was) (?:in|on|at|during|not until) .* that ",
    re.I,
)
# Siamese, Danish, Bavarian, Korean: adjectives made of names keep their capital
_ADJECTIVE = re.compile(r"(?:ese|[^aeiou]ish|ian|ean)s?$")
NO_SUBJECT = PRONOUNS - DETERMINERS | PREPOSITIONS | SUBORDINATORS | word_set("another others both all other")
_VAGUE = word_set("one reason way ways thing number examples example difference list options some most many")


@dataclass(frozen=True)
class Subject:
    """A noun phrase that can stand in place of a pronoun.

    `many`: it is plural; `name`: it is a proper name without article; `person`: it is known to be a person.
    """

    text: str
    many: bool = field(compare=False)
    name: bool
    person: bool

    @classmethod
    def of(cls, words: list[str], verb: str = "") -> Subject | None:
        """Judge a noun phrase; None when it is no plain one: a clause, a list, a pronoun, more than eight words.

        `verb` is the verb that follows; it says more about the number than a noun's ending does.
        """
        if not words or not all(words) or len(words) > 8 or words[0][0] in "\"'“(":
            return None
        first, inner = bare(words[0]), [bare(word) for word in words]
        if first in NO_SUBJECT or words[0][0].isdigit():
            return None
        if first in DETERMINERS and len(words) == 1 or any(re.search(r"[,;:\"]", word) for word in words):
            return None
        if set(inner) & {"who", "which", "what", "or", "than", "not"} or not re.search(r"\w", words[-1]):
            return None
        head_at = next((i for i, word in enumerate(inner) if i and word in PREPOSITIONS), len(inner)) - 1
        head = inner[head_at]
        if inner[-1] in PREPOSITIONS or head in _VAGUE:
            return None
        text = " ".join(words)
        name = all(word[0].isupper() or bare(word) in {"of", "the", "and", "de", "von", "van"} for word in words)
        name = name and first not in DETERMINERS
        many = "and" in inner[: head_at + 1] or (plural(head) and text not in KIND_OF)
        if verb in PRESENT or verb in {"is", "was", "has", "does"}:
            many = False
        elif verb in BASES - PAST.keys() or verb in {"are", "were", "have", "do"}:
            many = True
        return cls(text, many, name, first in TITLES or head in PERSONS)

    def fits(self, pronoun: str) -> bool:
        """Tell whether the pronoun may stand for this phrase, by number and by what is known of persons."""
        if pronoun in {"they", "their"}:
            return self.many
        if pronoun in {"it", "its"}:
            return not self.many and not self.person
        a_name = self.name and self.text not in KIND_OF and len(self.text.split()) <= 5
        return not self.many and (self.person or a_name)

    def inner(self) -> str:
        """Return the phrase as the middle of a sentence has it: "People" alone is no name, "Texas" is one."""
        common = self.many and " " not in self.text and self.text not in KIND_OF and self.text[1:].islower()
        return self.text.lower() if common and not _ADJECTIVE.search(self.text) else lower_article(self.text)

    def possessive(self) -> str:
        """Return the phrase's possessive form."""
        return self.text + ("'" if self.many and self.text.endswith("s") else "'s")


@dataclass
class Subjects:
    """The subjects met so far in an answer; a pronoun goes to the nearest that fits, then to the question's topic."""

    topic: Subject | None
    seen: list[Subject] = field(default_factory=list)

    def note(self, sentence: str) -> Subject | None:
        """Remember the subject of a sentence, where it has a plain one, and return it."""
        subject = subject_of(sentence)
        if subject:
            self.seen.append(subject)
        return subject

    def _nearest(self, pronoun: str) -> Subject | None:
        candidates = [*reversed(self.seen[-2:]), self.topic]
        return next((subject for subject in candidates if subject and subject.fits(pronoun.lower())), None)

    def resolve(self, sentence: str) -> str:
        """Put a name in place of a pronoun at the sentence's start, or after its opening phrase, where one is known.

        Example:
            >>> Subjects(Subject.of(["Rust"])).resolve("In humid air, it grows.")
            'In humid air, Rust grows.'
        """
        match = re.match(r"(it|they|he|she|its|their|his|her)\b(?!-)", sentence, re.I)
        intro = _INTRO.match(sentence)
        if intro and not match and not finite_in(intro[1] or intro[2]):
            at = intro.start(3)
            return sentence[:at] + self._replace(sentence[at:], intro[3], start=False)
        return self._replace(sentence, match[1], start=True) if match else sentence

    def _replace(self, text: str, pronoun: str, start: bool) -> str:
        subject = self._nearest(pronoun)
        if subject is None or _EXPLETIVE.match(text):
            return text
        rest = text[len(pronoun) :]
        possessive = pronoun.lower() in {"its", "their", "his", "her"}
        if possessive and (len(subject.text.split()) > 4 or re.match(r"\W|$", rest.lstrip())):
            return text
        rest = re.sub(r"^['’]s (?=been|had|got)", " has ", rest)
        full = {"s": " is ", "re": " are ", "ve": " have ", "ll": " will ", "d": " would "}
        rest = re.sub(r"^['’](s|re|ve|ll|d) ", lambda match: full[match[1]], rest)
        phrase = subject.possessive() if possessive else subject.text
        return (capitalise(phrase) if start else lower_article(phrase)) + rest


def finite_in(text: str) -> bool:
    """Tell whether a text has a finite verb."""
    return finite_verb(text.split()) is not None


def subject_of(sentence: str) -> Subject | None:
    """Return the plain noun phrase before a sentence's verb, without brackets and appositions, or None.

    Example:
        >>> subject_of("Ana Ruiz, a chemist (born 1901), found rust.").text
        'Ana Ruiz'
        >>> subject_of("The moons of Vell are small.").many
        True
    """
    text = re.sub(r"\s*(\([^()]*\)|\[[^\[\]]*\])", "", sentence)
    if not re.search(r"\w", text):
        return None
    if bare(text.split()[0]) in PREPOSITIONS and "," in text:
        text = text.split(",", 1)[1].strip()
    words = text.split()
    verb = finite_verb(words)
    if not verb:
        return None
    phrase = words[:verb]
    while len(phrase) > 1 and is_adverb(bare(phrase[0])):
        phrase = phrase[1:]
    while phrase and (is_adverb(bare(phrase[-1])) or bare(phrase[-1]) in {"all", "both"}):
        phrase = phrase[:-1]
    comma = next((i for i, word in enumerate(phrase) if word.endswith(",")), None)
    if comma is not None:
        if not phrase[-1].endswith(",") and len(phrase) - comma < 4:
            return None
        phrase = [*phrase[:comma], phrase[comma].rstrip(",")]
    return Subject.of(phrase, bare(words[verb]))


def capitalise(text: str) -> str:
    """Begin a sentence with a capital, except where the first word has capitals inside ("iPhone") or is an address."""
    first = text.split(" ", 1)[0]
    return text if any(c.isupper() for c in first[1:]) or "." in first[:-1] else text[:1].upper() + text[1:]


def lower_article(text: str) -> str:
    """Write a sentence's first word small, as the middle of a sentence has it; what may be a name keeps its capital.

    Example:
        >>> [lower_article(phrase) for phrase in ("The dam", "Great photographs", "Ana is", "French wine")]
        ['the dam', 'great photographs', 'Ana is', 'French wine']
    """
    first, *rest = text.split()
    if first.lower() in DETERMINERS | PREPOSITIONS | SUBORDINATORS | PRONOUNS - {"i"}:
        return text[:1].lower() + text[1:]
    maybe_name = first in KIND_OF or "'" in first or _ADJECTIVE.search(first) or not first[1:].islower()
    if maybe_name or not rest or not rest[0].islower() or not bare(rest[0]).isalpha():
        return text
    # "Great photographs" has its noun after it, "Ana is" and "Queen of" are names
    noun_follows = finite_verb([first, rest[0]]) is None and bare(rest[0]) not in PREPOSITIONS | {"and", "or"}
    return text[:1].lower() + text[1:] if noun_follows else text


def split_lead(fact: str) -> tuple[str, str]:
    """Return what stands before and after a list's colon ("Parts: a wall"), or an empty string and the fact."""
    lead, colon, item = fact.partition(": ")
    inside = lead.count("(") > lead.count(")") or lead.count('"') % 2
    # after a whole sentence only a short item: "The game is Auto: Vice City on …" is no list
    size = len(item.split()) <= 6 or not finite_in(lead)
    return (lead, item) if colon and not inside and size and len(lead.split()) <= 20 else ("", fact)
