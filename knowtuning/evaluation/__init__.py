"""What an answer is worth: exact facts, overlap with the reference, and how sure a difference between two arms is."""
