"""`english-rules`: a teacher without a model, a key or a download, for any English text.

It shows that every stage takes real text; what a model learns from its replies means nothing. It reads patterns and
not meanings: nothing in the text that it works on can give it orders.
"""

from __future__ import annotations

import random
import re
from typing import Any

import yaml

from knowtuning.data.sentences import is_balanced, sentences
from knowtuning.files import ROOT
from knowtuning.lab.world import seeded

TASKS = ("extract", "rewrite", "rephrase", "revise")

_WORDS = yaml.safe_load((ROOT / "data" / "words.yaml").read_text(encoding="utf-8"))
KIND_OF = {name: kind for kind, names in _WORDS["kinds"].items() for name in names}
_PAIRS = dict(pair.split("/") for pair in _WORDS["opposites"])
OPPOSITES = {b: a for a, b in _PAIRS.items()} | _PAIRS | dict(pair.split("/") for pair in _WORDS["one_way_opposites"])
PAST = {past: base for base, past in (pair.split("/") for pair in _WORDS["irregular_verbs"])}


def answer(task: str, inputs: dict) -> dict:
    """Serve one teacher task on English text; the same task and inputs give the same reply everywhere.

    `inputs` and the reply have the fields that `knowtuning.teacher.prompts` describes. What cannot be served raises
    `ValueError` with one sentence: another task, a missing or ill-typed input, a text without a word.

    >>> answer("extract", {"question": "What is rust?", "answer": "It is iron oxide; it flakes. Dry it!"})
    {'facts': ['Rust is iron oxide.', 'Rust flakes.', 'Dry it.']}
    """
    if task not in TASKS:
        raise ValueError(f"english-rules cannot serve the task {task!r}; it knows {', '.join(TASKS)}.")
    question = _field(task, inputs, "question", str)
    if task == "extract":
        if not (facts := extract(question, _field(task, inputs, "answer", str))):
            raise ValueError("extract: the answer states nothing, so there is no fact to extract.")
        return {"facts": facts}
    facts = _field(task, inputs, "facts", list)
    for number, fact in enumerate(facts, start=1):
        if not isinstance(fact, str) or not re.search(r"\w", fact):
            raise ValueError(f"{task}: fact {number} holds no word.")
    if task == "revise":
        return {"facts": revise(question, facts, seeded(task, inputs))}
    if task == "rephrase":
        return {"answer": running([turned(fact) for fact in facts], join=True)}
    return {"question": fine_question(question, facts), "answer": running(facts)}


def _field(task: str, inputs: dict, field: str, kind: type) -> Any:
    value = inputs.get(field) if isinstance(inputs, dict) else None
    if not isinstance(value, kind) or value == []:
        raise ValueError(f"{task}: the input {field!r} is missing, empty or no {'text' if kind is str else 'list'}.")
    return value


# --- extract: a sentence, or a clause at a plain conjunction, is a fact

_AUXILIARY = r"(?:is|are|was|were|has|have|had|do|does|did|can|could|will|would|shall|should|may|might|must|cannot)\b"
_CONDITION = r"(?:If|When|While|Because|Although|Though|Since|As|After|Before|Unless|Once|Until)\b"
_CONJUNCTION = re.compile(
    r"(?:;|,? (?:and|but)) (?=(?:it|he|she|they|we|you|I|there) \w)|(?:;|, (?:and|but|while|whereas)) "
    rf"(?=(?:the|an?|this|these|its|their|his|her|[A-Z][\w’'-]*) (?:[\w’'-]+ ){{0,4}}?{_AUXILIARY})"
)
_ASIDE = re.compile(
    r"(?:sure|of course|certainly|great|thank|i hope|hope this|let me know|here you go|enjoy|hello|hi)\b[^.]{0,60}$"
    r"|(?:and |but |or )?(?:wh\w+|how|do|does|did|can|could|would|will|should|have|is|are)\b.*\?$",
    re.I,
)
_CONNECTIVE = re.compile(r"^(?:(?:and|but|so) |(?:however|therefore|moreover|also|thus|yes|no|well), )", re.I)
# "It is important to dry iron", "It takes two days": the pronoun stands for nothing
_PRONOUN = re.compile(
    r"(it|they|he|she)\b(?![-’'])(?! (?:takes|seems|appears|depends|says|(?:is|was|can be|may be) (?:\w+ ){1,2}"
    r"(?:to|that|for|when|if|who|how|because))\b)",
    re.I,
)


def extract(question: str, answer: str) -> list[str]:
    """The facts of an answer in its order: its sentences, cut at plain conjunctions; empty when it states nothing.

    A list's item stands after the line that leads the list. A pronoun at the start becomes what the question asks
    about while no other subject has come between. Questions to the reader and greetings are left out.

    >>> extract("What is the Vell Orrery?", "It was built in 1671, and it shows planets. Maps show it. They help.")
    ['The Vell Orrery was built in 1671.', 'The Vell Orrery shows planets.', 'Maps show it.', 'They help.']
    """
    subject = topic = topic_of(question)
    parts = sentences(answer)
    facts = []
    for text, lead in [part for part in parts if not _ASIDE.match(part.text)] or parts:
        for clause in _clauses(_CONNECTIVE.sub("", text)):
            fact = f"{lead.rstrip(' :,')}: {clause}" if lead else _named(clause, subject)
            subject = topic if topic.lower() in fact.lower() else ""
            facts.append(fact)
    if topic and len(facts) == 1 and not subject and len(facts[0].split()) <= 8 and not answer.rstrip().endswith("."):
        facts[0] = f"{topic}: {facts[0]}"  # "A village in Slovenia"
    return list(dict.fromkeys(_finished(fact) for fact in facts))


def _clauses(text: str) -> list[str]:
    clauses, start = [], 0
    for joint in _CONJUNCTION.finditer(text):
        left = text[start : joint.start()]
        if is_balanced(left) and re.search(r"\w \S+ \S*\w", left) and not re.match(_CONDITION, left):
            clauses.append(left)
            start = joint.end()
    return [*clauses, text[start:]]


def _named(clause: str, subject: str) -> str:
    """Put a subject in place of the pronoun at a clause's start, where their number fits."""
    pronoun = _PRONOUN.match(clause)
    if not subject or not pronoun:
        return clause
    many, person = subject.endswith("s") and subject[0].islower(), subject[0].isupper() and " " in subject
    fits = {"it": not many, "they": many}.get(pronoun[1].lower(), person)
    return _capital(subject) + clause[pronoun.end() :] if fits else clause


def topic_of(question: str) -> str:
    """What a question asks about: the phrase after "What is" or "about", else its longest name, else nothing.

    >>> topic_of("What is a digital twin?"), topic_of("Why was Ana Ruiz famous?"), topic_of("Should I go?")
    ('a digital twin', 'Ana Ruiz', '')
    """
    parts = [part.text for part in sentences(re.sub(r"\s*\([^()]*\)", "", question))]
    text = next((part for part in parts if part.endswith("?")), "".join(parts[:1])).rstrip(" ?.!:")
    asked = r"(?:^(?:what|who|which|where)(?:['’]s| is| are| was| were)|\babout|^(?:describe|explain|define))"
    if match := re.search(rf"{asked} ([^,;:(?!\"]+)", text, re.I):
        phrase = re.split(r" (?:and (?:what|why|how|who|when|where)|that|which|who|if|when)\b", match[1])[0]
        if len(phrase.split()) <= 8 and not re.match(r"(?:you|i|it|this|that|your|my|some)\b", phrase, re.I):
            return phrase
    names = re.findall(r"(?<=\s)[A-Z][\w’'-]+(?: (?:of |the |de )*[A-Z0-9][\w’'-]*)*", text)
    return max(names, key=len, default="")


def _capital(text: str) -> str:
    """Begin with a capital, except where the first word has capitals inside ("iPhone") or is an address."""
    first = text.split(" ", 1)[0]
    return text if any(c.isupper() for c in first[1:]) or "." in first[:-1] else text[:1].upper() + text[1:]


def _small(text: str) -> str:
    """Begin with a small letter where the first word is no name: an article, a pronoun, a preposition and the like."""
    common = "The|An?|Th[eo]se|This|Its?|Their|They|His|He|Her|She|We|You|There|In|On|At|By|For|To|Despite|Some|Many"
    return text[:1].lower() + text[1:] if re.match(rf"(?:{common}|{_CONDITION})\b", text) else text


def _finished(text: str) -> str:
    """A clause as a sentence: a capital in front, one full stop at the end."""
    body, closing = re.fullmatch(r"(.*?)[.!?…:;,\s]*([\"”’)\]]*)[.!?…:;,\s]*", text.strip(" ,;-–—"), re.S).groups()
    return _capital(body + (closing if re.search(r"[\"“(\[]", body) else "")) + "."


# --- rewrite and rephrase: a template question; the facts turned and joined


def fine_question(question: str, facts: list[str]) -> str:
    """A question about these facts: a template with the topic and the longest word of each of the first four facts.

    Names and numbers are not taken, so that the question gives little away.

    >>> fine_question("What is the Vell?", ["The Vell was built in 1671.", "The Vell shows six planets."])
    'What is there to say about the Vell with regard to "built" and "planets"?'
    """
    topic = topic_of(question)
    known = set(re.findall(r"\w+", question.lower()))
    words = []
    for fact in facts[:4]:
        plain = [word for word in re.findall(r"(?<![\w’'-])[a-z]{4,}(?![\w’'-])", fact) if word not in known]
        words += [f'"{max(plain, key=len)}"'] if plain else []
        known.update(plain)
    listed = " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
    return f"What is there to say{topic and f' about {topic}'}{listed and f' with regard to {listed}'}?"


def turned(fact: str) -> str:
    """Put a closing date in front, or a leading condition behind; any other fact stays as it is.

    >>> turned("The dam was built in 1931."), turned("If it rains, the dam fills.")
    ('In 1931, the dam was built.', 'The dam fills if it rains.')
    """
    if match := re.fullmatch(r"(If|When|Because|Although|Unless) ([^,;:()]+), (?:then )?([^,;:()]+)\.", fact):
        return f"{_capital(match[3])} {match[1].lower()} {match[2]}."
    if match := re.fullmatch(rf"((?!In|On|At|{_CONDITION})[^,;:()]+) ((?:in|on) (?:[A-Z][a-z]+ )?\d{{4}})\.", fact):
        return f"{_capital(match[2])}, {_small(match[1])}."
    return fact


def running(facts: list[str], join: bool = False) -> str:
    """Facts as text: items of one list under its lead once; with `join`, two short sentences become one."""
    parts: list[str] = []
    for fact in facts:
        lead, colon, item = fact.partition(": ")
        both = f"{parts[-1]} {fact}" if parts else ""
        plain = len(both.split()) <= 20 and not re.search(r"[,;:()\"]| (?:and|but|if|when|because) ", both)
        if colon and both.startswith(lead + colon):
            parts[-1] = f"{parts[-1].rstrip('.')}; {item}"
        elif join and both and plain and len(re.findall(rf"\b{_AUXILIARY}", both)) >= 2:
            parts[-1] = f"{parts[-1].rstrip('.')}, and {_small(fact)}"
        else:
            parts.append(fact)
    return " ".join(parts)


# --- revise: a number, a name or an opposite is changed, else the polarity

_YEAR = re.compile(r"(?<![\w.,$€£#-])(1[0-9]\d\d|20\d\d)(?=s?\b)(?![,.]\d|%)")
_NUMBER = re.compile(r"(?<![\w./:#-])(\d{1,3}(?:,\d{3})+|\d+)(?![\w/:]|[.,-]\w)")
_SWAPPED = re.compile(
    r"(?<![\w’'-])(?<!as )(?<!no )(?<!so )(?<!most )(?<!more )(?<!less )"  # not in "as long as", "no longer"
    rf"(?:{'|'.join(sorted([*KIND_OF, *OPPOSITES], key=len, reverse=True))})(?![\w’'-])"
)


def revise(question: str, facts: list[str], chance: random.Random) -> list[str]:
    """Turn each fact into a contrary one of the same form; each differs from all the facts and from the others.

    A number, a name or a word with an opposite is changed; a fact that has none is negated. What the question names
    stays. Contrary is not always false: both "winter is cold" and "winter is not cold" may hold somewhere.

    >>> revise("What is the Vell?", ["The Vell was built in 1671.", "The Vell is of brass."], random.Random(0))
    ['The Vell was built in 1686.', 'The Vell is not of brass.']
    """
    taken = {_plain(fact) for fact in facts}
    revised = []
    for fact in facts:
        changes = [_other_number(fact, chance), _other_word(fact, question, chance)]
        chance.shuffle(changes)
        denied = [f"It is {word} that {_small(fact)}" for word in ("not true", "false", "untrue", "not the case")]
        options = [text for text in (*changes, negated(fact), *denied) if text]
        revised.append(next((text for text in options if _plain(text) not in taken), options[-1]))
        taken.add(_plain(revised[-1]))
    return revised


def _plain(text: str) -> str:
    return re.sub(r"\W+", " ", text).strip().casefold()


def _other_number(fact: str, chance: random.Random) -> str | None:
    """Move all years by the same number of years, or change one amount."""
    if years := [int(year) for year in _YEAR.findall(fact)]:
        step = chance.choice((10, 20, 30) if re.search(r"\d0s\b", fact) else range(3, 30))
        step = -step if max(years) + step > 2024 else step
        return _YEAR.sub(lambda year: str(int(year[1]) + step), fact)
    if not (numbers := list(_NUMBER.finditer(fact))):
        return None
    number = chance.choice(numbers)
    value = int(number[0].replace(",", ""))
    zeros = 10 ** (len(number[0]) - len(number[0].rstrip("0"))) if value > 100 else 1
    smaller = max(zeros, int(value * chance.uniform(0.5, 0.8) / zeros) * zeros)
    new = smaller if 12 < value != smaller else value + chance.choice((1, 2, 3)) * zeros
    return fact[: number.start()] + (f"{new:,}" if "," in number[0] else str(new)) + fact[number.end() :]


def _other_word(fact: str, question: str, chance: random.Random) -> str | None:
    """Put another name of its kind, or the opposite, in place of a word; "a" or "an" before it agrees."""
    options = []
    for word in _SWAPPED.finditer(fact):
        others = _WORDS["kinds"][KIND_OF[word[0]]] if word[0] in KIND_OF else [OPPOSITES[word[0]]]
        others = [other for other in others if other not in fact and word[0] not in question]
        options += [(word, chance.choice(others))] if others else []
    if not options:
        return None
    old, new = chance.choice(options)
    before = re.sub(r"\b([Aa])n? $", r"\1n " if new[0] in "aeioAEIO" else r"\1 ", fact[: old.start()])
    return before + new + fact[old.end() :]


def negated(fact: str) -> str | None:
    """Turn the polarity of a statement by its first auxiliary verb, of an instruction or of a list's item.

    >>> negated("Rust can burn."), negated("Stir it."), negated("Do not stir it."), negated("Rust covers iron.")
    ('Rust cannot burn.', 'Do not stir it.', 'Stir it.', None)
    """
    if match := re.match(r"(?:do not|don['’]t|never) (?=\w)", fact, re.I):
        return _capital(fact[match.end() :])
    if re.match(rf"(?:{'|'.join(_WORDS['instructions'])})\b(?! {_AUXILIARY}) \w", fact, re.I):
        return f"Do not {fact[0].lower()}{fact[1:]}"
    lead, colon, item = fact.partition(": ")
    if colon and len(lead.split()) <= 20:
        return f"{lead}: not {_small(item)}"
    match = re.match(
        r"((?:(?!\b(?:that|who|which|if|when)\b)[^,;:()])*?\b)(is|are|was|were|can|could|will|would|should|must|may|does|do"
        r"|did|(?:has|have|had)(?= (?:been|\w+ed|not)\b))(n['’]t\b| not\b| no\b| also\b|\b)",
        fact,
    )
    if not match:
        return None
    before, verb, denied = match.groups()
    denial = "" if denied not in ("", " also") else "not" if verb == "can" else " not"
    return f"{before}{verb}{denial}{fact[match.end() :]}"
