"""The same calls through Bespoke Curator, to compare the teacher's throughput with: run by the peer's own Python.

    .venv-peer/bin/python benchmarks/teacher/peer.py --base-url http://127.0.0.1:PORT/v1 --prompts prompts.jsonl \
        --output a-new-folder

Each line of the prompts is `{"messages": [...]}`, a chat of the task `extract`. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from datetime import datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

PROCESSES = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
NO_LIMIT = 10**9  # requests or tokens per minute


def main() -> None:
    """Ask every prompt and print rows, seconds (wall and CPU) and peak memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--prompts", type=Path, required=True, help="JSONL file of {'messages': [...]}")
    parser.add_argument("--output", type=Path, required=True, help="folder of the peer's cache; must not exist")
    parser.add_argument("--model", default="english-rules")
    parser.add_argument("--concurrency", type=int, default=64)
    chosen = parser.parse_args()
    if chosen.output.exists():
        parser.error(f"{chosen.output} exists, and its cache would answer; name a new folder")
    chosen.output.mkdir(parents=True)
    keep_to_this_machine(chosen.output)
    print(json.dumps(measure(chosen.base_url, chosen.prompts, chosen.output, chosen.model, chosen.concurrency)))


def keep_to_this_machine(home: Path) -> None:
    """No telemetry, no lists or vocabularies from the network, no proxy, no files outside `home`.

    To be called before the peer is imported.
    """
    [litellm] = find_spec("litellm").submodule_search_locations
    os.environ |= {
        "HOME": str(home.resolve()),
        "NO_PROXY": "127.0.0.1",
        "TELEMETRY_ENABLED": "false",
        "CURATOR_VIEWER": "false",
        "CURATOR_DISABLE_RICH_DISPLAY": "1",
        "TQDM_DISABLE": "1",  # its progress bar costs a fifth of its speed where nobody looks at it
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "TIKTOKEN_CACHE_DIR": f"{litellm}/litellm_core_utils/tokenizers",
        "HF_HUB_OFFLINE": "1",
    }


def measure(base_url: str, prompts: Path, output: Path, model: str, concurrency: int) -> dict:
    """Run all prompts through Curator with structured output and its cache on; numbers of the run."""
    start = time.perf_counter()
    from bespokelabs import curator
    from bespokelabs.curator.request_processor.online.openai_online_request_processor import (
        OpenAIOnlineRequestProcessor,
    )
    from pydantic import BaseModel

    class Facts(BaseModel):
        facts: list[str]

    class Extract(curator.LLM):
        def prompt(self, input: dict) -> list[dict]:
            return input["messages"]

    # Curator first asks for a made-up schema in prose, which a model that only knows its tasks cannot serve.
    OpenAIOnlineRequestProcessor.check_structured_output_support = lambda self: True
    schema = {"name": "extract", "schema": Facts.model_json_schema()}
    llm = Extract(
        model_name=model,
        response_format=Facts,
        backend="openai",
        # Curator calls every schema "output_schema"; the local teacher knows its task by the schema's name
        generation_params={"response_format": {"type": "json_schema", "json_schema": schema}},
        backend_params={
            "base_url": base_url,
            "api_key": "local",
            "max_requests_per_minute": NO_LIMIT,
            "max_tokens_per_minute": NO_LIMIT,
            "max_concurrent_requests": concurrency,
            "require_all_responses": False,
        },
    )
    rows = read_lines(prompts)
    asked, before = time.perf_counter(), cpu_seconds()
    response = llm(rows, working_dir=str(output))
    end = time.perf_counter()
    return {
        "peer": f"bespokelabs-curator {version('bespokelabs-curator')}",
        "rows": len(rows),
        "rows_ok": len(response.dataset),
        "concurrency": concurrency,
        "request_seconds": round(request_seconds(output), 2),
        "call_seconds": round(end - asked, 2),
        "all_seconds": round(end - start, 2),
        "cpu_seconds": round(cpu_seconds() - before, 2),  # of the call, without the imports
        "peak_memory_mb": round(max(resource.getrusage(who).ru_maxrss for who in PROCESSES) / 1024),
    }


def cpu_seconds() -> float:
    """CPU time of this process and its children so far, user and system."""
    used = [resource.getrusage(who) for who in PROCESSES]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def request_seconds(output: Path) -> float:
    """From the first request made to the last reply in, by the times that Curator records with each row."""
    [responses] = output.glob("*/responses_0.jsonl")
    times = read_lines(responses)
    first = min(datetime.fromisoformat(row["created_at"]) for row in times)
    last = max(datetime.fromisoformat(row["finished_at"]) for row in times)
    return (last - first).total_seconds()


def read_lines(path: Path) -> list[dict]:
    """The objects of a JSONL file."""
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


if __name__ == "__main__":
    main()
