"""Metrics as local modules of Hugging Face `evaluate`: a file each, loaded from here and never from the hub."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any


@cache
def load_module(name: str, *needs: str) -> Any:
    """Load the `evaluate` module `name`.py beside this file, offline.

    `needs` are the packages that it imports; a missing one raises `ModuleNotFoundError` with the extra to install.
    """
    missing = [package for package in ("evaluate", *needs) if find_spec(package) is None]
    if missing:
        raise ModuleNotFoundError(
            f"{name} needs {', '.join(missing)}: pip install 'knowtuning[evaluate]', or choose a recipe without it."
        )
    import evaluate

    # in memory: no score file that another run could meet
    return evaluate.load(str(Path(__file__).parent / f"{name}.py"), keep_in_memory=True)


def check_rows(metric: str, predictions: Sequence[str], references: Sequence[str]) -> None:
    """Raise `ValueError` where answers and references do not go together."""
    if len(predictions) != len(references):
        raise ValueError(f"{metric} needs one reference per answer; got {len(predictions)} and {len(references)}.")
    if not len(predictions):
        raise ValueError(f"{metric} needs at least one answer; got none.")
