"""Run one notebook headlessly: papermill that refuses wrong parameters, and outputs that are scrubbed and stamped."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import time
from pathlib import Path
from typing import Any

from knowtuning.files import ROOT, DataError, shown, write_text
from knowtuning.progress import FILE_VARIABLE

NOTEBOOKS = ROOT / "notebooks"
SOLUTIONS = NOTEBOOKS / "solutions"  # one per lesson, of the same name; a solution reads a run and writes nothing


class NotebookError(RuntimeError):
    """A notebook that stopped in a cell; the message is one sentence with the cell and its error."""


def source(cell: dict) -> str:
    """Text of a cell, which nbformat stores as a string or as a list of lines."""
    return cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])


def code_hash(path: Path) -> str:
    """Hash of the notebook's code cells: the same for any outputs and any prose, another for any change of code."""
    cells = json.loads(Path(path).read_text(encoding="utf-8"))["cells"]
    code = [source(c) for c in cells if c["cell_type"] == "code" and "injected-parameters" not in _tags(c)]
    return hashlib.sha256("\n\n".join(code).encode()).hexdigest()


def read_parameters(path: Path) -> dict[str, Any]:
    """Names and default values of the cell tagged `parameters`: one `name: type = literal` per line."""
    cells = json.loads(Path(path).read_text(encoding="utf-8"))["cells"]
    cell = next((c for c in cells if "parameters" in _tags(c)), None)
    if cell is None:
        raise DataError(f"{Path(path).name} has no cell tagged 'parameters': tag its first code cell.")
    defaults = {}
    for node in ast.parse(source(cell)).body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name) or node.value is None:
            raise DataError(f"{Path(path).name}, parameters, line {node.lineno}: write `name: type = literal`.")
        defaults[node.target.id] = ast.literal_eval(node.value)
    return defaults


def check_parameters(path: Path, given: dict[str, str]) -> dict[str, Any]:
    """Turn `name=text` pairs into values of the declared types; refuse names and types that do not fit.

    Only values that differ from the notebook's own defaults are returned, so that a run with the defaults executes
    exactly the notebook that stands in the repository.

    Example:
        >>> check_parameters(NOTEBOOKS / "04_difficult_knowledge.ipynb", {"alpha": "0.25"})
        {'alpha': 0.25}
    """
    defaults = read_parameters(path)
    values = {}
    for name, text in given.items():
        if name not in defaults:
            raise DataError(f"{Path(path).name} has no parameter {name!r}; it has {', '.join(defaults)}.")
        kind = type(defaults[name])
        try:
            value = _BOOLEANS[text.lower()] if kind is bool else kind(text)
        except (KeyError, ValueError):
            raise DataError(f"{Path(path).name}: {name}={text!r} is not of type {kind.__name__}.") from None
        if value != defaults[name]:
            values[name] = value
    return values


def execute(notebook: str | Path, output: Path, given: dict[str, str], progress: Path | None = None) -> Path:
    """Execute a notebook with parameters and write it, scrubbed and stamped, to `output`.

    `notebook` is a path or a name in notebooks/ ("04_difficult_knowledge", "solutions/04_difficult_knowledge"). A cell
    that fails raises `NotebookError`, and the executed notebook stays beside `output` as *.failed.ipynb.
    """
    import nbformat
    import papermill
    from papermill.exceptions import PapermillExecutionError

    path = Path(notebook) if Path(notebook).suffix else NOTEBOOKS / f"{notebook}.ipynb"
    if not path.exists():
        raise DataError(f"notebook {notebook} does not exist; notebooks/ has {', '.join(_names())}.")
    values = check_parameters(path, given)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial, failed = output.with_suffix(".partial.ipynb"), output.with_suffix(".failed.ipynb")
    failed.unlink(missing_ok=True)
    # always to a file: a bar drawn in the notebook would stay in its outputs
    progress = progress or output.with_suffix(".progress.json")
    progress.parent.mkdir(parents=True, exist_ok=True)
    os.environ[FILE_VARIABLE] = str(progress.resolve())
    start = time.time()
    try:
        papermill.execute_notebook(
            str(path),
            str(partial),
            values,
            kernel_name="python3",
            cwd=str(NOTEBOOKS),
            progress_bar=False,
            extra_arguments=["--log-level=ERROR"],  # the kernel warns of its sockets, which are of this machine only
        )
    except PapermillExecutionError as error:
        os.replace(partial, failed)
        raise NotebookError(
            f"{path.stem} stopped in cell [{error.exec_count}]: {error.ename}: {_one_line(error.evalue)} "
            f"(the executed notebook is {shown(failed)})"
        ) from None
    done = nbformat.read(partial, as_version=4)
    scrub(done)
    done.metadata["knowtuning"] = {
        "code": code_hash(path),
        "parameters": {**read_parameters(path), **values},
        "seconds": round(time.time() - start),
    }
    write_text(output, nbformat.writes(done) + "\n")
    partial.unlink()
    progress.unlink(missing_ok=True)
    return output


def scrub(notebook: Any) -> None:
    """Take out of an executed notebook what belongs to one machine or one moment: paths, times, papermill's marks."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:02d}"
        tags = cell.metadata.get("tags", [])
        cell.metadata = {"tags": tags} if tags else {}
        for output in cell.get("outputs", []):
            output.pop("metadata", None) if output["output_type"] in ("stream", "error") else output.update(metadata={})
            if "text" in output:
                output["text"] = _without_paths(output["text"])
            for kind, data in output.get("data", {}).items():
                if kind.startswith("text/"):
                    output["data"][kind] = _without_paths(data)


_BOOLEANS = {"true": True, "false": False}


def _tags(cell: dict) -> list[str]:
    return cell.get("metadata", {}).get("tags", [])


def _names() -> list[str]:
    return sorted(path.stem for path in NOTEBOOKS.glob("[0-9A]*.ipynb"))


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def _without_paths(text: str) -> str:
    return text.replace(f"{ROOT}/", "").replace(str(ROOT), ".").replace(str(Path.home()), "~")
