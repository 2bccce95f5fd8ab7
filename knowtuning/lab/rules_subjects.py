"""What a sentence or a question is about, and which name a leading pronoun stands for."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from knowtuning.lab.rules_sentences import tidy
from knowtuning.lab.rules_words import (
    BASES,
    DETERMINERS,
    PREPOSITIONS,
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
_COPULA = re.compile(r"^(?:what|who|which|where)(?:'s| is| are| was| were)(?: \((?:are|is)\))? (.+)$", re.I)
_ABOUT = re.compile(
    r"\b(?:tell me(?: \w+)? about|talk about|know about|write (?:\w+ ){0,4}about|describe|explain|define|"
    r"discuss|summari[sz]e|list|name|suggest|recommend|give me|provide|what about|meaning of|information (?:on|about))(?: what)?(?: (?:is|are))? (.+)$",
    re.I,
)
_ASKED = re.compile(
    r"^(?:(?:how|why|when|where|who|whom)(?: \w+){0,3}? |"
    r"(?:what|which)(?: \w+){0,3}? (?=do|did|can|could|should|would|has|have))?"
    r"(?:do|does|did|can|could|should|would|will|is|are|was|were|has|have|had|might|must) (.+)$",
    re.I,
)
_INTRO = re.compile(r"^((?:[A-Z]\w*)(?: [^,;]{1,60})?), (it|they|he|she|its|their|his|her)\b(?! ?')", re.S)
_EXPLETIVE = re.compile(
    r"^it(?:'s| (?:is|was|can be|may be|could be|would be|will be|has been|seems|appears|takes|took|turns|turned|"
    r"happens|helps|depends|rains|says|does not matter))\b(?:(?: \w+){0,3} (?:to|that|for|if|when|whether|how|who|why)\b|"
    r"(?<=takes)|(?<=took)|(?<=seems)|(?<=depends)|(?<=says))",
    re.I,
)


@dataclass(frozen=True)
class Subject:
    """A noun phrase that can stand in place of a pronoun.

    `many`: it is plural; `name`: it is a proper name without article; `person`: it is known to be a person.
    """

    text: str
    many: bool
    name: bool
    person: bool

    @classmethod
    def of(cls, words: list[str]) -> Subject | None:
        """Judge a noun phrase; None when it is no plain one: a clause, a list, a pronoun, more than eight words."""
        if not words or len(words) > 8 or words[0][0] in "\"'“(":
            return None
        first, inner = bare(words[0]), [bare(word) for word in words]
        if first in PRONOUNS - DETERMINERS | PREPOSITIONS | SUBORDINATORS | {
            "another",
            "others",
            "both",
            "all",
            "other",
        }:
            return None
        if first in DETERMINERS and len(words) == 1 or any(re.search(r"[,;:\"]", word) for word in words):
            return None
        if set(inner) & {"who", "which", "what", "or", "than", "not"} or not re.search(r"\w", words[-1]):
            return None
        head_at = next((i for i, word in enumerate(inner) if i and word in PREPOSITIONS), len(inner)) - 1
        head = inner[head_at]
        if inner[-1] in PREPOSITIONS or head in {"one", "reason", "way", "thing", "number", "examples", "example"}:
            return None
        text = " ".join(words)
        name = all(word[0].isupper() or bare(word) in {"of", "the", "and", "de", "von", "van"} for word in words)
        name = name and first not in DETERMINERS
        many = "and" in inner or (plural(head) and not (name and len(words) == 1))
        return cls(text, many, name, first in TITLES or head in PERSONS)

    def fits(self, pronoun: str) -> bool:
        """Tell whether the pronoun may stand for this phrase, by number and by what is known of persons."""
        if pronoun in {"they", "their"}:
            return self.many
        if pronoun in {"it", "its"}:
            return not self.many and not self.person
        return not self.many and (self.person or (self.name and len(self.text.split()) <= 5))

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
        self.seen.append(subject) if subject else None
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
        if intro and not match and not finite_in(intro[1]):
            rest = sentence[intro.start(2) :]
            return sentence[: intro.start(2)] + self._replace(rest, intro[2], start=False)
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
        rest = re.sub(
            r"^['’](s|re|ve|ll|d) ", lambda m: {"s": " is ", "re": " are ", "ve": " have "}.get(m[1], " will "), rest
        )
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
    if bare(text.split()[0]) in PREPOSITIONS and "," in text:
        text = text.split(",", 1)[1].strip()
    words = text.split()
    verb = finite_verb(words)
    if not verb:
        return None
    phrase = words[:verb]
    while phrase and (is_adverb(bare(phrase[-1])) or bare(phrase[-1]) in {"all", "both"}):
        phrase = phrase[:-1]
    comma = next((i for i, word in enumerate(phrase) if word.endswith(",")), None)
    if comma is not None:
        if not phrase[-1].endswith(",") and len(phrase) - comma < 4:
            return None
        phrase = [*phrase[:comma], phrase[comma].rstrip(",")]
    return Subject.of(phrase)


def topic_of(question: str) -> str:
    """Return the noun phrase that a question asks about, as it stands there, or an empty string.

    Example:
        >>> topic_of("What is a digital twin?"), topic_of("Why does pollution in Delhi increase in winter?")
        ('a digital twin', 'pollution in Delhi')
        >>> topic_of("Tell me about Ana Ruiz."), topic_of("How do I keep great teeth?")
        ('Ana Ruiz', 'great teeth')
    """
    text = tidy(question).split("\n")[0].rstrip(" ?.!:").replace("’", "'")
    text = re.sub(r"^(?:please|given [^,]+,|in [^,]+,|can you|could you|hi|hello)[ ,]+", "", text, flags=re.I)
    if match := _ABOUT.search(text) or _COPULA.match(text):
        return _trim(match[1])
    if match := _ASKED.match(text):
        words = match[1].split()
        verb = next((i for i, word in enumerate(words) if i and bare(word) in BASES), None)
        if verb and bare(words[0]) in {"i", "you", "we", "one", "someone", "people", "they"}:
            return _trim(" ".join(words[verb + 1 :]))
        return _trim(" ".join(words[:verb]) if verb else _first_phrase(words))
    match = re.match(r"^(?:what|who) \w+s (.+)$", text, re.I)
    return _trim(match[1]) if match else longest_name(text)


def _first_phrase(words: list[str]) -> str:
    """Return the subject of "was Ana Ruiz famous": the name, or the article and its noun."""
    start = 1 if bare(words[0]) in DETERMINERS else 0
    size = next((i for i, word in enumerate(words[start:]) if not word[0].isupper()), len(words) - start)
    return " ".join(words[: start + (size or 1)])


def _trim(phrase: str) -> str:
    """Cut a topic at what no longer names it, and give up on what is no noun phrase."""
    phrase = re.sub(r"\s*\([^()]*\)", "", phrase)
    phrase = re.split(
        r"[,;:(?!]| (?:and (?:what|why|how|who|when|where)|that|which|who|if|when|so that|in order|used)\b", phrase
    )[0]
    words = re.sub(r"[\"“”]", "", phrase).split()
    while words and bare(words[0]) in PREPOSITIONS | {"some", "any", "me"}:
        words = words[1:]
    cut = next((i for i, word in enumerate(words) if i > 2 and bare(word) in PREPOSITIONS - {"of"}), len(words))
    words = words if len(words) <= 8 else words[: min(cut, 8)]
    if not words or bare(words[0]) in PRONOUNS - DETERMINERS | {"am"}:
        return longest_name(phrase)
    return " ".join(words)


def longest_name(text: str) -> str:
    """Return the longest run of capitalised words after the first word of a text, or an empty string."""
    runs = re.findall(r"(?<=\s)[A-Z][\w'’.-]*(?: (?:of |the |de )*[A-Z0-9][\w'’.-]*)*", text)
    return max(runs, key=len, default="").rstrip(".").removesuffix("'s")


def capitalise(text: str) -> str:
    """Begin a sentence with a capital, except where the first word has capitals inside ("iPhone") or is an address."""
    first = text.split(" ", 1)[0]
    return text if any(c.isupper() for c in first[1:]) or "." in first[:-1] else text[:1].upper() + text[1:]


def lower_article(text: str) -> str:
    """Write an article or another closed-class word at a phrase's start small; names stay as they are."""
    first = text.split(" ", 1)[0]
    small = DETERMINERS | PREPOSITIONS | PRONOUNS - {"i"} | SUBORDINATORS
    return text[:1].lower() + text[1:] if first.lower() in small else text
