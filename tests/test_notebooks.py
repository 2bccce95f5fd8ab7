"""The static contract of the notebooks: what every one of them must hold before it is worth running."""

import ast
import json

import pytest

from knowtuning.execute import NOTEBOOKS, code_hash, read_parameters, source

PATHS = sorted(NOTEBOOKS.glob("[0-9A]*.ipynb"))  # the numbered ones in their order, then the appendices


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def notebook(request):
    return request.param, json.loads(request.param.read_text(encoding="utf-8"))


def code(cells):
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_they_are_numbered_without_a_gap():
    numbered = [path.name[:2] for path in PATHS if path.name[0] != "A"]
    appendices = [path.name[:2] for path in PATHS[len(numbered) :]]
    assert numbered == [f"{number:02d}" for number in range(len(numbered))]
    assert appendices == [f"A{number}" for number in range(1, len(appendices) + 1)]
    assert len(numbered) >= 10


def test_opening_says_question_reads_writes_cost(notebook):
    path, content = notebook
    opening = source(content["cells"][0])
    assert opening.startswith(f"# {path.name[:2]} · ")
    for word in ("**Question**", "**Reads**", "**Writes**", "**Cost**"):
        assert word in opening


def test_parameters_come_first_and_each_says_what_it_does(notebook):
    path, content = notebook
    first = code(content["cells"])[0]
    assert first["metadata"]["tags"] == ["parameters"]
    lines = source(first).splitlines()
    assert len(lines) <= 8
    for line in lines:
        assert line.count("=") == 1 and line.count("  # ") == 1, line
    assert next(iter(read_parameters(path))) == "recipe"


def test_cells_drive_and_the_package_works(notebook):
    _, content = notebook
    functions = 0
    for cell in code(content["cells"]):
        assert len(source(cell).splitlines()) <= 25
        tree = ast.parse(source(cell))
        assert not any(isinstance(node, ast.ClassDef) for node in ast.walk(tree))
        functions += sum(isinstance(node, ast.FunctionDef) for node in ast.walk(tree))
    assert functions <= 1


def test_there_is_more_to_read_than_to_run(notebook):
    _, content = notebook
    prose = [cell for cell in content["cells"] if cell["cell_type"] == "markdown"]
    assert len(prose) >= 5
    text = "\n".join(map(source, prose))
    for word in ("**Toy", "## What was learnt", "**Departure from the paper**", "**Exercises**", "**Next**"):
        assert word in text or (word == "**Toy" and "by hand" in text), word


def test_outputs_are_committed_as_the_runner_wrote_them(notebook):
    path, content = notebook
    cells = code(content["cells"])
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert content["metadata"]["kernelspec"]["name"] == "python3"
    assert path.stat().st_size < 300_000
    kinds = [output["output_type"] for cell in cells for output in cell["outputs"]]
    assert "error" not in kinds
    shown = {kind for cell in cells for output in cell["outputs"] for kind in output.get("data", {})}
    assert not [kind for kind in shown if "widget" in kind], "residue of a progress bar"
    streams = [output for cell in cells for output in cell["outputs"] if output["output_type"] == "stream"]
    assert not [output for output in streams if output["name"] == "stderr"]


def test_stamp_matches_the_code(notebook):
    path, content = notebook
    assert content["metadata"]["knowtuning"]["code"] == code_hash(path), (
        f"{path.name} was changed after it was executed: run `make notebooks`."
    )
    assert content["metadata"]["knowtuning"]["parameters"] == read_parameters(path)


def test_next_links_lead_somewhere(notebook):
    import re

    path, content = notebook
    for cell in content["cells"]:
        for link in re.findall(r"\]\(([^)]+\.ipynb)\)", source(cell)):
            assert (path.parent / link).exists(), link
