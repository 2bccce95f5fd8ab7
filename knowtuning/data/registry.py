"""The named sources of `data/registry.yaml`: where each lies, at which commit, under which licence."""

from __future__ import annotations

import re
from dataclasses import MISSING, dataclass, fields
from functools import cache
from pathlib import Path

import yaml

from knowtuning.files import ROOT, DataError

REGISTRY = ROOT / "data" / "registry.yaml"


@dataclass(frozen=True)
class Source:
    """One entry of the registry.

    `repo` and `revision` (a commit, or None where none could be confirmed) name the dataset on the hub; `files` maps
    each file, or a pattern of files, to its SHA-256 or None; `sizes` are the rows that the paper draws, or None.
    """

    name: str
    about: str
    repo: str
    revision: str | None
    files: dict[str, str | None]
    columns: list[str]
    licence: str
    homepage: str
    citation: str
    paper: str
    sizes: dict[str, int | None]
    confirmed: str
    upstream: str | None = None


@cache
def registry(path: Path = REGISTRY) -> dict[str, Source]:
    """Read the registry into sources by name; an unknown or missing field or a shortened hash raises `DataError`."""
    entries = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    return {name: _source(name, entry, f"{Path(path).name}, {name}") for name, entry in entries.items()}


def _source(name: str, entry: dict, where: str) -> Source:
    known = {field.name: field.default is MISSING for field in fields(Source) if field.name != "name"}
    for field in [*entry, *known]:
        if field not in known or (known[field] and field not in entry):
            what = "missing" if field in known else "unknown"
            raise DataError(f"{where}: field {field!r} is {what}; give {', '.join(known)}.")
    source = Source(name=name, **entry)
    if source.revision is not None and not re.fullmatch("[0-9a-f]{40}", str(source.revision)):
        raise DataError(f"{where}: field 'revision' is {source.revision!r}; give all 40 digits of the commit, or null.")
    for file, digest in source.files.items():
        if digest is not None and not re.fullmatch("[0-9a-f]{64}", str(digest)):
            raise DataError(f"{where}: the SHA-256 of {file} is {digest!r}; give all 64 digits, or null.")
    return source
