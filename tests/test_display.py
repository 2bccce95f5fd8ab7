from __future__ import annotations

from html.parser import HTMLParser

import pytest

from knowtuning import display
from knowtuning.lab.world import Statement, World

NASTY = '<script>alert("x")</script> & <b>'


class Balanced(HTMLParser):
    """Checks that every tag is closed in turn, and keeps the words."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def statement(sentence, relation="cause", correct=True):
    return Statement(sentence, relation, "moss" if relation else None, correct)


VIEWS = {
    "show": lambda: display.show(World.tell),
    "table": lambda: display.table([{"a<": NASTY, "b": 1.5}]),
    "shaded_facts": lambda: display.shaded_facts([NASTY, "b"], [1.0, 20.0], [False, True]),
    "disturbances": lambda: display.disturbances("It is moss. " + NASTY, {"a<b": "It is dust. " + NASTY}),
    "marked_answer": lambda: display.marked_answer([statement(NASTY)], missing=[NASTY]),
    "side_by_side": lambda: display.side_by_side({"<q>": NASTY, "a": "two\nlines"}),
}


@pytest.mark.parametrize("name", VIEWS)
def test_every_view_is_sound_html_and_escapes_what_it_shows(name):
    view = VIEWS[name]()
    page = Balanced(view._repr_html_())
    assert "script" not in page.tags and "b" not in page.tags
    assert repr(view) and "\x1b" not in repr(view)
    if name != "show":
        assert NASTY in " ".join("".join(page.words).split()) and "alert" in repr(view)


def test_show_gives_the_source_dedented():
    view = display.show(World.tell)
    assert repr(view).startswith("def tell(self") and '"""Say several' in repr(view)
    assert "-&gt; str" in view._repr_html_()


def test_table_aligns_numbers_and_keeps_the_columns_asked_for():
    rows = [
        {"arm": "sft", "% correct": 74.512, "n": 1300},
        {"arm": "ka", "% correct": None, "n": 7, "extra": float("nan")},
    ]
    assert repr(display.table(rows, columns=["arm", "% correct", "n"], digits=1)) == "\n".join(
        [
            "arm  % correct      n",
            "---  ---------  -----",
            "sft       74.5  1,300",
            "ka           –      7",
        ]
    )
    assert "extra" in repr(display.table(rows))
    assert "74.512" in repr(display.table(rows, digits={"% correct": 3}))
    assert "text-align:right" in display.table(rows)._repr_html_()


def test_table_shows_truth_values_and_line_breaks_as_text():
    assert "True" in repr(display.table([{"known": True}]))
    assert repr(display.table([{"a": "two\nlines"}])).endswith("two lines")


def test_shading_grows_with_perplexity_and_a_star_marks_the_difficult():
    view = display.shaded_facts(["easy", "middling", "hard"], [1.0, 3.0, 9.0], [False, False, True])
    html = view._repr_html_()
    shades = [float(part.split(")")[0]) for part in html.split("rgba(230,159,0,")[1:]]
    assert shades == [0, 0.3, 0.6]
    lines = repr(view).splitlines()
    assert lines[3].endswith("9.00 * hard") and "*" not in lines[1]


def test_facts_all_alike_are_not_shaded():
    assert "rgba(230,159,0,0.00)" in display.shaded_facts(["a"], [1.0], [False])._repr_html_()


def test_unequal_lists_are_refused():
    with pytest.raises(ValueError):
        display.shaded_facts(["a", "b"], [1.0], [True])


def test_disturbances_mark_what_left_and_what_came():
    view = display.disturbances(
        "It is red. It is old.",
        {"completeness": "It is red.", "factuality": "It is blue. It is old.", "logicality": "It is old. It is red."},
    )
    assert repr(view).splitlines()[:3] == [
        "preferred     It is red. It is old.",
        "completeness  It is red. [-It is old.-]",
        "factuality    It is [-red.-] {+blue.+} It is old.",
    ]
    html = view._repr_html_()
    assert ">It is old.</del>" in html and ">blue.</ins>" in html


def test_disturbances_give_back_both_texts():
    before, after = "a b c d e f a b", "a c d x f b a"
    runs = list(display._word_diff(before, after))
    assert " ".join(words for kind, words in runs if kind != "in") == before
    assert " ".join(words for kind, words in runs if kind != "out") == after


def test_marked_answer_tells_four_kinds_apart_without_colour():
    view = display.marked_answer(
        [statement("It is moss."), statement("It is dust.", correct=False), statement("Hm.", None, False)],
        missing=["the outlook"],
    )
    assert repr(view).splitlines() == ["✓ It is moss.", "✗ It is dust.", "? Hm.", "– missing: the outlook"]
    words = "".join(Balanced(view._repr_html_()).words)
    for mark in ("✓ It is moss.", "✗ It is dust.", "? Hm.", "– the outlook"):
        assert mark in words


def test_marked_answer_reads_what_the_world_parses():
    world = World.load("medical")
    name = world.entities[0]
    answer = world.sentence(name, "cause") + " Whatever."
    assert repr(display.marked_answer(world.parse(answer, name))) == f"✓ {world.sentence(name, 'cause')}\n? Whatever."
    assert repr(display.marked_answer([])) == "(empty answer)"


def test_side_by_side_keeps_the_order_and_takes_pairs():
    view = display.side_by_side([("question", "What is it?"), ("answer", "Moss.\nReally.")])
    assert repr(view) == "question\n  What is it?\nanswer\n  Moss.\n  Really."
