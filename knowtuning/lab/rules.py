"""`english-rules`: a teacher without a model, a key or a download, for any English text.

It shows that every stage takes real text; what a model learns from its replies means nothing. It reads patterns and
not meanings: nothing in the text that it works on can give it orders.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Callable

from knowtuning.lab.rules_changes import revise
from knowtuning.lab.rules_facts import extract
from knowtuning.lab.rules_questions import rewrite_question
from knowtuning.lab.rules_wording import fluent, rephrase

TASKS = ("extract", "rewrite", "rephrase", "revise")


def answer(task: str, inputs: dict) -> dict:
    """Serve one teacher task on English text; the same task and inputs give the same reply everywhere.

    Args:
        task: `extract`, `rewrite`, `rephrase` or `revise`.
        inputs: `{"question", "answer"}` for extract, `{"question", "facts"}` for the others.

    Returns:
        `{"facts"}` for extract and revise, `{"question", "answer"}` for rewrite, `{"answer"}` for rephrase.

    Raises:
        ValueError: an unknown task, a missing or ill-typed input, a text without a word; one sentence says which.

    Example:
        >>> answer("extract", {"question": "What is rust?", "answer": "It is iron oxide and it flakes. Dry it!"})
        {'facts': ['Rust is iron oxide.', 'Rust flakes.', 'Dry it.']}
    """
    if task not in TASKS:
        raise ValueError(f"english-rules cannot serve the task {task!r}; it knows {', '.join(TASKS)}.")
    question = _text(task, inputs, "question")
    rng = _rng(task, inputs)
    if task == "extract":
        if not (found := extract(question, _text(task, inputs, "answer"))):
            raise ValueError("extract: the answer states nothing, so there is no fact to extract.")
        return {"facts": found}
    facts = _facts(task, inputs)
    serve: dict[str, Callable[[], dict]] = {
        "rewrite": lambda: {"question": rewrite_question(question, facts, rng), "answer": fluent(facts)},
        "rephrase": lambda: {"answer": rephrase(facts, rng)},
        "revise": lambda: {"facts": revise(question, facts, rng)},
    }
    return serve[task]()


def _rng(task: str, inputs: dict) -> random.Random:
    """Seed from the content of the call alone, so that neither order nor process changes a reply."""
    content = json.dumps([task, inputs], sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return random.Random(int.from_bytes(hashlib.sha256(content.encode("utf-8", "surrogatepass")).digest()[:8]))


def _text(task: str, inputs: dict, field: str) -> str:
    if not isinstance(inputs, dict) or not isinstance(inputs.get(field), str):
        raise ValueError(f"{task}: the input {field!r} is missing or no text.")
    return inputs[field]


def _facts(task: str, inputs: dict) -> list[str]:
    facts = inputs.get("facts")
    if not isinstance(facts, list) or not facts:
        raise ValueError(f"{task}: the input 'facts' is missing or empty.")
    for number, fact in enumerate(facts, start=1):
        if not isinstance(fact, str) or not re.search(r"\w", fact):
            raise ValueError(f"{task}: fact {number} holds no word.")
    return facts
