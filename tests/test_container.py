"""The container's recipe and the page about it: files that exist, the lock, no rights; the image is not built here."""

import re

from knowtuning.files import ROOT

RECIPE = (ROOT / "Containerfile").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "container.md").read_text(encoding="utf-8")
STEPS = [
    re.split(r"\s+", step, maxsplit=1)
    for step in re.sub(r"\\\n\s*", "", RECIPE).splitlines()
    if step and not step.startswith("#")
]


def ignored():
    return [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line]


def test_the_instructions_are_those_of_a_recipe():
    assert STEPS[0] == ["FROM", "python:3.11-slim"]
    assert {word for word, _ in STEPS} == {"FROM", "RUN", "USER", "WORKDIR", "COPY", "EXPOSE", "CMD", "ARG"}


def test_what_is_copied_is_there_and_not_ignored():
    for word, rest in STEPS:
        if word == "COPY":
            *sources, target = [part for part in rest.split() if not part.startswith("--")]
            for name in sources:
                assert (ROOT / name).exists() and name.split("/")[0] not in ignored(), name


def test_the_lock_is_installed_pytorch_first():
    installs = re.findall(
        r"pip install --no-cache-dir (.*?)(?: &&|$)", "\n".join(" ".join(step) for step in STEPS), re.M
    )
    assert all(install.startswith("-c constraints.txt ") for install in installs)
    assert [install.split()[-1] for install in installs] == ["torch", "'.[all,test]'"]
    assert "TORCH_INDEX" in installs[0] and "TORCH_INDEX" not in installs[1]
    assert dict(STEPS)["ARG"] == 'TORCH_INDEX=""' and "--build-arg TORCH_INDEX=" in PAGE
    assert "-c constraints.txt -e '.[all,test]'" in (ROOT / "Makefile").read_text()


def test_nothing_runs_with_rights():
    words = [word for word, _ in STEPS]
    assert dict(STEPS)["USER"] == "reader"
    assert all("apt-get" in rest or "useradd" in rest for word, rest in STEPS[: words.index("USER")] if word == "RUN")
    assert all(rest.startswith("--chown=reader ") for word, rest in STEPS if word == "COPY")


def test_it_opens_jupyterlab_on_the_port_that_the_page_names():
    steps = dict(STEPS)
    assert steps["EXPOSE"] == "8888" and '"lab"' in steps["CMD"] and '"--port=8888"' in steps["CMD"]
    assert "-p 127.0.0.1:8888:8888" in PAGE and "-p 127.0.0.1:8888:8888" in RECIPE
    assert f"{steps['WORKDIR']}/runs" in PAGE


def test_the_context_leaves_out_what_the_image_makes_itself():
    assert {".git", ".venv*", "runs"} <= set(ignored())


def test_the_page_tells_the_largest_peak_of_the_notebooks():
    peaks = [
        float(peak)
        for path in (ROOT / "notebooks").glob("[0-9]*.ipynb")
        for peak in re.findall(r"peak memory (\d+\.\d) GB", path.read_text(encoding="utf-8"))
    ]
    assert f"more than {max(peaks)} GB" in PAGE and max(peaks) < 2
