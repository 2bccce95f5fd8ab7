"""The contract of notebooks/solutions/: one notebook per lesson, a section per exercise, over a run that is only read.

A lesson ends with a markdown cell in which `**Exercises** ([solutions](solutions/NN_name.ipynb))` stands above a
numbered list. Its solutions have the same file name, and in order

    # Solutions · NN Title          what they belong to, with a link back to the lesson
    parameters                      `recipe` first, then `seed`; no more than three
    ## 1 · short name               the exercise in a sentence or two
    code                            which solves it on the run's artefacts, and prints or asserts the answer
    markdown                        what the answer means
    ## 2 · …

A solution reads through `Run.read` and `Run.need`; what it makes stays in memory or in a temporary folder (a teacher's
cache too: `open_teacher(…, Path(folder))`). It never calls `write`, `wrote`, `figure` or `finish` of the run.
test_walk.py executes all of them at recipe smoke, and `make solutions` at recipe lab.
"""

import ast
import json
import re

import pytest

from knowtuning.execute import NOTEBOOKS, SOLUTIONS, code_hash, read_parameters, source
from knowtuning.files import DataError
from study import publish

PATHS = sorted(SOLUTIONS.glob("*.ipynb"))
LESSONS = sorted(NOTEBOOKS.glob("[0-9A]*.ipynb"))
HEADING = re.compile(r"^## (\d+) · \S", re.M)
WRITERS = {"write", "wrote", "figure", "finish"}


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def solution(request):
    return request.param, json.loads(request.param.read_text(encoding="utf-8"))


def code(cells):
    return [cell for cell in cells if cell["cell_type"] == "code"]


def exercises(lesson):
    """The numbers of a lesson's exercises, and the text that links their solutions."""
    cells = json.loads(lesson.read_text(encoding="utf-8"))["cells"]
    [text] = [source(cell) for cell in cells if "**Exercises**" in source(cell)]
    listed = text.partition("**Exercises**")[2].partition("**Next**")[0]
    return [int(number) for number in re.findall(r"^(\d+)\. ", listed, re.M)], listed


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_every_lesson_has_two_or_three_exercises_and_links_their_solutions(lesson):
    numbers, text = exercises(lesson)
    assert numbers in ([1, 2], [1, 2, 3])
    assert f"([solutions](solutions/{lesson.name}))" in text
    assert (SOLUTIONS / lesson.name).exists()


def test_every_solution_belongs_to_a_lesson():
    assert {path.name for path in PATHS} <= {path.name for path in LESSONS}


def test_it_opens_with_its_lesson_and_its_parameters(solution):
    path, content = solution
    opening = source(content["cells"][0])
    assert opening.startswith(f"# Solutions · {path.name[:2]} ")
    assert f"](../{path.name})" in opening
    first = code(content["cells"])[0]
    assert first["metadata"]["tags"] == ["parameters"]
    assert 1 <= len(read_parameters(path)) <= 3 and next(iter(read_parameters(path))) == "recipe"
    assert all(line.count("  # ") == 1 for line in source(first).splitlines())


def test_each_exercise_has_its_section_with_an_answer_and_what_it_means(solution):
    path, content = solution
    sections = []
    for cell in content["cells"]:
        if cell["cell_type"] == "markdown" and HEADING.search(source(cell)):
            sections.append([])
        if sections:
            sections[-1].append(cell)
    numbers = [int(HEADING.search(source(section[0]))[1]) for section in sections]
    assert numbers == exercises(NOTEBOOKS / path.name)[0]
    for number, section in zip(numbers, sections, strict=True):
        assert len(source(section[0]).partition("\n")[2].split()) >= 5, f"exercise {number} is not repeated"
        cells = code(section)
        answered = [cell for cell in cells if cell["outputs"] or "assert " in source(cell)]
        assert answered, f"exercise {number} has no printed or asserted answer"
        assert section[-1]["cell_type"] == "markdown", f"exercise {number} does not say what its answer means"


def test_it_writes_nothing_of_the_run(solution):
    _, content = solution
    for cell in code(content["cells"]):
        for node in ast.walk(ast.parse(source(cell))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "run":
                assert node.attr not in WRITERS, f"run.{node.attr} changes a finished run"


def test_its_cells_are_short(solution):
    _, content = solution
    for cell in code(content["cells"]):
        assert len(source(cell).splitlines()) <= 25
        assert not any(isinstance(node, ast.ClassDef) for node in ast.walk(ast.parse(source(cell))))


def test_it_is_committed_as_the_runner_wrote_it(solution):
    path, content = solution
    cells = code(content["cells"])
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert content["metadata"]["knowtuning"]["code"] == code_hash(path), (
        f"{path.name} was changed after it was executed: run `make solutions` and `python -m study publish`."
    )
    assert content["metadata"]["knowtuning"]["parameters"] == read_parameters(path)
    assert path.stat().st_size < 300_000
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]


def test_its_links_lead_somewhere(solution):
    path, content = solution
    for cell in content["cells"]:
        for link in re.findall(r"\]\(([^):#]+)(?:#[^)]*)?\)", source(cell)):
            assert (path.parent / link).exists(), link


@pytest.fixture
def one_solution(tmp_path, monkeypatch):
    """A repository with one solution and no lesson, and the place where a run of recipe lab has its executed copy."""
    path = PATHS[0]
    for name in ("NOTEBOOKS", "SOLUTIONS"):
        monkeypatch.setattr(publish, name, tmp_path / name.lower())
    monkeypatch.setattr(publish, "ROOT", tmp_path)
    copy = tmp_path / "runs" / "lab" / "seed-0" / "solutions" / path.name
    for place in (tmp_path / "solutions" / path.name, copy):
        place.parent.mkdir(parents=True)
        place.write_bytes(path.read_bytes())
    return tmp_path / "solutions" / path.name, copy


def test_publishing_takes_the_executed_solution_of_the_run(one_solution, capsys):
    committed, copy = one_solution
    copy.write_text(copy.read_text().replace("# Solutions", "# Executed anew: solutions", 1))
    publish.publish_run("lab")
    assert committed.read_bytes() == copy.read_bytes() and committed.name in capsys.readouterr().out


def test_publishing_refuses_a_solution_whose_code_was_changed_since(one_solution):
    committed, copy = one_solution
    before = committed.read_text().replace("from knowtuning", "from  knowtuning", 1)
    committed.write_text(before)
    with pytest.raises(DataError, match="was not executed as .* stands now"):
        publish.publish_run("lab")
    assert committed.read_text() == before
