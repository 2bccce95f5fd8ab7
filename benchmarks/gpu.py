"""Memory, speed and MFU of every stage at the paper's sizes on a GPU, beside plain TRL in turn: `make gpu-bench`

Llama-2's 7B and 13B shapes with random weights, in bfloat16 and in NF4, those that fit: SFT and DPO as the recipes
`paper-7b` and `paper-13b` have them, and by TRL's trainers with their defaults (padded batches, activations recomputed,
the reference run in every step), on the same base, adapter, tokens and micro-batches; then perplexity and generation
by ours. The losses of the sides are compared too: those of DPO differ by a little where micro-batches of a step have
unequal numbers of tokens, as TRL's SFT term is a mean of their means. `--device cpu --shape tiny` goes the same way in
under a minute: what it measures means nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from knowtuning.files import ROOT, shown, write_json
from knowtuning.run import versions

RESULTS = ROOT / "benchmarks" / "results" / "gpu.json"


def main() -> int:
    """Measure, print, and write the result file; 2 where there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--shape", default="7b,13b", help="some of 7b, 13b and tiny (default: 7b,13b)")
    parser.add_argument("--steps", type=int, default=5, help="optimiser steps of each training (default: 5)")
    parser.add_argument("--runs", type=int, default=3, help="timed trainings of each side (default: 3)")
    parser.add_argument("--quick", action="store_true", help="7b alone, 2 steps, 1 run")
    parser.add_argument("--results", type=Path, help="where the results go (default: benchmarks/results/gpu.json)")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.shape, chosen.steps, chosen.runs = chosen.shape.split(",")[0], 2, 1
    if chosen.device == "cpu":
        if not chosen.results:
            parser.error("--device cpu measures nothing that is worth keeping: say where it goes with --results.")
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch looks

    import torch
    from gpu_cases import cases, environment, print_case

    if chosen.device == "cuda" and not torch.cuda.is_available():
        print("gpu-bench: no CUDA device here; run it on a machine with one.", file=sys.stderr)
        return 2
    try:
        measured = []
        for case in cases(chosen.shape.split(","), chosen.steps, chosen.runs):
            print_case(case)
            measured.append(case)
    except ValueError as error:
        print(f"gpu-bench: {error}", file=sys.stderr)
        return 1
    record = {**environment(), "quick": chosen.quick, "steps": chosen.steps, "runs": chosen.runs, "cases": measured}
    results = chosen.results or RESULTS
    write_json(results, record | {"versions": versions()})
    print(f"-> {shown(results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
