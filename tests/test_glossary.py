"""The glossary: in order, short, and joined to the notebooks both ways."""

import json
import re

import pytest

from knowtuning.execute import NOTEBOOKS, source
from knowtuning.files import ROOT

GLOSSARY = ROOT / "docs" / "glossary.md"
TEXT = GLOSSARY.read_text(encoding="utf-8")
ENTRIES = re.findall(r"^### (.+)\n(.+)$", TEXT, re.M)
LINK = re.compile(r"\]\(([^()\s]*)#([^()\s]+)\)")


def slug(heading):
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def pages():
    """Every text that may link to a term, by its path."""
    texts = {path: path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *(ROOT / "docs").glob("**/*.md")]}
    for path in NOTEBOOKS.glob("**/*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        texts[path] = "\n".join(source(cell) for cell in cells if cell["cell_type"] == "markdown")
    return texts


def links():
    """(page, anchor) of every link to a term."""
    for page, text in pages().items():
        for target, anchor in LINK.findall(text):
            if (page if not target else (page.parent / target).resolve()) == GLOSSARY:
                yield page, anchor


def test_the_slug_is_githubs():
    assert slug("Krippendorff's alpha") == "krippendorffs-alpha"
    assert slug("Beta (share deleted)") == "beta-share-deleted"
    assert slug("Top-p") == "top-p"


def test_terms_stand_in_the_order_of_the_alphabet_and_once():
    terms = [term.lower() for term, _ in ENTRIES]
    assert terms == sorted(set(terms)) and len(terms) > 70
    assert len(terms) == TEXT.count("\n### ")


@pytest.mark.parametrize(("term", "text"), ENTRIES, ids=[term for term, _ in ENTRIES])
def test_a_term_is_told_in_a_few_words_and_with_its_notebook(term, text):
    assert len(text.split()) <= 90
    assert re.search(r"\]\(\.\./notebooks/\w+\.ipynb\)", text), f"{term} does not say where it is met"


def test_every_link_meets_a_term():
    anchors = {slug(term) for term, _ in ENTRIES}
    astray = {(page.name, anchor) for page, anchor in links() if anchor not in anchors}
    assert not astray


def test_every_term_is_linked():
    linked = {anchor for _, anchor in links()}
    unused = [term for term, _ in ENTRIES if slug(term) not in linked]
    assert not unused
