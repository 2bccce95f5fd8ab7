"""The command line of the endpoints (see `__init__`)."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from endpoints.app import build_endpoint  # noqa: E402
from endpoints.options import add_arguments, from_arguments  # noqa: E402
from knowtuning.teacher.server import load_model, run_server  # noqa: E402

_END = re.compile(r"(?<=[.!?])\s+")


def sentences(task: str, inputs: dict) -> dict:
    """Replies of the right form and a realistic length for nearly nothing: sentences as facts, facts as answers."""
    if task == "extract":
        return {"facts": [part for part in _END.split(inputs["answer"]) if part.strip()] or ["Nothing is said."]}
    text = " ".join(inputs["facts"])
    if task == "rewrite":
        return {"question": f"In particular: {inputs['question']}", "answer": text}
    if task == "rephrase":
        return {"answer": f"In short: {text}"}
    return {"facts": [f"It is wrong that {fact}" for fact in inputs["facts"]]}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python tests/endpoints", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="sentences", help="sentences (costs nothing), or one of knowtuning serve")
    parser.add_argument("--settings", default="lab", help="the lab that the oracle knows: lab or smoke")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    add_arguments(parser)
    chosen = parser.parse_args()
    model = sentences if chosen.model == "sentences" else load_model(chosen.model, chosen.settings)
    run_server(build_endpoint({chosen.model: model}, from_arguments(chosen)), chosen.port)
