"""The layers compiled by torch.compile: shorter steps, for half a minute before the first."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from knowtuning.files import DataError
from knowtuning.training.scored import innermost


@contextmanager
def compiled(model: Any) -> Iterator[None]:
    """Compile the layers under a causal model's head for a while, for batches of any size.

    A pass over them is one graph then, whose small operations the compiler joins. The first step compiles, and so does
    the first evaluation; compiled kernels stay on the disk (`TORCHINDUCTOR_CACHE_DIR`), and the next process takes a
    third of the time.
    """
    if model.device.type == "cpu" and not compiler():
        raise DataError("compile=True needs a C++ compiler: install g++, or name one in CXX, or set compile=False.")
    layers = innermost(model).base_model
    layers.compile(dynamic=True)
    try:
        yield
    finally:
        del layers._compiled_call_impl


def compiler() -> str | None:
    """Where the C++ compiler is that torch.compile takes on a CPU."""
    return shutil.which(os.environ.get("CXX", "g++"))
