"""The server of the benchmarks: OpenAI's protocol over a model that costs nearly nothing: the client is measured.

    python benchmarks/teacher/server.py --delay 0.1

prints its address and ends when its standard input closes. All options are those of `knowtuning serve`.
"""

from __future__ import annotations

import argparse
import re

from knowtuning.teacher.server import run_server
from knowtuning.teacher.serving.options import add_arguments, from_arguments

_END = re.compile(r"(?<=[.!?])\s+")


def sentences(task: str, inputs: dict) -> dict:
    """Replies of the right form and a realistic length: sentences as facts, facts as answers."""
    if task == "extract":
        return {"facts": [part for part in _END.split(inputs["answer"]) if part.strip()] or ["Nothing is said."]}
    text = " ".join(inputs["facts"])
    if task == "rewrite":
        return {"question": f"In particular: {inputs['question']}", "answer": text}
    if task == "rephrase":
        return {"answer": f"In short: {text}"}
    return {"facts": [f"It is wrong that {fact}" for fact in inputs["facts"]]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser)
    run_server({"sentences": sentences}, options=from_arguments(parser.parse_args()))
