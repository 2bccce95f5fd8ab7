"""The book builds without a warning, holds every page, asks no other host, and can be searched."""

import json
import re
import subprocess
import sys

import pytest
from bs4 import BeautifulSoup

from knowtuning.execute import NOTEBOOKS
from knowtuning.files import ROOT


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """The book, built as `make book` does it, into a folder of its own."""
    folder = tmp_path_factory.mktemp("book") / "site"
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-c",
        "docs",
        "-b",
        "html",
        "-W",
        "--keep-going",
        "-n",
        "-q",
        ".",
        folder,
    ]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def pages(book):
    paths = [path for path in book.rglob("*.html") if not path.relative_to(book).parts[0].startswith("_")]
    return {
        path.relative_to(book).as_posix(): BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        for path in paths
    }


def test_every_notebook_and_every_page_is_in_it_and_in_the_menu(pages):
    sources = [*NOTEBOOKS.rglob("*.ipynb"), *(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "LOG.md"]
    names = {
        path.relative_to(ROOT).with_suffix(".html").as_posix() for path in sources if "checkpoints" not in str(path)
    }
    assert len(names) > 40
    assert names <= set(pages)
    linked = {link["href"].removeprefix("../") for link in pages["docs/notebooks.html"].select("article a[href]")}
    for path in NOTEBOOKS.glob("*.ipynb"):
        assert f"notebooks/{path.stem}.html" in linked


def test_committed_outputs_are_shown_as_html(pages):
    outputs = pages["notebooks/00_base_model.html"].select(".cell_output")
    assert any(output.find("table") for output in outputs)
    assert any(output.find("img") for output in outputs)


def test_no_page_loads_anything_from_another_host(book, pages):
    loads = [
        ("script", "src"),
        ("link", "href"),
        ("img", "src"),
        ("iframe", "src"),
        ("source", "src"),
        ("object", "data"),
    ]
    for name, page in pages.items():
        for tag, field in loads:
            for found in page.find_all(tag, attrs={field: True}):
                assert not re.match(r"(https?:)?//", found[field]), f"{name} loads {found[field]}"
        assert not page.find("script", string=re.compile(r"https?://")), name
    for sheet in (book / "_static").rglob("*.css"):
        assert not re.search(r"(url\(|@import\s*)[\"']?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet.name


def test_no_page_carries_a_path_of_this_machine(pages):
    for name, page in pages.items():
        assert str(ROOT) not in str(page), name


def test_pictures_have_words(pages):
    for name, page in pages.items():
        for picture in page.select("article img"):
            assert picture.get("alt", "").strip(), f"{name}: {picture['src'][:80]}"


def test_a_figure_of_a_notebook_says_what_it_shows(pages):
    said = [picture["alt"] for picture in pages["notebooks/08_knowledge_comparison.html"].select(".cell_output img")]
    assert any("Reward margin and accuracy of DPO" in words for words in said)


def test_mathematics_comes_from_the_book_itself(book, pages):
    scripts = [script["src"] for script in pages["docs/method.html"].find_all("script", src=True)]
    [mathjax] = [source for source in scripts if "mathjax" in source]
    assert (book / "docs" / mathjax.split("?")[0]).resolve().is_file()


def test_every_module_with_something_to_say_is_in_the_reference():
    said = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "api").glob("*.md"))
    for path in (ROOT / "knowtuning").rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if not any(part.startswith("_") for part in path.relative_to(ROOT).with_suffix("").parts):
            assert f".. automodule:: {module}\n" in said, f"{module} is missing: add it to a page of docs/api"


def test_search_knows_the_terms_of_the_field(book):
    index = (book / "searchindex.js").read_text(encoding="utf-8")
    found = json.loads(re.fullmatch(r"Search\.setIndex\((.*)\)", index, re.S)[1])
    for term in ("perplex", "adapt", "dpo", "complet", "margin"):  # stems
        assert term in found["terms"], term
    assert "docs/index" in found["docnames"]


def test_the_folder_opens_at_its_top(book):
    assert 'url=docs/index.html"' in (book / "index.html").read_text(encoding="utf-8")
