"""What a user waits for before anything happens: importing the package, and a notebook's kernel and imports.

    python benchmarks/startup.py [--quick]

Beside each notebook stands the least that it could take: papermill and a kernel over an empty cell, in the same run.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from teacher.running import publish
from timing import in_turn, spread

from knowtuning.execute import NOTEBOOKS, source

# one that asks the teacher, one that trains, one that evaluates
SHOWN = ("03_extraction", "08_knowledge_comparison", "09_evaluation")
LIMITS = {"import knowtuning": 0.2, "notebook": 6.0}  # seconds


def main() -> int:
    """Measure, print, and write `benchmarks/results/startup.json`; 1 where a median is above its limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round; writes nothing")
    chosen = parser.parse_args()
    measured = measure(1 if chosen.quick else 3)
    for name, row in measured["seconds"].items():
        print(f"{name:<26} {row['median']:6.2f} s   ({row['min']:.2f} to {row['max']:.2f})")
    if not chosen.quick:
        publish("startup", measured)
    return 0 if measured["within limits"] else 1


def measure(repeats: int) -> dict:
    """Median and spread in seconds of each start, and whether they keep to `LIMITS`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ways = {"python alone": lambda: _python("-c", "")}
        ways["import knowtuning"] = lambda: _python("-c", "import knowtuning")
        cells = {"an empty notebook": ""} | {name: imports(NOTEBOOKS / f"{name}.ipynb") for name in SHOWN}
        for title, code in cells.items():
            path, out = _notebook(folder / f"{title}.ipynb", code), folder / "out.ipynb"
            ways[title] = lambda path=path, out=out: _python("-m", "knowtuning", "execute", str(path), str(out))
        seconds = {title: spread(values) for title, values in in_turn(ways, repeats).items()}
    package = seconds["import knowtuning"]["median"] - seconds["python alone"]["median"]
    slowest = max(seconds[title]["median"] for title in cells)
    return {
        "seconds": seconds,
        "import of the package": package,
        "slowest notebook": slowest,
        "limits": LIMITS,
        "within limits": package < LIMITS["import knowtuning"] and slowest < LIMITS["notebook"],
        "cores": os.cpu_count(),
    }


def imports(path: Path) -> str:
    """The import statements of a notebook's code cells, in their order."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [source(cell) for cell in cells if cell["cell_type"] == "code"]
    found = [node for text in code for node in ast.parse(text).body if isinstance(node, ast.Import | ast.ImportFrom)]
    return "\n".join(map(ast.unparse, found))


def _notebook(path: Path, code: str) -> Path:
    import nbformat
    import nbformat.v4 as v4

    parameters = v4.new_code_cell('recipe: str = "lab"  # none of it is used', metadata={"tags": ["parameters"]})
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    notebook = v4.new_notebook(cells=[parameters, v4.new_code_cell(code)], metadata=kernel)
    path.write_text(nbformat.writes(notebook), encoding="utf-8")
    return path


def _python(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)


if __name__ == "__main__":
    sys.exit(main())
