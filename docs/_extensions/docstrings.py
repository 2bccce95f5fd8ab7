"""Docstrings are written to be read in the source; a few signs in them mean something else to Sphinx."""

import re

CODE = re.compile(r"(``.+?``|`[^`]+`)", re.S)
EXAMPLE = re.compile(r"(^ *>>> .*\n(?:.*\S.*(?:\n|$))*)", re.M)
ROW = re.compile(r"^( *)(\w[\w%, ]*?) {2,}(\S.*)$")  # name, two spaces or more, what it is
LIST = re.compile(r"((?:^( *)\* .*(?:\n|$)(?:^\2 +.*(?:\n|$))*)+)", re.M)


def adapt(app, what, name, obj, options, lines):
    """Keep lists, columns of names and `code` what they are, and stars and bars in plain text plain."""
    lines[:] = "".join(_adapted(part) for part in EXAMPLE.split("\n".join(lines))).split("\n")


def _adapted(text: str) -> str:
    if EXAMPLE.fullmatch(text):
        return text
    spaced = LIST.sub(r"\n\1\n", "\n".join(_items(text.split("\n"))))
    return "".join(_code(part) if CODE.fullmatch(part) else _plain(part) for part in CODE.split(spaced))


def _items(lines: list[str]):
    """Columns of names and what they are, as items of a list; the lines that go on below stay in their item."""
    inside = None
    for line in lines:
        if row := ROW.match(line):
            inside = len(row[1])
            yield f"{row[1]}* **{row[2]}** – {row[3]}"  # a colon would be napoleon's
        elif inside is not None and line.strip() and len(line) - len(line.lstrip()) > inside + 4:
            yield f"{' ' * inside}  {line.lstrip()}"
        else:
            inside = None
            yield line


def _code(text: str) -> str:
    return text if text.startswith("``") else f"`{' '.join(text.split())}`"


def _plain(text: str) -> str:
    """Escape what would be emphasis, a substitution or a reference; stars of items and of our own bold stay."""
    text = re.sub(r"(\w)_(?=\W|$)", r"\1\\_", text)
    return re.sub(r"(^ *\* (?:\*\*.*?\*\*)?)|([*|])", lambda found: found[1] or f"\\{found[2]}", text, flags=re.M)


def setup(app):
    # before napoleon, which writes stars of its own
    app.connect("autodoc-process-docstring", adapt, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
