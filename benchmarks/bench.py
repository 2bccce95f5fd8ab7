"""All comparisons on the CPU, one after another, and their table: `make bench` (about half an hour on two cores).

    python benchmarks/bench.py [--only training perplexity …] [--table]

Each is a script of its own that writes `results/<name>.json`; the table `results/table.md` is made of those files.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from knowtuning.files import ROOT, read_json, write_text

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
SCRIPTS = {
    "training": ["training/run.py"],
    "perplexity": ["perplexity.py"],
    "generation": ["generation.py"],
    "startup": ["startup.py"],
    "teacher": ["teacher/throughput.py"],
}
COLUMNS = ("what", "against", "ours", "theirs", "ratio", "from", "to", "target")


def main() -> int:
    """Run what is asked for and write the table; 1 where a script failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", choices=SCRIPTS, default=list(SCRIPTS))
    parser.add_argument("--table", action="store_true", help="only make the table of the results that are there")
    chosen = parser.parse_args()
    failed = []
    for name in [] if chosen.table else chosen.only:
        print(f"\n{name}", flush=True)
        if subprocess.run([sys.executable, *SCRIPTS[name]], cwd=HERE).returncode:
            failed.append(name)
    rows = [row for name in SCRIPTS if (RESULTS / f"{name}.json").exists() for row in rows_of(name)]
    print("\n" + markdown(rows))
    path = write_text(RESULTS / "table.md", markdown(rows))
    print(f"-> {path.relative_to(ROOT)}")
    if failed:
        print(f"bench: {', '.join(failed)} failed, or missed what it checks: see above.", file=sys.stderr)
    return 1 if failed else 0


def rows_of(name: str) -> list[dict[str, Any]]:
    """The table's lines of one result file: what, against whom, medians, and the ratio with its spread."""
    return READERS[name](read_json(RESULTS / f"{name}.json"))


def _training(result: dict) -> list[dict]:
    rows = []
    for stage, unit in (("sft", "samples/s"), ("dpo", "pairs/s")):
        speeds = {way: row["samples_per_second"]["median"] for way, row in result["stages"][stage].items()}
        for way, peer, target in (("llamafactory", "LLaMA-Factory 0.9.5", 2), ("trl", "TRL, its defaults", None)):
            other = result["stages"][stage][way]
            rows.append(_row(f"{stage.upper()}, {unit}", peer, speeds["ours"], speeds[way], other["ours_is"], target))
    return rows


def _row(what: str, against: str, ours: float, theirs: float, ratio: dict, target: float | None) -> dict:
    row = {"what": what, "against": against, "ours": ours, "theirs": theirs}
    row |= {"ratio": ratio["median"], "from": ratio["min"], "to": ratio["max"]}
    return row | {"target": f"at least {target}" if target else ""}


def _perplexity(result: dict) -> list[dict]:
    ours = result["facts_per_second"]["ours"]["median"]
    names = {"loop": "evaluate's loop", "loop, each batch to its own longest": "the same, less padding"}
    return [
        _row("perplexity, facts/s", name, ours, result["facts_per_second"][way]["median"], ratio, way == "loop" and 4)
        for way, name in names.items()
        for ratio in [result["times_as_fast_as"][way]]
    ]


def _generation(result: dict) -> list[dict]:
    rows = []
    for decoding in ("greedy", "sampled"):
        ours, theirs = (result[decoding][way]["median"] for way in ("ours", "one by one"))
        rows.append(_row(f"answers/s, {decoding}", "one by one", ours, theirs, result[decoding]["times_as_fast"], 2))
    return rows


def _startup(result: dict) -> list[dict]:
    seconds, names = result["seconds"], {"import knowtuning": "python alone", "an empty notebook": ""}
    rows = []
    for what, spread in seconds.items():
        if what == "python alone":
            continue
        limit = result["limits"]["import knowtuning" if what == "import knowtuning" else "notebook"]
        row = {"what": f"start, s: {what}", "against": names.get(what, "an empty notebook"), "ours": spread["median"]}
        base = seconds[row["against"]]["median"] if row["against"] else None
        row |= {"theirs": base, "ratio": spread["median"] / base if base else None}
        rows.append(row | {"from": None, "to": None, "target": f"under {limit:g} s"})
    return rows


def _teacher(result: dict) -> list[dict]:
    ours, peer = (result[side]["rows_per_second"] for side in ("ours", "theirs"))
    ends = {"min": ours["min"] / peer["max"], "max": ours["max"] / peer["min"]}
    ratio = {"median": ours["median"] / peer["median"], **ends}
    return [_row("teacher's calls, rows/s", "Bespoke Curator", ours["median"], peer["median"], ratio, None)]


def markdown(rows: list[dict[str, Any]]) -> str:
    """The lines as a Markdown table; numbers with three significant digits."""

    def cell(value: Any) -> str:
        return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)

    lines = [COLUMNS, ["---"] * len(COLUMNS), *[[cell(row[column]) for column in COLUMNS] for row in rows]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


READERS = {
    "training": _training,
    "perplexity": _perplexity,
    "generation": _generation,
    "startup": _startup,
    "teacher": _teacher,
}

if __name__ == "__main__":
    sys.exit(main())
