"""Endpoints that behave as endpoints do: dialects, faults, throttling and a Batch API, for tests and benchmarks.

    python tests/endpoints --model english-rules --port 8011 --dialect text-only --faults 0.05

serves a local model so, until its standard input closes or Ctrl-C; `--help` lists what it can be told to be.
"""
