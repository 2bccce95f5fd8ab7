"""Running a notebook: parameters are checked, failures are one sentence, outputs are scrubbed and stamped."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from knowtuning.cli import main
from knowtuning.execute import NotebookError, check_parameters, code_hash, execute, read_parameters, scrub
from knowtuning.files import ROOT, DataError

PARAMETERS = 'recipe: str = "lab"  # sizes\nseed: int = 0  # order\nalpha: float = 0.5  # share\nfast: bool = False'


@pytest.fixture
def notebook(tmp_path):
    def write(*cells, parameters=PARAMETERS):
        first = new_code_cell(parameters, metadata={"tags": ["parameters"]})
        path = tmp_path / "10_toy.ipynb"
        language = {"language_info": {"name": "python"}}
        cells = [new_markdown_cell("# Toy"), first, *map(new_code_cell, cells)]
        nbformat.write(new_notebook(cells=cells, metadata=language), path)
        return path

    return write


def test_parameters_are_read_with_their_defaults(notebook):
    assert read_parameters(notebook()) == {"recipe": "lab", "seed": 0, "alpha": 0.5, "fast": False}


def test_values_take_the_declared_type_and_defaults_are_not_injected(notebook):
    values = check_parameters(notebook(), {"seed": "3", "alpha": "1e-4", "fast": "true", "recipe": "lab"})
    assert values == {"seed": 3, "alpha": 1e-4, "fast": True}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"sed": "1"}, "has no parameter 'sed'; it has recipe, seed, alpha, fast."),
        ({"seed": "1.5"}, "seed='1.5' is not of type int."),
        ({"alpha": "half"}, "alpha='half' is not of type float."),
        ({"fast": "1"}, "fast='1' is not of type bool."),
    ],
)
def test_unknown_and_ill_typed_parameters_are_refused(notebook, given, sentence):
    with pytest.raises(DataError, match=sentence.replace(".", r"\.").replace("'", "'")):
        check_parameters(notebook(), given)


def test_a_derived_value_in_the_parameters_cell_is_refused(notebook):
    with pytest.raises(DataError, match="line 2: write"):
        read_parameters(notebook(parameters="seed: int = 0\nother = seed + 1"))


def test_an_executed_notebook_is_clean_and_stamped(notebook, tmp_path):
    path = notebook("print(seed)", "from knowtuning.files import ROOT\nprint(ROOT)")
    done = execute(path, tmp_path / "out" / "10_toy.ipynb", {"seed": "7"})
    cells = nbformat.read(done, 4).cells
    assert [cell.execution_count for cell in cells if cell.cell_type == "code"] == [1, 2, 3, 4]
    assert cells[-2].outputs[0].text == "7\n"
    assert str(ROOT) not in done.read_text()
    metadata = nbformat.read(done, 4).metadata
    assert set(metadata) == {"kernelspec", "language_info", "knowtuning"}
    assert metadata.knowtuning.code == code_hash(path) == code_hash(done)
    assert metadata.knowtuning.parameters.seed == 7


def test_the_stamp_follows_code_and_not_prose(notebook):
    path = notebook("1 + 1")
    before = code_hash(path)
    content = nbformat.read(path, 4)
    content.cells[0].source = "# Other words"
    nbformat.write(content, path)
    assert code_hash(path) == before
    content.cells[-1].source = "1 + 2"
    nbformat.write(content, path)
    assert code_hash(path) != before


def test_a_failing_notebook_is_kept_and_named_in_one_sentence(notebook, tmp_path, capsys):
    path, output = notebook("1 / 0"), tmp_path / "out.ipynb"
    with pytest.raises(NotebookError, match=r"10_toy stopped in cell \[2\]: ZeroDivisionError: division by zero"):
        execute(path, output, {})
    assert not output.exists()
    assert "ZeroDivisionError" in (tmp_path / "out.failed.ipynb").read_text()
    assert main(["execute", str(path), str(output)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("knowtuning: 10_toy stopped") and error.count("\n") == 1


def test_an_unknown_notebook_is_named(capsys):
    assert main(["execute", "99_nothing", "out.ipynb"]) == 1
    assert "notebook 99_nothing does not exist" in capsys.readouterr().err


def test_scrubbing_keeps_what_was_printed():
    output = nbformat.v4.new_output("stream", name="stdout", text=f"saved {ROOT}/runs/x\n")
    notebook = new_notebook(cells=[new_code_cell("x", outputs=[output], metadata={"papermill": {"duration": 1}})])
    scrub(notebook)
    assert notebook.cells[0].outputs[0]["text"] == "saved runs/x\n"
    assert notebook.cells[0].metadata == {}
