"""From a question and an answer to token ids: the one place where a prompt becomes a sequence."""

from __future__ import annotations

from typing import Any

from knowtuning.data.records import prompt_text


def encode(tokenizer: Any, question: str, answer: str, end: bool = False) -> tuple[list[int], list[int]]:
    """Return (prompt ids, answer ids); the prompt begins with the start token where the tokenizer has one.

    Args:
        question: an empty question leaves only the start token, so that `answer` is scored unconditionally.
        end: append the end token to the answer, as training does.
    """
    prompt = tokenizer(prompt_text(question) if question else "", add_special_tokens=False)["input_ids"]
    if tokenizer.bos_token_id is not None:
        prompt = [tokenizer.bos_token_id, *prompt]
    completion = tokenizer(answer, add_special_tokens=False)["input_ids"]
    return prompt, completion + [tokenizer.eos_token_id] if end else completion


def fit(prompt: list[int], completion: list[int], max_length: int) -> tuple[list[int], list[int], bool]:
    """Cut a sequence that is too long; the third value says whether it was cut.

    The answer loses its end. A question that would leave it less than a quarter of the room loses its beginning, so
    that the end of the prompt, which asks for the answer, and some of the answer are always there.
    """
    if len(prompt) + len(completion) <= max_length:
        return prompt, completion, False
    prompt = prompt[-(max_length - min(len(completion), max_length // 4)) :]
    return prompt, completion[: max_length - len(prompt)], True
