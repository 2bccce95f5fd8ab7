"""What the C libraries under PyTorch keep: glibc too little of freed memory, oneDNN too many compiled kernels."""

from __future__ import annotations

import ctypes
import os
import platform

TRIM, MMAP = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
KEPT, OWN = 2**28, 2**25  # bytes that stay free at the heap's end; larger blocks than glibc lets the heap hold
KERNELS = 64  # more than the shapes of a layer there and back


def keep_freed_memory() -> None:
    """Let the process keep up to 256 MB that are free; does nothing without glibc, or where the user set its malloc.

    By itself glibc gives the end of its heap back to the kernel as soon as twice its largest block is free there, and
    the next batch takes it again page by page. Whether that happens is chance of the heap's order: of equal processes
    scoring the lab's facts, one had 80,000 page faults a pass and took half as long again, others had ten.
    """
    set_by_user = any(name.startswith("MALLOC_") for name in os.environ)
    set_by_user |= "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", "")
    if platform.libc_ver()[0] != "glibc" or set_by_user:
        return
    glibc = ctypes.CDLL(None)
    glibc.mallopt(TRIM, KEPT)
    glibc.mallopt(MMAP, OWN)


def bound_compiled_kernels() -> None:
    """Let oneDNN keep 64 compiled kernels, unless the user set how many; to be called before the first is compiled.

    It compiles one for every shape of a product in bfloat16, such as an adapter's over NF4, and keeps 1,024. As no two
    batches have the same number of tokens, hardly one is used in a second step, and a training on a CPU with
    AVX512-BF16 holds half a gigabyte of them.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KERNELS))
