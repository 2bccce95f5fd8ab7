"""Extract: an answer becomes short sentences that can stand alone, in the answer's order."""

from __future__ import annotations

import re

from knowtuning.lab.rules_sentences import Sentence, sentences, tidy
from knowtuning.lab.rules_subjects import Subject, Subjects, capitalise, lower_article
from knowtuning.lab.rules_topics import topic_of
from knowtuning.lab.rules_words import (
    AUXILIARIES,
    DETERMINERS,
    PAST,
    PREPOSITIONS,
    PRESENT,
    PRONOUNS,
    SUBJECT_PRONOUNS,
    SUBORDINATORS,
    bare,
    finite_verb,
    has_verb,
    is_adverb,
    plural,
    word_set,
)

_CONNECTIVE = re.compile(
    r"^(?:(?:and|but|so|[QA]:) |(?:however|therefore|additionally|furthermore|moreover|in addition|also|thus|hence|"
    r"besides|yes|no|well|overall|in conclusion|in summary|basically|generally speaking)"
    r"(?:, | (?=the |it |they |he |she |we |you |this )))",
    re.I,
)
_GREETING = re.compile(
    r"^(?:sure|of course|certainly|great|absolutely|thanks?(?: you)?|hope (?:this|that)|i hope|let me know|"
    r"here you go|good luck|enjoy|hello|hi)\b[^.]{0,60}$",
    re.I,
)
# asks the reader; "Ask yourself: why do I tell this?" tells something
_QUESTION = re.compile(
    r"^(?:(?:and|but|so|or),? )?(?:wh\w+|how|do|does|did|is|are|was|were|can|could|would|will|should|have|has|need|any|"
    r"anything|ready)\b.*\?$",
    re.I,
)
_HOLDS = word_set("that if whether because when where how why unless until who which whose whom while although though")
_AFTER_VERB = DETERMINERS | word_set("to from with on at as into through it them him people more than about not")
# after "was" most past forms may be participles that share it ("was cut and dried"); these cannot
_NO_PARTICIPLE = word_set(
    "died became began went wrote took gave grew ran saw lived remained won served knew fell came"
)
_SAYS = word_set(
    "said says say believe believes believed think thinks claim claims claimed argue argues argued suggest"
)


def extract(question: str, answer: str) -> list[str]:
    """Split an answer into facts; an empty list when it states nothing.

    Sentences are split at semicolons and at "and", "but", "while", "whereas" where both sides are clauses, the subject
    being repeated where it was shared. A pronoun at the start becomes the name that it stands for, where one is found.
    An item of a list is put after the line that leads the list, a text without verb after the question's topic.

    What may be lost: questions to the reader, greetings, list numbers, repeated facts, and the connective between two
    clauses ("but", "however"). The other words of the answer stand in some fact.

    Example:
        >>> extract("What is the Vell Orrery?", "It was built in 1671 and shows six planets; they are made of brass.")
        ['The Vell Orrery was built in 1671.', 'The Vell Orrery shows six planets.', 'They are made of brass.']
    """
    topic = topic_of(question)
    subjects = Subjects(Subject.of(topic.split()))
    found = sentences(answer)
    kept = [s for s in found if not _QUESTION.match(s.text) and not _GREETING.match(s.text)] or found
    facts: list[str] = []
    led = ""
    for sentence in kept:
        for clause in _listed(sentence.text) or _clauses(sentence.text, subjects):
            whole = has_verb(clause)
            if sentence.lead and sentence.lead != led and whole and has_verb(sentence.lead):
                facts.append(sentence.lead)
            led = sentence.lead
            alone = whole and not _heading(sentence)
            facts.append(clause if alone else _fragment(clause, sentence, question, topic, first=not facts))
    stated = [fact for fact in map(finish, facts) if re.search(r"\w", fact)]
    return list({fact.casefold(): fact for fact in reversed(stated)}.values())[::-1]


def _listed(text: str) -> list[str]:
    """Return the members of a bare list ("Yifang, TP Tea, Feng Cha and Urban"), or nothing where it is none."""
    members = re.split(r", (?:and |or )?| and (?=[^,]*$)", text.rstrip("."))
    bare_list = len(members) >= 4 and not has_verb(text) and max(len(member.split()) for member in members) <= 6
    return members if bare_list and "(" not in text else []


def _heading(sentence: Sentence) -> bool:
    return bool(sentence.lead) and not has_verb(sentence.lead)


def _fragment(text: str, sentence: Sentence, question: str, topic: str, first: bool) -> str:
    """Put a text without verb after what it belongs to: its list's leading line, the question's copula, the topic."""
    if sentence.lead:
        return f"{sentence.lead.rstrip(' :,')}: {text}"
    if bare(text) in {"yes", "no", "true", "false"}:
        return f'The answer to "{tidy(question)}" is {bare(text)}.'
    # after the first, a text with a full stop is more likely a sentence whose verb the rules do not know
    known = has_verb(text) or not topic or topic.lower() in text.lower() or ": " in text
    size = len(text.split())
    if known or size > 12 or (text.endswith((".", "!")) and (not first or size > 7)):
        return text
    asked = r"(?:what|who|which|where)(?:'s)? ?(is|are|was|were)\b(?: \((?:are|is)\))? (.+)"
    copula = re.match(asked, tidy(question), re.I)
    adverbial = bare(text.split()[0]) in SUBORDINATORS | PREPOSITIONS | {"to"}
    if first and copula and copula[2].rstrip(" ?.") == topic and not adverbial and not _listed(sentence.text):
        return f"{topic} {_agreeing(copula[1].lower(), topic)} {lower_article(text)}"
    return f"{topic}: {text}"


def _agreeing(copula: str, topic: str) -> str:
    many = plural(topic.split()[-1]) and bare(topic.split()[0]) not in {"a", "an"}
    return "are" if copula == "is" and many else copula


def finish(text: str) -> str:
    """Return a clause as a sentence: no connective in front, a capital, one full stop at the end."""
    text = tidy(text).strip(" ,;-–—")
    text = _CONNECTIVE.sub("", text)
    match = re.fullmatch(r"(.*?)[.!?…:;,\s]*([\"”’)\]]*)[.!?…:;,\s]*", text, re.S)
    if match[2] and not re.search(r"[\"“(\[]", match[1]) and "'" not in match[2]:
        match = re.fullmatch(r"(.*?)[.!?…:;,\s]*()", text.rstrip(' "”’)]'), re.S)
    return capitalise(match[1] + match[2]) + "."


def _clauses(text: str, subjects: Subjects) -> list[str]:
    """Split one sentence into clauses whose subjects are named, and let `subjects` remember them."""
    rest = subjects.resolve(_CONNECTIVE.sub("", text))
    found = []
    while cut := _next_cut(rest):
        left, right, shared = cut
        subject = subjects.note(left)
        if shared and subject is None:
            break
        found.append(left)
        right = f"{subject.text} {right}" if shared else _CONNECTIVE.sub("", right)
        rest = right if shared else subjects.resolve(right)
    subjects.note(rest)
    return [*found, rest]


def _next_cut(text: str) -> tuple[str, str, bool] | None:
    """Return (left, right, whether the right side shares the left one's subject) at the first place to cut, or None."""
    words = text.split()
    depth = quotes = 0
    for i, word in enumerate(words[:-1]):
        depth += word.count("(") + word.count("[") - word.count(")") - word.count("]")
        quotes += word.count('"') + word.count("“") + word.count("”")
        if depth > 0 or quotes % 2:
            continue
        if word.endswith(";") or (word in {"and", "but", "while", "whereas"} and i > 1):
            at = i + 1 if word.endswith(";") else i
            shared = _cuts(words[:at], words[i + 1 :], word)
            if shared is not None:
                return " ".join(words[:at]).rstrip(" ,;"), " ".join(words[i + 1 :]), shared
    return None


def _cuts(left: list[str], right: list[str], word: str) -> bool | None:
    """Tell whether a conjunction joins two clauses: False with two subjects, True with one, None if it does not."""
    verb = finite_verb(left)
    comma = left[-1].endswith(",")
    if verb is None or len(left) - verb < 2:
        return None
    inner = {bare(w) for w in left[1:]}
    if word.endswith(";"):
        until = next((i for i, other in enumerate(right) if other.endswith(";")), len(right))
        return False if _own_subject(right, True) or finite_verb(right[:until]) else None
    if bare(left[0]) in SUBORDINATORS or (word in {"while", "whereas"} and not comma):
        return None
    if _own_subject(right, comma and not any(w.endswith(",") for w in left[verb:-1])):
        reported = inner & (_SAYS | {"that", "if", "whether", "because", "how"}) and not (comma and not inner & {"if"})
        return None if reported else False
    return True if word in {"and", "but"} and not inner & _HOLDS and _goes_on(left[verb], right) else None


def _own_subject(right: list[str], any_verb: bool) -> bool:
    """Tell whether a clause begins with a subject and its verb; a rare verb counts only where `any_verb` allows it."""
    verb = finite_verb(right)
    if len(right) > 1 and bare(right[0]) in SUBJECT_PRONOUNS:
        return True
    if verb is None or verb > 7:
        return False
    first, found = bare(right[0]), bare(right[verb])
    if verb == 0:
        return "'" in found
    if first in SUBORDINATORS | PREPOSITIONS or any(w.endswith((",", ";")) for w in right[:verb]) or is_adverb(first):
        return False
    noun = right[0][0].isupper() or plural(right[verb - 1])
    named = noun or first in DETERMINERS | PRONOUNS - {"what", "which", "who"}
    return named and (any_verb or first in PRONOUNS or found in AUXILIARIES)


def _goes_on(main: str, right: list[str]) -> bool:
    """Tell whether the words after "and" go on with a second verb of the same subject, and not with a second noun."""
    at = next((i for i, word in enumerate(right[:-1]) if not is_adverb(bare(word)) and bare(word) != "most"), 0)
    verb, main = bare(right[at]), bare(main)
    after = bare(right[at + 1]) if len(right) > at + 1 else ""
    if not after or after in {"of", "and", "or"}:
        return False
    if verb in AUXILIARIES - {"do"}:
        return True
    if verb in PRESENT:
        return (main in PRESENT or main in AUXILIARIES) and (after in _AFTER_VERB or right[at + 1][0].isupper())
    if verb in PAST:
        if main in AUXILIARIES:
            return verb in _NO_PARTICIPLE
        return after != "by" and (main in PAST or main.endswith("ed"))
    return False
