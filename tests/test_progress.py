"""Progress in a real terminal, in a real Jupyter kernel and in the runner's file: what is seen, and that it goes."""

import json
import os
import pty
import re
import sys
import termios
import time

import pyte
import pytest
from jupyter_client.manager import start_new_kernel

from knowtuning.progress import FILE_VARIABLE, progress

TRAINING = """
import time
from knowtuning.progress import progress
with progress("training", 40, "steps") as tick:
    for step in range(1, 41):
        time.sleep(0.04)
        tick(step, loss=3 / step, margin=step / 40)
"""
TEACHER = """
import time
from knowtuning.progress import of_calls, progress
with progress("teacher: rephrase the preferred answers", 120_000) as tick:
    told = of_calls(tick)
    for done in range(0, 120_001, 3000):
        time.sleep(0.04)
        told(done, 120_000, done // 1000, done / 10_000)
"""
BROKEN = """
from knowtuning.progress import progress
with progress("training", 40, "steps") as tick:
    tick(1, loss=1.0)
    raise RuntimeError("the loss is nan")
"""
BEFORE, AFTER = "print('before', flush=True)\n", "print('after', flush=True)\n"


def in_terminal(code, columns=80):
    """Run code in a pseudo-terminal of 24 lines; everything that stood on its screen, picture by picture."""
    child, descriptor = pty.fork()
    if child == 0:
        os.environ.pop(FILE_VARIABLE, None)
        os.environ |= {"TERM": "xterm-256color"}
        termios.tcsetwinsize(0, (24, columns))
        os.execv(sys.executable, [sys.executable, "-c", code])
    screen = pyte.Screen(columns, 24)
    stream, pictures, rest = pyte.ByteStream(screen), [], True
    while rest:
        try:
            rest = os.read(descriptor, 65536)
        except OSError:  # the other end is closed
            break
        for part in re.split(rb"(?=\r)", rest):
            stream.feed(part)
            pictures.append([line.rstrip() for line in screen.display if line.strip()])
    os.close(descriptor)
    os.waitpid(child, 0)
    return pictures


def test_a_terminal_shows_one_line_that_goes_away():
    pictures = in_terminal(BEFORE + TRAINING + AFTER)
    assert pictures[-1] == ["before", "after"]
    lines = {line for picture in pictures for line in picture if line.startswith("training")}
    assert (
        len([line for line in lines if re.search(r" \d+/40 .* left, loss \d\.\d\d, margin \d\.\d\d, .*steps/s", line)])
        >= 2
    )
    assert max(map(len, pictures)) == 2  # nothing wraps


@pytest.mark.parametrize("columns", [80, 60, 40])
def test_a_long_name_does_not_wrap(columns):
    pictures = in_terminal(BEFORE + TEACHER + AFTER, columns)
    assert pictures[-1] == ["before", "after"] and max(map(len, pictures)) == 2
    lines = {line for picture in pictures for line in picture if line.startswith("teacher")}
    if columns == 80:
        assert [line for line in lines if re.search(r" \d+/120000 .*\d\d:\d\d left, \$\d+\.", line)]


def test_an_error_closes_the_bar_and_passes():
    [*_, last] = in_terminal(BEFORE + BROKEN)
    assert last[0] == "before" and last[-1] == "RuntimeError: the loss is nan"
    assert not [line for line in last if "0:" in line or "━" in line]


@pytest.fixture(scope="module")
def kernel():
    environment = {name: value for name, value in os.environ.items() if name != FILE_VARIABLE}
    manager, client = start_new_kernel(kernel_name="python3", env=environment)
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def in_jupyter(client, code):
    """What a cell shows: the messages on iopub, and the status of its reply."""
    seen = []
    reply = client.execute_interactive(code, timeout=60, output_hook=seen.append)
    return [(message["msg_type"], message["content"]) for message in seen], reply["content"]["status"]


def test_jupyter_shows_one_bar_that_goes_away(kernel):
    seen, status = in_jupyter(kernel, TRAINING)
    assert status == "ok" and [kind for kind, _ in seen].count("display_data") == 1
    opened = {content["comm_id"] for kind, content in seen if kind == "comm_open"}
    closed = {content["comm_id"] for kind, content in seen if kind == "comm_close"}
    [bar] = [content for kind, content in seen if kind == "display_data"]
    assert bar["data"]["application/vnd.jupyter.widget-view+json"]["model_id"] in opened & closed


def test_a_headless_notebook_shows_nothing(kernel, tmp_path):
    path = tmp_path / "progress.json"
    seen, status = in_jupyter(kernel, f"import os; os.environ[{FILE_VARIABLE!r}] = {str(path)!r}\n{TRAINING}")
    in_jupyter(kernel, f"del os.environ[{FILE_VARIABLE!r}]")
    assert status == "ok" and not [kind for kind, _ in seen if "display" in kind or kind == "stream"]
    state = json.loads(path.read_text())
    assert (state["done"], state["total"], state["numbers"]) == (40, 40, {"loss": 3 / 40, "margin": 1.0})
    assert 10 < state["rate"] < 25 and state["left"] == 0


def test_nothing_is_shown_where_nobody_looks(monkeypatch, capfd):
    monkeypatch.delenv(FILE_VARIABLE, raising=False)
    with progress("training", 2) as tick:
        tick(2, loss=1.0)
    assert capfd.readouterr() == ("", "")


def test_the_file_is_written_twice_a_second_at_most_and_at_the_end(tmp_path, monkeypatch):
    path = tmp_path / "progress.json"
    monkeypatch.setenv(FILE_VARIABLE, str(path))
    written = set()
    with progress("training", 1000, "steps") as tick:
        for step in range(1, 1001):
            time.sleep(0.002)
            tick(step, loss=1.0)
            written.add(path.stat().st_mtime_ns)
        assert 4 <= len(written) <= 1000 / 4
        assert json.loads(path.read_text())["done"] == 1000


def test_the_rate_is_that_of_late(tmp_path, monkeypatch):
    path = tmp_path / "progress.json"
    monkeypatch.setenv(FILE_VARIABLE, str(path))
    monkeypatch.setattr("knowtuning.progress.EVERY", 0.01)
    with progress("teacher: extract", 1_000_000) as tick:
        time.sleep(0.02)
        tick(500_000)  # half of the rows were on record already
        for done in range(500_001, 500_081):
            time.sleep(0.02)
            tick(done)
        state = json.loads(path.read_text())
    assert state["rate"] < 1000 and state["left"] == pytest.approx((1_000_000 - state["done"]) / state["rate"])


def test_numbers_and_notes_are_said(tmp_path, monkeypatch):
    path = tmp_path / "progress.json"
    monkeypatch.setenv(FILE_VARIABLE, str(path))
    with progress("pretraining", 1) as tick:
        tick(1, "step 3", cost=0.5, failed=0, loss=1.0)
    assert json.loads(path.read_text())["said"] == "$0.50, loss 1.00, step 3"
