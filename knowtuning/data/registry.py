"""The named sources of `data/registry.yaml`: where each lies, at which commit, under which licence."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from knowtuning.files import ROOT, DataError

REGISTRY = ROOT / "data" / "registry.yaml"


class Source(BaseModel):
    """One entry of the registry.

    `repo` and `revision` (a commit, or None where none could be confirmed) name the dataset on the hub; `files` maps
    each file, or a pattern of files, to its SHA-256 or None; `sizes` are the rows that the paper draws, or None.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    about: str
    repo: str
    revision: Annotated[str, Field(pattern="^[0-9a-f]{40}$")] | None
    files: dict[str, Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None]
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
    sources = {}
    for name, entry in yaml.safe_load(Path(path).read_text(encoding="utf-8")).items():
        try:
            sources[name] = Source(name=name, **entry)
        except ValidationError as error:
            [first, *_] = error.errors(include_url=False)
            what = {"missing": "missing", "extra_forbidden": "unknown"}.get(first["type"])
            what = what or f"{first['input']!r}; {first['msg'][0].lower()}{first['msg'][1:]}"
            field = ".".join(map(str, first["loc"]))
            raise DataError(f"{Path(path).name}, {name}: field {field!r} is {what}.") from None
    return sources
