from __future__ import annotations

from html.parser import HTMLParser

import pytest

from knowtuning import display
from knowtuning.display.diffs import word_diff
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


def tokens(*words):
    """Log-probabilities of a policy, half a nat above those of its reference."""
    return [(word, -1.0) for word in words], [(word, -1.5) for word in words]


VIEWS = {
    "show": lambda: display.show(World.tell),
    "table": lambda: display.table([{"a<": NASTY, "b": 1.5}]),
    "shaded_answer": lambda: display.shaded_answer(NASTY, [NASTY, "b"], [1.0, 20.0], [False, True]),
    "rewriting": lambda: display.rewriting([NASTY], NASTY, NASTY),
    "disturbances": lambda: display.disturbances("It is moss. " + NASTY, {"a<b": "It is dust. " + NASTY}),
    "answers_side_by_side": lambda: display.answers_side_by_side({"<arm>": ([statement(NASTY)], [NASTY])}),
    "log_ratios": lambda: display.log_ratios({"<c>": tokens(NASTY, " <b>"), "<r>": tokens(NASTY)}),
    "side_by_side": lambda: display.side_by_side({"<q>": NASTY, "a": "two\nlines"}),
}


@pytest.mark.parametrize("name", VIEWS)
def test_every_view_is_sound_html_and_escapes_what_it_shows(name):
    view = VIEWS[name]()
    page = Balanced(view._repr_html_())
    assert not {"script", "b", "img", "link", "iframe"} & set(page.tags)
    assert "http" not in view._repr_html_()
    assert repr(view) and "\x1b" not in repr(view)
    if name == "rewriting":  # its words are marked one by one
        assert "&lt;<strong>script</strong>&gt;" in view._repr_html_() and "alert" in repr(view)
    elif name != "show":
        assert NASTY in " ".join("".join(page.words).split()) and "alert" in repr(view)


def test_show_gives_the_source_dedented():
    view = display.show(World.tell)
    assert repr(view).startswith("def tell(self") and '"""Say several' in repr(view)
    assert "-&gt; str" in view._repr_html_()


def test_table_aligns_numbers_and_shows_all_columns():
    rows = [
        {"arm": "sft", "% correct": 74.512, "n": 1300},
        {"arm": "ka", "% correct": None, "n": 7, "extra": float("nan")},
    ]
    kept = [{name: row[name] for name in ("arm", "% correct", "n")} for row in rows]
    assert repr(display.table(kept, digits=1)) == "\n".join(
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


def test_shading_grows_with_perplexity_and_difficult_facts_are_outlined_and_starred():
    view = display.shaded_answer("All.", ["easy", "middling", "hard"], [1.0, 3.0, 9.0], [False, False, True])
    facts = view._repr_html_().split("<span")[1:]
    shades = [float(fact.split("rgba(230,159,0,")[1].split(")")[0]) for fact in facts]
    assert shades[0] == 0 and shades[1] == pytest.approx(shades[2] / 2, abs=0.01) and 0 < shades[2] < 0.5
    assert ["outline" in fact for fact in facts] == ["★" in fact.split("</span>")[0] for fact in facts]
    assert "outline" in facts[2] and "outline" not in facts[0] + facts[1]
    lines = repr(view).splitlines()
    assert lines[0] == "All." and lines[4].endswith("9.00 ★ hard") and "★" not in lines[2]


def test_facts_all_alike_are_not_shaded():
    assert "rgba(230,159,0,0.00)" in display.shaded_answer("a", ["a"], [1.0], [False])._repr_html_()


def test_unequal_lists_are_refused():
    with pytest.raises(ValueError):
        display.shaded_answer("a b", ["a", "b"], [1.0], [True])


def test_rewriting_marks_what_was_carried_over_and_not_what_all_sentences_share():
    view = display.rewriting(["Rust comes from rain."], "What is the cause of rust?", "It comes from rain.")
    assert repr(view).splitlines()[1:] == [
        "question  What is the cause of *rust*?",
        "answer    It *comes* from *rain*.",
    ]
    assert "<strong>rain</strong>" in view._repr_html_() and "<strong>from</strong>" not in view._repr_html_()


def test_answers_beside_one_another_are_counted():
    right, wrong = statement("It is moss."), statement("It is dust.", correct=False)
    view = display.answers_side_by_side({"sft": ([right], ["the outlook"]), "ka": ([right, wrong], [])})
    assert "sft: 1 ✓, 0 ✗, 1 –" in repr(view) and "ka: 1 ✓, 1 ✗, 0 –" in repr(view)
    assert view._repr_html_().index("sft") < view._repr_html_().index("ka: 1")


def test_log_ratios_add_up_to_the_margin():
    chosen = [("It", -1.0), (" is", -0.5)], [("It", -1.5), (" is", -0.5)]
    rejected = [("Moss", -3.0)], [("Moss", -1.0)]
    view = display.log_ratios({"chosen": chosen, "rejected": rejected})
    assert repr(view).splitlines() == [
        "chosen    +0.50  It[+0.5] is",
        "rejected  -2.00  Moss[-2.0]",
        "margin    2.50 nats",
    ]
    html = view._repr_html_()
    assert "rgba(213,94,0,0.45)" in html and html.count("<polyline") == 2 and 'role="img"' in html


def test_log_ratios_of_a_policy_that_is_its_reference_are_nothing():
    same = [("It", -1.0)], [("It", -1.0)]
    assert repr(display.log_ratios({"chosen": same, "rejected": same})).endswith("0.00 nats")


def test_log_ratios_refuse_answers_of_other_lengths():
    with pytest.raises(ValueError):
        display.log_ratios({"chosen": ([("a", 0.0)], []), "rejected": ([], [])})


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


def test_sentences_that_only_moved_are_told_from_those_that_left():
    view = display.disturbances("A is red. B is old. C is big.", {"logicality": "C is big. A is red. B is old."})
    assert repr(view).splitlines()[1] == "logicality  {>C is big.>} A is red. B is old. [<C is big.<]"


@pytest.mark.parametrize(
    ("before", "after"), [("a b c d e f a b", "a c d x f b a"), ("A b. C d. E f.", "E f. A x. C d.")]
)
def test_disturbances_give_back_both_texts(before, after):
    runs = list(word_diff(before, after))
    assert " ".join(words for kind, words in runs if kind not in ("in", "to")) == before
    assert " ".join(words for kind, words in runs if kind not in ("out", "from")) == after


def test_a_marked_answer_tells_four_kinds_apart_without_colour():
    statements = [statement("It is moss."), statement("It is dust.", correct=False), statement("Hm.", None, False)]
    view = display.answers_side_by_side({"sft": (statements, ["the outlook"])})
    assert repr(view).splitlines()[1:] == [
        "  ✓ It is moss.",
        "  ✗ It is dust.",
        "  ? Hm.",
        "  – missing: the outlook",
    ]
    words = "".join(Balanced(view._repr_html_()).words)
    for mark in ("✓ It is moss.", "✗ It is dust.", "? Hm.", "– the outlook"):
        assert mark in words


def test_a_marked_answer_is_read_as_the_world_parses_it():
    world = World.load("medical")
    name = world.entities[0]
    answer = world.sentence(name, "cause") + " Whatever."
    view = display.answers_side_by_side({"sft": (world.parse(answer, name), []), "ka": ([], [])})
    assert f"  ✓ {world.sentence(name, 'cause')}\n  ? Whatever.\n" in repr(view)
    assert repr(view).endswith("  (empty answer)")


def test_side_by_side_keeps_the_order():
    view = display.side_by_side({"question": "What is it?", "answer": "Moss.\nReally."})
    assert repr(view) == "question\n  What is it?\nanswer\n  Moss.\n  Really."
