"""The annotator's session: through a pipe, through a terminal, killed and resumed, and on answers that mean harm."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
import unicodedata

import pytest

from knowtuning.evaluation.human.annotate_terminal import KEYS, item_text
from knowtuning.evaluation.human.annotation import MEANING, Annotation, visible
from knowtuning.files import DataError, read_jsonl, write_jsonl
from knowtuning.knowledge.aspects import ASPECTS

COMMAND = [
    sys.executable,
    "-c",
    "import sys; from knowtuning.evaluation.human.annotate_terminal import annotate; from pathlib import Path;"
    "sys.exit(annotate(Path(sys.argv[1]), sys.argv[2]))",
]
HOSTILE = (
    "\x1b[2J\x1b]0;owned\x07 \x1b]8;;http://x\x1b\\link \x9b31m red \r\x08\x00 "
    "[bold]bold[/bold] [/] [link=http://x]y[/link] :smile: \u202egnorw\u2066 \u2028 \ufeff \ud800"
)


@pytest.fixture
def sheet(tmp_path):
    items = [
        {"item": f"i{n}", "question": f"What is {n}?", "left": f"Left answer {n}.", "right": f"Right answer {n}."}
        for n in range(3)
    ]
    return write_jsonl(tmp_path / "sheet.jsonl", items)


def saved(sheet, name="ann"):
    rows = read_jsonl(sheet.parent / "choices" / f"{name}.jsonl")
    assert all(row["annotator"] == name for row in rows)
    return [(row["item"], row["aspect"], row["choice"]) for row in rows]


def piped(sheet, keys, name="ann"):
    lines = "".join(f"{key}\n" for key in keys)
    done = subprocess.run([*COMMAND, str(sheet), name], input=lines, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Terminal:
    """A pseudo-terminal of 80 columns with the session in it."""

    def __init__(self, sheet, name="ann"):
        self.master, slave = pty.openpty()
        environment = {**os.environ, "COLUMNS": "80", "LINES": "40", "TERM": "xterm"}
        self.process = subprocess.Popen(
            [*COMMAND, str(sheet), name], stdin=slave, stdout=slave, stderr=slave, env=environment, close_fds=True
        )
        os.close(slave)
        self.seen = b""

    def expect(self, text, seconds=30):
        """Read until `text` comes, and return all that came with it."""
        end, wanted = time.monotonic() + seconds, text.encode()
        while wanted not in self.seen:
            assert time.monotonic() < end and self._read(), f"no {text!r} in {self.seen!r}"
        before, _, self.seen = self.seen.partition(wanted)
        return (before + wanted).decode()

    def press(self, keys):
        os.write(self.master, keys.encode())

    def end(self, seconds=30):
        end = time.monotonic() + seconds
        while self._read():
            assert time.monotonic() < end, f"still there, after {self.seen!r}"
        os.close(self.master)
        return self.process.wait(timeout=30), self.seen.decode()

    def _read(self):
        try:
            if select.select([self.master], [], [], 1)[0]:
                part = os.read(self.master, 65536)
                self.seen += part
                return bool(part)
            return self.process.poll() is None
        except OSError:  # the other end is closed
            return False


# --- the state


def test_choices_go_aspect_by_aspect_and_item_by_item(sheet):
    session = Annotation(sheet, "ann")
    asked = []
    while not session.done:
        asked.append((session.item["item"], session.aspect))
        session.choose(session.aspect, "tie")
    assert asked == [(f"i{n}", aspect) for n in range(3) for aspect in ASPECTS]
    assert (session.made, session.total, session.item, session.aspect) == (9, 9, None, None)
    with pytest.raises(ValueError, match="go back"):
        session.choose("factuality", "left")


def test_every_choice_is_on_disk_when_choose_returns(sheet):
    session = Annotation(sheet, "ann")
    session.choose("completeness", "left")
    assert saved(sheet) == [("i0", "completeness", "left")]
    session.choose("logicality", "right")  # a widget may take aspects in any order
    assert (session.aspect, saved(sheet)[-1]) == ("factuality", ("i0", "logicality", "right"))


def test_back_makes_a_choice_anew_and_goes_on_where_it_was(sheet):
    session = Annotation(sheet, "ann")
    for _ in range(4):
        session.choose(session.aspect, "left")
    session.back()
    session.back()
    assert (session.item["item"], session.aspect, session.chosen("logicality")) == ("i0", "logicality", "left")
    session.choose("logicality", "tie")
    assert (session.item["item"], session.aspect, session.made) == ("i1", "factuality", 4)
    for _ in range(20):
        session.back()
    assert (session.item["item"], session.aspect) == ("i0", "completeness")


def test_a_torn_line_is_cut_off_and_asked_again(sheet):
    session = Annotation(sheet, "ann")
    for _ in range(2):
        session.choose(session.aspect, "left")
    whole = session.out.read_bytes()
    session.out.write_bytes(whole[:-20])
    again = Annotation(sheet, "ann")
    assert (again.made, again.aspect) == (1, "factuality")
    again.choose("factuality", "left")
    assert [row[:2] for row in saved(sheet)] == [("i0", "completeness"), ("i0", "factuality")]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("my notes, without a line end", "does not end as a file of choices"),
        ('{"annotator": "ben", "item": "i0", "aspect": "factuality", "choice": "tie"}\n', "holds choices of ben"),
        ('{"annotator": "ann", "item": "other", "aspect": "factuality", "choice": "tie"}\n', "'other' is not on this"),
        ('{"item": "i0"}\n', "'annotator' is missing"),
    ],
)
def test_a_file_of_something_else_is_refused_and_left_alone(sheet, tmp_path, content, said):
    out = tmp_path / "out.jsonl"
    out.write_text(content)
    with pytest.raises(DataError, match=said):
        Annotation(sheet, "ann", out)
    assert out.read_text() == content


@pytest.mark.parametrize("name", ["", "../ann", "ann/../ben", "a b", "x" * 41, "-x"])
def test_names_that_are_no_file_names_are_refused(sheet, name):
    with pytest.raises(DataError, match="letters, digits"):
        Annotation(sheet, name)


def test_the_key_is_no_sheet_and_none_of_it_is_told(tmp_path):
    path = tmp_path / "key.jsonl"
    path.write_text(json.dumps({"seed": 0, "items": {"i0": {"left": "sft"}}}))
    with pytest.raises(DataError) as error:
        Annotation(path, "ann")
    assert "sft" not in str(error.value)


# --- what may be shown


@pytest.mark.parametrize("code", [*range(0x20), *range(0x7F, 0xA0), 0xAD, 0x61C, 0x200E, 0x200F, 0x2028, 0x2029,
                                  *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFEFF, 0xD800, 0xE0041])  # fmt: skip
def test_no_control_or_format_character_is_left(code):
    shown = visible(f"a{chr(code)}b")
    if chr(code) in "\t\n":
        assert shown == ("a   b" if chr(code) == "\t" else "a\nb")
    else:
        assert shown == f"a<U+{code:04X}>b"


def test_text_stays_as_it_is():
    for text in ("Plain. Two lines\nand Größe, 漢字, العربية, 👩\u200d🔬", "می\u200cخواهم", "[bold] & <b> :smile:"):
        assert visible(text) == text
    assert visible("a\r\nb") == "a\nb"


def test_an_empty_answer_says_so(tmp_path):
    path = write_jsonl(tmp_path / "sheet.jsonl", [{"item": "i", "question": "Why?", "left": " \n", "right": "So."}])
    text = item_text(Annotation(path, "ann"))
    assert "(empty)" in text and "\x1b" not in text
    assert not (tmp_path / "choices").exists(), "looking leaves no trace"


def printed(text):
    """Letters and marks of an 80-column view, without its spaces and lines."""
    return "".join(text.split())


@pytest.fixture
def hostile_sheet(tmp_path):
    item = {"item": "i0", "question": HOSTILE, "reference": HOSTILE, "left": HOSTILE, "right": "harmless"}
    path = tmp_path / "sheet.jsonl"
    path.write_text(json.dumps(item) + "\n")  # escaped: a lone surrogate has no UTF-8
    return path


def test_hostile_answers_reach_a_pipe_as_plain_text(hostile_sheet):
    output = piped(hostile_sheet, "q")
    assert not [char for char in output if unicodedata.category(char) in ("Cc", "Cf") and char != "\n"]
    for part in ("<U+001B>[2J", "[bold]bold[/bold]", "[link=http://x]y[/link]", ":smile:", "<U+202E>gnorw"):
        assert printed(output).count(part) >= 2, part  # question and reference are not broken into columns


def test_hostile_answers_steer_no_terminal(hostile_sheet):
    terminal = Terminal(hostile_sheet)
    seen = terminal.expect("help > ")
    terminal.press("q")
    assert terminal.end()[0] == 0
    assert "<U+001B>[2J" in seen and "<U+202E>" in seen
    for harm in ("\x1b]", "\x1b[31m", "\x9b", "\x07", "\x08", "\u202e", "\u2066", "\x00"):
        assert harm not in seen, harm
    assert seen.count("\x1b[2J") == 1, "the screen is cleared once, by us"


# --- a pipe


def test_a_whole_sheet_through_a_pipe(sheet):
    output = piped(sheet, "120t" + "12012")
    assert [choice for _, _, choice in saved(sheet)] == [KEYS[key] for key in "120t12012"]
    assert "All 9 choices are in" in output
    assert max(map(len, output.splitlines()[:-1])) == 80
    for part in ("item 1 of 3 · 0 of 9 choices made", "item 3 of 3 · 6 of 9 choices made"):
        assert part in output
    line = next(line for line in output.splitlines() if "Left answer 2." in line)
    assert "Right answer 2." in line, "both answers stand side by side"


def test_the_end_of_the_pipe_quits_and_the_next_one_goes_on(sheet):
    output = piped(sheet, "11")
    assert "2 of 9 choices are in" in output and "--as ann" in output
    output = piped(sheet, "222")
    assert "item 1 of 3 · 2 of 9 choices made" in output
    assert [choice for _, _, choice in saved(sheet)] == ["left"] * 2 + ["right"] * 3


def test_back_help_and_unknown_keys_in_a_pipe(sheet):
    output = piped(sheet, ["1", "x", "", "12", "?", "b", "2", "q"])
    assert output.count("Press one of 1, 2, 0, t, b, q or ?.") == 3
    assert printed(MEANING["logicality"]) in printed(output)
    assert "completeness (now: left): 1 left" in output
    assert saved(sheet) == [("i0", "completeness", "left"), ("i0", "completeness", "right")]


def test_annotators_need_no_more_than_the_core(sheet):
    heavy = "[name for name in ('numpy', 'scipy', 'pandas', 'torch', 'openai', 'ipywidgets') if name in sys.modules]"
    code = f"import sys, knowtuning.evaluation.human.annotate_terminal; print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


# --- a terminal


def test_single_keys_without_enter(sheet):
    terminal = Terminal(sheet)
    terminal.expect("completeness: 1 left")
    terminal.press("1")
    terminal.expect("factuality: 1 left")
    terminal.press("t")
    terminal.expect("logicality: 1 left")
    terminal.press("2")
    assert "What is 1?" in terminal.expect("completeness: 1 left")
    terminal.press("b")
    terminal.expect("logicality (now: right): 1 left")
    terminal.press("q")
    code, rest = terminal.end()
    assert code == 0 and "3 of 9 choices are in" in rest
    assert [choice for _, _, choice in saved(sheet)] == ["left", "tie", "right"]


def test_an_arrow_or_function_key_is_no_choice(sheet):
    terminal = Terminal(sheet)
    terminal.expect("help > ")
    terminal.press("\x1b[2~")  # Insert: its bytes hold a 2
    terminal.expect("Press one of")
    terminal.expect("help > ")
    terminal.press("\x04")  # Ctrl-D
    assert terminal.end()[0] == 0
    assert not (sheet.parent / "choices").exists()


def test_keys_pressed_ahead_count_for_no_item_that_was_not_shown(sheet):
    terminal = Terminal(sheet)
    terminal.expect("help > ")
    terminal.press("111111")
    terminal.expect("What is 1?")
    terminal.expect("help > ")
    terminal.press("q")
    terminal.end()
    assert [item for item, _, _ in saved(sheet)] == ["i0"] * 3


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_in_the_middle_it_goes_on_where_it_was(sheet, how):
    terminal = Terminal(sheet)
    terminal.expect("completeness: 1 left")
    for key, then in (("1", "factuality: "), ("2", "logicality: "), ("0", "What is 1?"), ("1", "factuality: ")):
        terminal.press(key)
        terminal.expect(then)
        if then == "What is 1?":
            terminal.expect("completeness: 1 left")
    terminal.process.send_signal(how)
    assert terminal.end()[0] != 0
    assert len(saved(sheet)) == 4
    again = Terminal(sheet)
    assert "item 2 of 3 · 4 of 9 choices made" in again.expect("factuality: 1 left")
    again.press("q")
    assert again.end()[0] == 0


# --- the notebook


@pytest.fixture
def view(sheet):
    from knowtuning.evaluation.human.annotate_buttons import annotation_buttons

    session = Annotation(sheet, "ann")
    return session, annotation_buttons(session)


def buttons(box):
    import ipywidgets

    found = [box] if isinstance(box, ipywidgets.Button) else []
    return found + [button for child in getattr(box, "children", ()) for button in buttons(child)]


def press(box, name):
    next(button for button in buttons(box) if button.description.endswith(name)).click()


def test_the_widget_is_the_same_session(view, sheet):
    session, box = view
    for aspect, choice in zip(ASPECTS, ("right", "tie", "left"), strict=True):
        press(box, f"{aspect}: {choice}")
    assert [choice for _, _, choice in saved(sheet)] == ["right", "tie", "left"]
    assert "item 2 of 3" in box.children[0].value and "Left answer 1." in box.children[1].value
    press(box, "back")
    assert "✓ logicality: left" in [button.description for button in buttons(box)]
    press(box, "logicality: tie")
    for _ in range(6):
        session.choose(session.aspect, "tie")
    press(box, "back")
    press(box, f"{session.aspect}: left")
    assert session.done and "Thank you" in box.children[1].value
    assert all(button.disabled for button in buttons(box) if button.description != "back")


def test_every_button_has_a_name_of_its_own_and_is_reached_by_tab(view):
    names = [button.description for button in buttons(view[1])]
    assert len(names) == len(set(names)) == 10 and all(names)
    assert all(button.tabbable and button.tooltip for button in buttons(view[1]))


def test_the_widget_escapes_what_it_shows(tmp_path):
    from knowtuning.evaluation.human.annotate_buttons import annotation_buttons

    item = {"item": "i", "question": "<img src=x onerror=alert(1)>", "left": "</div><script>", "right": HOSTILE}
    path = tmp_path / "sheet.jsonl"
    path.write_text(json.dumps(item) + "\n")
    shown = annotation_buttons(Annotation(path, "ann")).children[1].value
    assert "<img" not in shown and "<script" not in shown and "&lt;script&gt;" in shown
    assert not [char for char in shown if unicodedata.category(char) in ("Cc", "Cf", "Cs") and char != "\n"]
