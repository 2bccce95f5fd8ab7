"""The closed classes of English words that the rules lean on, and where in a clause its finite verb stands.

No tagger and no dictionary: some 300 verbs with their forms, and what may stand before them. It overlooks rare verbs
and takes some nouns for verbs ("the state borders …"); the callers must live with both.
"""

from __future__ import annotations

import re


def word_set(text: str) -> frozenset[str]:
    """Return the words of a text, split at blanks, as a set."""
    return frozenset(text.split())


DETERMINERS = word_set(
    "a an the this that these those my your his her its our their each every some any no all both another such "
    "most many much several few one two three four five six seven eight nine ten other"
)
PREPOSITIONS = word_set(
    "of in on at by for from with without to into onto over under between among during through across about "
    "against within along around near since until upon per like than as via toward towards behind beyond "
    "despite unlike beneath throughout off inside outside"
)
SUBORDINATORS = word_set(
    "if when while although though because since as after before unless until once whether whereas whenever "
    "wherever where given provided depending"
)
PRONOUNS = word_set("i you he she it we they this that these those there here who which what one someone everyone")
SUBJECT_PRONOUNS = word_set("i he she it we they")
PLURAL_PRONOUNS = word_set("i you we they people who which that these those many most some others children men women")
ADVERBS = word_set(
    "also often usually always never still now then just only not even soon later first then again already "
    "sometimes rather ever further together"
)
BE = word_set("is are was were am")
AUXILIARIES = BE | word_set("has have had do does did can could will would shall should may might must cannot")
CONTRACTIONS = word_set("it's he's she's that's there's here's what's who's where's how's let's")

_REGULAR = word_set("""
accept achieve act add address adopt affect aim allow announce appear apply appoint approach argue arrive assist
attack attempt attract base believe belong border boil cause celebrate change chase choose claim close collect combine
compete complete connect consider consist consume contain continue contribute convert cook cool cost cover create
cross cure dance decide decline decrease define deliver depend derive describe design destroy determine develop die
differ direct disagree discover divide dominate earn eat employ enable encourage end enhance enjoy ensure enter
establish estimate evolve exist expand explain explore express extend fail feature fill finish fix focus follow force
form found fry function gain generate govern graduate handle happen harvest help hire host hunt identify impact
implement improve include increase indicate influence inspire install intend introduce invent invest involve issue
join jump kill lack last launch learn lie like limit link list live locate look love lower maintain manage manufacture
mark marry match measure migrate mix move name need note observe obtain occupy offer open operate organize originate
own paint participate pass perform place plant play point possess pour prefer prepare present preserve prevent process
produce promote protect prove provide publish pull purchase push raise range rank reach receive recommend record
reduce reflect refer regulate relate release rely remain remember remove repeat replace represent require resemble
reside result retain retire return reveal rule save score seek seem separate serve settle share show sign signify
smell solve specialize spend spread start state stay store strengthen study succeed suffer suggest support surround
survive symbolize talk target taste tend test touch track trade train transfer transform travel treat try turn use
utilize vary view visit vote wait walk want warn wash watch wear weigh work
""")
_IRREGULAR = word_set("""
become:became begin:began bite:bit blow:blew break:broke bring:brought build:built burn:burnt buy:bought catch:caught
come:came deal:dealt draw:drew drink:drank drive:drove eat:ate fall:fell feed:fed feel:felt fight:fought find:found
fly:flew forget:forgot freeze:froze get:got give:gave go:went grow:grew hear:heard hold:held keep:kept know:knew
lay:laid lead:led leave:left lend:lent lose:lost make:made mean:meant meet:met pay:paid ride:rode ring:rang rise:rose
run:ran say:said see:saw sell:sold send:sent shake:shook shine:shone show:showed shrink:shrank sing:sang sink:sank
sit:sat sleep:slept speak:spoke spend:spent stand:stood steal:stole swim:swam take:took teach:taught tell:told
think:thought throw:threw understand:understood wake:woke wear:wore win:won write:wrote lie:lay bear:bore choose:chose
seek:sought prove:proved set:set put:put let:let cut:cut read:read hit:hit
""")
_DOUBLED = word_set("plan stop occur refer admit commit control drop prefer rub ship slip step trap wrap ban chop grab")
_IMPERATIVES = word_set(
    "avoid bake breathe check clean click dig divide draw drain find get give go heat hold keep let make place "
    "preheat press put relax remember rinse run season select set sit stand stir take think write practice ask "
    "call plan stop drop use try make sure be do have ensure consider wrap chop twist download"
)


def _s_form(base: str) -> str:
    if base.endswith(("s", "x", "z", "ch", "sh", "go", "do")):
        return base + "es"
    return base[:-1] + "ies" if base[-1] == "y" and base[-2] not in "aeiou" else base + "s"


def _ed_form(base: str) -> str:
    if base.endswith("e"):
        return base + "d"
    if base in _DOUBLED:
        return base + base[-1] + "ed"
    return base[:-1] + "ied" if base[-1] == "y" and base[-2] not in "aeiou" else base + "ed"


_PAST_OF = dict(pair.split(":") for pair in sorted(_IRREGULAR))
BASES = set(_REGULAR) | _DOUBLED | set(_PAST_OF)
PRESENT = {_s_form(base): base for base in BASES}
PAST = {_ed_form(base): base for base in BASES if base not in _PAST_OF} | {v: k for k, v in _PAST_OF.items() if v != k}
NOT_PAST = word_set("need seed speed feed breed indeed hundred red bed shed wed")


def bare(word: str) -> str:
    """Return a word in lower case without the marks around it.

    Example:
        >>> bare('“Rust,”'), bare("don’t")
        ('rust', "don't")
    """
    return word.replace("’", "'").strip("\"'“”‘`()[]{},.;:!?*").lower()


def plural(noun: str) -> bool:
    """Tell by its ending whether a noun is plural; "people" and its like are known.

    Example:
        >>> plural("planets"), plural("grass"), plural("children")
        (True, False, True)
    """
    word = bare(noun)
    if word in {"people", "children", "men", "women", "mice", "feet", "teeth", "bacteria", "police", "data"}:
        return True
    return word.endswith("s") and not word.endswith(("ss", "us", "is", "'s", "ics", "ous")) and len(word) > 3


def is_adverb(word: str) -> bool:
    """Tell whether a word may stand between a subject and its verb."""
    return word in ADVERBS or (
        word.endswith("ly") and word not in {"family", "italy", "assembly", "only", "july", "fly"}
    )


def finite_verb(words: list[str], start: int = 0) -> int | None:
    """Return the index of the main clause's finite verb, or None.

    Args:
        words: the clause, split at blanks.
        start: where the subject begins.

    Example:
        >>> finite_verb("The birds that live here are small .".split())
        5
    """
    relative = depth = 0
    for i in range(start, len(words)):
        word = bare(words[i])
        outside = depth == 0 and words[i][0] not in "(["
        depth = max(0, depth + words[i].count("(") + words[i].count("[") - words[i].count(")") - words[i].count("]"))
        if not outside:
            continue
        if i > start and word in {"who", "which", "that"} and bare(words[i - 1]) not in PREPOSITIONS:
            relative += 1
        elif _is_finite(words, i, start):
            if not relative:
                return i
            relative -= 1
    return None


def _is_finite(words: list[str], i: int, start: int) -> bool:
    word = bare(words[i])
    if word in CONTRACTIONS or re.search(r"n't$|\w'(re|ve|ll|d|m)$", word):
        return True
    j = i - 1
    while j > start and is_adverb(bare(words[j])):
        j -= 1
    before = bare(words[j]) if j >= start else ""
    after = bare(words[i + 1]) if i + 1 < len(words) else ""
    if word in AUXILIARIES:
        month = words[i].startswith("May") and i > start
        return not (month or (before in DETERMINERS - PRONOUNS and word in {"can", "will", "might", "must"}))
    if i == start or not before or before == "to" or words[j].endswith((";", ":")):
        return False
    if words[j].endswith(",") and not any(earlier.endswith(",") for earlier in words[start:j]):
        return False
    if before in (DETERMINERS | PREPOSITIONS | {"and", "or", "be", "been"}) - PRONOUNS:
        return False
    # "these feelings of closeness make": the head noun stands before the first preposition
    head = next((k for k in range(start + 1, j) if bare(words[k]) in PREPOSITIONS), j)
    return _is_verb_form(word, words[j], after, plural(words[head - 1]) if head < j else False)


def _is_verb_form(word: str, subject_end: str, after: str, plural_head: bool) -> bool:
    before = bare(subject_end)
    if before.endswith(("'s", "s'")) or after in AUXILIARIES:
        return False
    many = before in PLURAL_PRONOUNS or plural(before)
    if word in PRESENT or word.endswith(("izes", "ifies")):
        return after not in {"of", "and", "or"} and (
            not many or before in {"who", "which", "that"} or subject_end[0].isupper()
        )
    if word in BASES and word not in PAST:
        return (many or plural_head) and after not in {"of"}
    if word in NOT_PAST:
        return False
    return word in PAST or (word.endswith("ed") and len(word) > 4 and after != "by")


def is_imperative(words: list[str]) -> bool:
    """Tell whether a clause is an instruction: it begins with a verb's base form, or with a word and its object."""
    if len(words) < 2:
        return False
    first = bare(words[0])
    if first in {"next", "finally", "then", "first", "lastly"} and len(words) > 2:
        return is_imperative(words[1:])
    if first in PREPOSITIONS | PRONOUNS | DETERMINERS | SUBORDINATORS or is_adverb(first) or "," in words[0]:
        return False
    # "cause" and "state" may be nouns here: a base form counts when something follows that it can govern
    governed = DETERMINERS | PREPOSITIONS | {"sure", "it", "them", "up", "out", "down"}
    return (
        first in _IMPERATIVES
        or (first in BASES and bare(words[1]) in governed)
        or bare(words[1]) in {"your", "the", "it"}
    )


def has_verb(text: str) -> bool:
    """Tell whether a text can stand as a sentence: it has a finite verb, or is an instruction."""
    words = text.split()
    if len(words) > 1 and bare(words[0]) in SUBJECT_PRONOUNS:
        return True
    return finite_verb(words) is not None or is_imperative(words)


def article(word: str) -> str:
    """Return "a" or "an", by the word's first letter and a few known exceptions.

    Example:
        >>> article("hour"), article("unique"), article("odd")
        ('an', 'a', 'an')
    """
    if re.match(r"(?:uni|use|usu|eu|one\b|once)", word, re.I):
        return "a"
    return "an" if re.match(r"[aeiou8]|hour|honest|heir|honou?r", word, re.I) else "a"


def replace_word(pattern: re.Pattern, new: str, text: str, count: int = 0) -> str:
    """Replace a word or phrase and let "a" or "an" before it agree with what stands there now.

    A capital keeps its word from being replaced (it may be a name), except at the beginning of the text.

    Example:
        >>> replace_word(re.compile("famous"), "old", "Famous men met a famous man of Famous Ltd.")
        'Old men met an old man of Famous Ltd.'
    """

    def put(match: re.Match) -> str:
        if not match[0][:1].isupper():
            return match.expand(new)
        word = match.expand(new)
        return match[0] if match.start() else word[:1].upper() + word[1:]

    marked = re.compile(pattern.pattern, pattern.flags | re.I)
    text = marked.sub(lambda match: "\0" + put(match), text, count=count)
    text = re.sub(r"\b([Aa])n? \0(?=(\w+))", lambda m: f"{m[1]}{article(m[2])[1:]} ", text)
    return text.replace("\0", "")
