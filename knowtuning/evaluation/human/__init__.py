"""People compare answers: a blind sheet, the terminal and the buttons that it is answered by, and what choices say.

Who annotates needs `sheet`, `annotation` and one of its two faces only; `verdicts` and `agreement` open the key.
"""
