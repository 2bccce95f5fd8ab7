"""What an endpoint can do with a model: found out once by asking, and remembered beside the cache."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from knowtuning.files import DataError, read_json, write_json
from knowtuning.teacher.prompts import Task, messages, response_format

STRUCTURED = ("json_schema", "json_object", "text")
CAPS = ("max_completion_tokens", "max_tokens", None)


@dataclass(frozen=True)
class Features:
    """How one model is to be asked: the strongest form of structured reply, the name of the cap, whether it samples.

    `proven`: a reply came back in this form, so that nothing is left to find out.
    """

    structured: str = "json_schema"
    cap: str | None = "max_completion_tokens"
    temperature: bool = True
    proven: bool = False

    def body(self, task: Task, inputs: dict, model: str, max_tokens: int, sampling: dict) -> dict:
        """The JSON body of one call in the form that the model understands."""
        body = {"model": model, "messages": messages(task, inputs, self.structured)}
        if (form := response_format(task, self.structured)) is not None:
            body["response_format"] = form
        if self.cap is not None:
            body[self.cap] = max_tokens
        return body | (sampling if self.temperature else {})

    def without(self, parameter: str) -> Features | None:
        """The next form to try when `parameter` was refused; None where nothing is left to give up.

        >>> Features().without("response_format").structured, Features().without("max_completion_tokens").cap
        ('json_object', 'max_tokens')
        """
        if parameter == "response_format" and self.structured != STRUCTURED[-1]:
            return replace(self, structured=STRUCTURED[STRUCTURED.index(self.structured) + 1])
        if parameter == self.cap and parameter is not None:
            return replace(self, cap=CAPS[CAPS.index(self.cap) + 1])
        if parameter == "temperature" and self.temperature:
            return replace(self, temperature=False)
        return None


def load_features(path: Path, endpoint: str, model: str) -> Features:
    """What was found out about a model earlier; the defaults of today's OpenAI where nothing was."""
    known = read_json(path) if path.exists() else {}
    try:
        return Features(**known.get(f"{endpoint} {model}", {}))
    except (TypeError, AttributeError):
        raise DataError(f"{path} does not fit {model}: remove the file, what it holds is found out anew.") from None


def save_features(path: Path, endpoint: str, model: str, features: Features) -> None:
    """Remember what was found out; what is known of other models stays."""
    known = read_json(path) if path.exists() else {}
    write_json(path, known | {f"{endpoint} {model}": asdict(features)})
