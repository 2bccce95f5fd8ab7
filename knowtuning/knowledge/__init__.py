"""The method up to training: extract facts, find the difficult ones, rewrite, disturb.

`pipeline` wires the steps; notebooks, study, shards, explorer and previews all call it.
"""
