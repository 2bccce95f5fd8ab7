"""The three ways in which an answer can be worse, and so the three sets of preference pairs (paper, section 3.2)."""

ASPECTS = ("completeness", "factuality", "logicality")
