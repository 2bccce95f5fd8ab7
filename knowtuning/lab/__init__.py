"""The lab: a fictional world of which everything is known, its corpus, base, annotators, and an oracle.

For text that no world describes, `rules` serves the teacher's tasks by patterns of English.
"""
