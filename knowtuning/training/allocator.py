"""The C library's allocator, told to keep what tensors free for those that come next."""

from __future__ import annotations

import ctypes
import os
import platform

TRIM, MMAP = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
KEPT, OWN = 2**28, 2**25  # bytes that stay free at the heap's end; larger blocks than glibc lets the heap hold


def keep_freed_memory() -> None:
    """Let the process keep up to 256 MB that are free; does nothing without glibc, or where the user set `MALLOC_…`.

    By itself glibc gives the end of its heap back to the kernel as soon as twice its largest block is free there, and
    the next batch takes it again page by page. Whether that happens is chance of the heap's order: of equal processes
    scoring the lab's facts, one had 80,000 page faults a pass and took half as long again, others had ten.
    """
    if platform.libc_ver()[0] != "glibc" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    glibc = ctypes.CDLL(None)
    glibc.mallopt(TRIM, KEPT)
    glibc.mallopt(MMAP, OWN)
