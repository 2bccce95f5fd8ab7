"""Metrics as local modules of Hugging Face `evaluate`: a folder each, loaded from here and never from the hub."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any


def load_module(name: str, needs: tuple[str, ...]) -> Any:
    """Load the `evaluate` module in the folder `name` beside this file, offline.

    `needs` are the packages that it imports; a missing one raises `ModuleNotFoundError` with the extra to install.
    """
    missing = [package for package in ("evaluate", *needs) if find_spec(package) is None]
    if missing:
        raise ModuleNotFoundError(
            f"{name} needs {', '.join(missing)}: pip install 'knowtuning[evaluate]', or choose a recipe without it."
        )
    import evaluate

    # in memory: no score file that another run could meet
    return evaluate.load(str(Path(__file__).parent / name), keep_in_memory=True)
