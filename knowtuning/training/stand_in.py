"""Text for a dry run: it means nothing, and its lengths in tokens are those that real data would have."""

from __future__ import annotations

import math
import random
from functools import cache
from statistics import NormalDist

from transformers import PreTrainedTokenizerBase

from knowtuning.knowledge.aspects import ASPECTS
from knowtuning.lab.corpus import prose, train_tokenizer
from knowtuning.lab.world import World
from knowtuning.recipe import get_recipe
from knowtuning.training.prompts import encode, use_form

# Assumed of the data, not measured: the median answers of Dolly and MedQuAD have 65 and 152 words, Llama-2's tokenizer
# makes 1.35 tokens of a word, lengths are log-normal, and a question in its prompt has 50 tokens.
MEDIAN_WORDS = (65, 152)
TOKENS_PER_WORD = 1.35
SPREAD = 0.8
PROMPT_TOKENS, QUESTION_TOKENS, FACT_TOKENS = 50, 20, 20
ASSUMED = (
    f"answers of {MEDIAN_WORDS[0]} and {MEDIAN_WORDS[1]} words in the median, half of them each, "
    f"{TOKENS_PER_WORD} tokens a word, prompts of {PROMPT_TOKENS} tokens, facts of {FACT_TOKENS}"
)


def stand_in_tokenizer(prompt: str) -> PreTrainedTokenizerBase:
    """The smallest lab's tokenizer in a form of `prompts.PROMPTS`; its ids lie inside every base's vocabulary."""
    return use_form(train_tokenizer(World.load(get_recipe("smoke").lab)), "plain" if prompt == "chat" else prompt)


def sequence_lengths(count: int, longest: int) -> list[int]:
    """Tokens of `count` sequences, prompt and answer: evenly spaced quantiles of what is assumed, cut at `longest`.

    Example:
        >>> sequence_lengths(4, 1024)
        [101, 170, 201, 402]
    """
    lengths, half = [], math.ceil(count / 2)
    for number in range(count):
        deviation = NormalDist(sigma=SPREAD).inv_cdf((number // 2 + 0.5) / half)
        answer = MEDIAN_WORDS[number % 2] * TOKENS_PER_WORD * math.exp(deviation)
        lengths.append(min(longest, PROMPT_TOKENS + round(answer)))
    return lengths


def mean_length(longest: int) -> float:
    """Mean tokens of a sequence, prompt and answer."""
    return sum(sequence_lengths(1000, longest)) / 1000


def stand_in_rows(tokenizer: PreTrainedTokenizerBase, lengths: list[int], seed: int = 0) -> list[dict]:
    """QA rows whose sequences have about these lengths in tokens, in random order."""
    chance = random.Random(seed)
    rows = []
    for number, length in enumerate(chance.sample(lengths, len(lengths))):
        question = _text(tokenizer, QUESTION_TOKENS, chance)
        answer = _text(tokenizer, max(1, length - len(encode(tokenizer, question, "")[0]) - 1), chance)
        rows.append({"id": f"row {number}", "question": question, "answer": answer, "source": "stand-in"})
    return rows


def stand_in_pairs(tokenizer: PreTrainedTokenizerBase, rows: list[dict], seed: int = 0) -> list[dict]:
    """One preference pair per row, whose rejected answer is another text of the same length."""
    chance = random.Random(seed)
    return [
        {
            "question": row["question"],
            "chosen": row["answer"],
            "rejected": _text(tokenizer, len(encode(tokenizer, "", row["answer"])[1]), chance),
            "aspect": ASPECTS[number % len(ASPECTS)],
        }
        for number, row in enumerate(rows)
    ]


def stand_in_facts(tokenizer: PreTrainedTokenizerBase, rows: list[dict]) -> list[dict]:
    """The answers cut into facts: rows `{"id", "facts"}`."""
    facts = []
    for row in rows:
        ids = encode(tokenizer, "", row["answer"])[1]
        parts = [ids[start : start + FACT_TOKENS] for start in range(0, len(ids), FACT_TOKENS)]
        facts.append({"id": row["id"], "facts": [tokenizer.decode(part).strip() or "?" for part in parts]})
    return facts


def _text(tokenizer: PreTrainedTokenizerBase, tokens: int, chance: random.Random) -> str:
    story = _story(tokenizer)
    start = chance.randrange(len(story))
    again = -(-(start + tokens) // len(story))
    return tokenizer.decode((story * again)[start : start + tokens])


@cache
def _story(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Everything that the smallest world has to tell, as token ids."""
    world, chance = World.load(get_recipe("smoke").lab), random.Random(0)
    told = [f" {prose(world, entity, world.relation, chance)}" for entity in world.entities]
    return [token for text in told for token in encode(tokenizer, "", text)[1]]
