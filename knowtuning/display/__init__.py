"""Views for notebooks: plain HTML that reads in light and in dark, with a plain text beside it that says the same.

Everything that comes from data is escaped, and nothing runs: no scripts, no outside resources. Marks are told apart by
a sign or a line as well as by colour, so that they survive print and pages that strip styles, as GitHub's do.
"""

from knowtuning.display.answers import Said, answers_side_by_side, marked_answer
from knowtuning.display.diffs import disturbances
from knowtuning.display.facts import rewriting, shaded_answer
from knowtuning.display.tables import table
from knowtuning.display.tokens import log_ratios
from knowtuning.display.view import View, columns, rows, show, side_by_side

__all__ = [
    "Said",
    "View",
    "answers_side_by_side",
    "columns",
    "disturbances",
    "log_ratios",
    "marked_answer",
    "rewriting",
    "rows",
    "shaded_answer",
    "show",
    "side_by_side",
    "table",
]
