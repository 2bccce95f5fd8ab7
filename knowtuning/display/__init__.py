"""Views for notebooks: plain HTML that reads in light and in dark, with a plain text beside it that says the same.

Everything that comes from data is escaped, and nothing runs: no scripts, no outside resources. Marks are told apart by
a sign or a line as well as by colour, so that they survive print and pages that strip styles, as GitHub's do.
"""

# ruff: noqa: F401 (notebooks take every view from here)
from knowtuning.display.diffs import disturbances
from knowtuning.display.marked import answers_side_by_side, rewriting, shaded_answer
from knowtuning.display.tokens import log_ratios
from knowtuning.display.views import View, rows, show, side_by_side, table
