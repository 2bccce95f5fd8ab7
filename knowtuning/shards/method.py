"""The method's parameters of each stage, from the notebooks, so that they are written once."""

from __future__ import annotations

from typing import Any

from knowtuning.execute import NOTEBOOKS, read_parameters
from knowtuning.files import DataError

_STATED = {
    "score": ("04_difficult_knowledge", ("alpha", "scope", "select", "condition_on_question")),
    "disturb": ("06_disturbance", ("beta", "rejected")),
}


def method(stage: str) -> dict[str, Any]:
    """The parameters of a stage; `DataError` for those that no shard can serve.

    >>> method("disturb")
    {'beta': 0.5, 'rejected': 'concatenated'}
    """
    if stage not in _STATED:
        return {}
    notebook, names = _STATED[stage]
    stated = read_parameters(NOTEBOOKS / f"{notebook}.ipynb")
    if stated.get("scope") == "dataset":
        raise DataError(
            f"notebook {notebook} says scope='dataset', and a shard does not see the facts of the others: use "
            "scope='answer', or no shards."
        )
    return {name: stated[name] for name in names}
