"""What one batch frees, the next takes without asking the kernel."""

import os
import platform
import subprocess
import sys

import pytest

from knowtuning.training.allocator import KERNELS, bound_compiled_kernels

BATCHES = """
import resource
from knowtuning.training.allocator import keep_freed_memory
keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for number in range(20):
    if number == 10:
        before = faults()
    held = [b"x" * 2**22 for _ in range(8)]
    del held
print(faults() - before)
"""

USERS = [{}, {"MALLOC_TRIM_THRESHOLD_": "0"}, {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=0"}]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
@pytest.mark.parametrize("set_by_user", USERS)
def test_a_batch_finds_the_memory_of_the_one_before_but_for_a_user_who_wants_it_otherwise(set_by_user):
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", BATCHES]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=bare | set_by_user)
    taken = 10 * 8 * 2**22 // 4096  # pages, if each batch takes all of them anew
    assert int(done.stdout) > taken / 2 if set_by_user else int(done.stdout) < taken / 100


@pytest.mark.parametrize(("set_by_user", "kept"), [(None, str(KERNELS)), ("7", "7")])
def test_few_compiled_kernels_are_kept_but_for_a_user_who_wants_it_otherwise(monkeypatch, set_by_user, kept):
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "")  # for the way back
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY")
    if set_by_user:
        monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", set_by_user)
    bound_compiled_kernels()
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == kept
