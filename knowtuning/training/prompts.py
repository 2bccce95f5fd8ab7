"""From a question and an answer to token ids: the one place where a prompt becomes a sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from knowtuning.data.records import prompt_text

# Alpaca's opening sentences
SYSTEM = "Below is an instruction that describes a task. Write a response that appropriately completes the request."


@dataclass(frozen=True)
class PromptForm:
    """How a question becomes a prompt.

    Args:
        before: texts before the question's own part. Each is tokenised apart from its neighbours, as llmtuner does:
            where two of them meet, a tokenizer that marks the beginning of a text gives other ids than for the whole.
        start_token: whether the prompt begins with the start token, where the tokenizer has one.
        cut: what is left of a sequence that is too long: "answer" cuts the answer's end and keeps the prompt's, which
            asks for it; "both" cuts both ends by the same share, as llmtuner does, and so loses "### Response:".
    """

    before: tuple[str, ...] = ()
    start_token: bool = True
    cut: str = "answer"


PROMPTS = {
    "plain": PromptForm(),
    "llmtuner-0.5.3": PromptForm((SYSTEM,), start_token=False, cut="both"),
    "llmtuner-0.3.3": PromptForm((SYSTEM, "\n\n"), cut="both"),
    # the base's own chat template takes the place of the Alpaca prompt
    "chat": PromptForm(),
}


def use_form(tokenizer: Any, name: str) -> Any:
    """Let `encode` and `fit` give prompts of this form for the tokenizer; returns it.

    Raises:
        ValueError: an unknown form, or "chat" for a tokenizer without a chat template.
    """
    if name not in PROMPTS:
        raise ValueError(f"prompt form {name!r} is unknown; use one of {', '.join(PROMPTS)}.")
    if name == "chat" and not tokenizer.chat_template:
        raise ValueError("prompt form 'chat': the base's tokenizer has no chat template; use another form.")
    tokenizer.prompt_form = name
    return tokenizer


def encode(tokenizer: Any, question: str, answer: str, end: bool = False) -> tuple[list[int], list[int]]:
    """Return (prompt ids, answer ids) in the tokenizer's prompt form.

    Args:
        question: an empty question leaves only the start token, so that `answer` is scored unconditionally.
        end: append the end token to the answer, as training does.
    """
    completion = _ids(tokenizer, answer)
    return encode_prompt(tokenizer, question), completion + [tokenizer.eos_token_id] if end else completion


def fit(prompt: list[int], completion: list[int], max_length: int, cut: str = "answer") -> tuple[list, list, bool]:
    """Cut a sequence that is too long, in one of the ways of `PromptForm`; the third value says whether it was cut.

    "answer": the answer loses its end. A question that would leave it less than a quarter of the room loses its
    beginning, so that the end of the prompt, which asks for the answer, and some of the answer are always there.

    Example:
        >>> fit([1, 2, 3, 4], [5, 6, 7, 8], 6)
        ([1, 2, 3, 4], [5, 6], True)
        >>> fit([1, 2, 3, 4], [5, 6, 7, 8], 6, cut="both")
        ([1, 2, 3], [5, 6, 7], True)
    """
    if len(prompt) + len(completion) <= max_length:
        return prompt, completion, False
    if cut == "both":
        kept = max(1, int(max_length * len(completion) / (len(prompt) + len(completion))))
        return prompt[: max_length - kept], completion[:kept], True
    prompt = prompt[-(max_length - min(len(completion), max_length // 4)) :]
    return prompt, completion[: max_length - len(prompt)], True


def encode_within(tokenizer: Any, question: str, answer: str, max_length: int) -> tuple[list[int], list[int], bool]:
    """Prompt and answer with its end token, cut to `max_length` in the tokenizer's form; whether they were cut."""
    prompt, completion = encode(tokenizer, question, answer, end=True)
    return fit(prompt, completion, max_length, _form(tokenizer).cut)


def encode_prompt(tokenizer: Any, question: str) -> list[int]:
    """The prompt ids of `encode`, for a caller who has no answer."""
    return encode_prompts(tokenizer, [question])[0]


def encode_prompts(tokenizer: Any, questions: Sequence[str]) -> list[list[int]]:
    """The prompt ids of many questions: one call of the tokenizer takes a fraction of the time of one for each."""
    form = _form(tokenizer)
    if form is PROMPTS["chat"]:
        turns = [[{"role": "user", "content": question}] for question in questions if question]
        asked = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False) if turns else []
        before = []
    else:
        texts = [prompt_text(question) for question in questions if question]
        asked = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
        before = _start(tokenizer) if form.start_token else []
        before = before + [token for text in form.before for token in _ids(tokenizer, text)]
    prompts = iter(asked)
    return [before + next(prompts) if question else _start(tokenizer) for question in questions]


def _start(tokenizer: Any) -> list[int]:
    return [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]


def _form(tokenizer: Any) -> PromptForm:
    return PROMPTS[getattr(tokenizer, "prompt_form", "plain")]


def _ids(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]
