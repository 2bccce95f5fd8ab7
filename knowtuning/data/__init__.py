"""Questions and answers: read from a named source or a file, checked, split, and searched for what stands there twice.

In and out go also the forms of LLaMA-Factory. A row that cannot be used stops the load; nothing is dropped silently.
"""
