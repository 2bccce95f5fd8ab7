"""The experiment that the tables come from: all arms over seeds, bases and worlds, and how sure their differences are.

It imports `knowtuning`, which knows nothing of it: `plan` says what runs, `cell` trains, `tuning`, `map` and `judged`
go round it, `collect` compares the answers (`seeds`, `power`, `claims`), `tables` and `figures` show what came of it.
"""
