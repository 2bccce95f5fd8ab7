"""Pictures in words: a figure of a notebook gets the first sentence of the function that drew it, and its section."""

import ast
import re

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform

from knowtuning.files import ROOT


def drawn_by() -> dict[str, str]:
    """What each function of the two `figures` draws, in one sentence: the first of its docstring."""
    sentences = {}
    for path in [*sorted((ROOT / "knowtuning" / "figures").glob("*.py")), ROOT / "study" / "figures.py"]:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and (told := ast.get_docstring(node)):
                sentences[node.name] = re.split(r"(?<=\.)\s", " ".join(told.split()))[0]
    return sentences


class FigureText(SphinxPostTransform):
    """Give every picture among a cell's outputs a text."""

    default_priority = 5

    def run(self, **kwargs):
        cells = [node for node in self.document.findall(nodes.container) if node.get("nb_element") == "cell_code"]
        sentences = drawn_by() if cells else {}
        for cell in cells:
            code = next((block.astext() for block in cell.findall(nodes.literal_block)), "")
            called = [sentences[name] for name in re.findall(r"figures\.(\w+)\(", code) if name in sentences]
            for picture in cell.findall(nodes.image):
                picture.setdefault("alt", " ".join([*called, f"Drawn in the section “{_section(cell)}”."]))


def _section(node: nodes.Node) -> str:
    while node.parent is not None:
        node = node.parent
        if isinstance(node, nodes.section):
            return node[0].astext()
    return "start"


def setup(app):
    app.add_post_transform(FigureText)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
