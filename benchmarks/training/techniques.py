"""What each part of the training's speed gains, and that it leaves the losses alone: ours with one part at a time off.

    python benchmarks/training/techniques.py [--quick]

The same steps on the lab's files, in turn and in one process: as it is; with padding to the longest of each batch; with
what sequences begin with in common computed for each; with a full log-softmax of all logits; with all of the last
layer; with LoRA's three products; with the model's own SwiGLU, RMSNorm and rotary positions; with the walks over all
modules and a table for examples; and with activations computed anew on the way back, which costs time and saves memory.
(The reference on the disk: see `training.json`.)
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from transformers import PrinterCallback, Trainer

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from teacher.running import publish  # noqa: E402
from timing import ended, ratio, spread  # noqa: E402

from knowtuning.data.llamafactory import read_alpaca, read_ranking  # noqa: E402
from knowtuning.run import Run  # noqa: E402
from knowtuning.training import dpo, head, models, packed, sft, tree  # noqa: E402
from knowtuning.training.gauge import Memory  # noqa: E402

LIMIT = 1e-3  # nats between the losses of any two ways, step by step


def padded(pack: Callable) -> Callable:
    """`pack` over sequences that are filled up to the longest with tokens that carry no label."""

    def filled(sequences: list[list[int]], labels: list[list[int]]) -> dict[str, Any]:
        longest = max(map(len, sequences))
        rows = [row + [row[-1]] * (longest - len(row)) for row in sequences]
        return pack(rows, [label + [packed.IGNORE] * (longest - len(label)) for label in labels])

    return filled


@contextlib.contextmanager
def without(part: str) -> Iterator[None]:
    """Switch one part off."""
    with contextlib.ExitStack() as stack:
        if part == "packing":
            for module in (sft, dpo):
                stack.enter_context(mock.patch.object(module, "pack", padded(packed.pack)))
        elif part == "shared beginnings":
            stack.enter_context(mock.patch.object(tree, "common", lambda one, other: 0))
        elif part == "log-probabilities of labels only":
            stack.enter_context(mock.patch.object(head, "plain_head", lambda model: None))
        elif part == "the last MLP where scored":
            everything = contextlib.nullcontext(lambda rows: None)
            stack.enter_context(mock.patch.object(head, "last_mlp_where_used", lambda layers: everything))
        elif part == "LoRA in one product":
            stack.enter_context(mock.patch.object(packed, "one_product", lambda model: contextlib.nullcontext()))
        elif part == "SwiGLU in place":
            stack.enter_context(mock.patch.object(packed, "swiglu_in_place", lambda model: contextlib.nullcontext()))
        elif part == "RMSNorm and rotary in fewer passes":
            for name in ("shorter_norms", "turned_in_place"):
                stack.enter_context(mock.patch.object(packed, name, lambda model: contextlib.nullcontext()))
        elif part == "walks spared":
            for name in ("train", "_clip_grad_norm", "get_train_dataloader"):
                theirs = getattr(Trainer, name)
                stack.enter_context(mock.patch.object(sft.PackedTrainer, name, theirs))
        yield


PARTS = (
    "packing",
    "shared beginnings",
    "log-probabilities of labels only",
    "the last MLP where scored",
    "LoRA in one product",
    "SwiGLU in place",
    "RMSNorm and rotary in fewer passes",
    "walks spared",
    "kept activations",
)
GAUGED = ("shared beginnings", "log-probabilities of labels only", "SwiGLU in place", "kept activations")


class Bench:
    """One stage's training, done anew with parts switched off; `losses` and `peaks` by what was off."""

    def __init__(self, run: Run, stage: str, rows: int, folder: Path) -> None:
        self.run, self.stage, self.folder = run, stage, folder
        self.recipe = run.recipe.replace(quantisation="none", data={"val_size": 0}, sft={"epochs": 1})
        self.tokenizer = models.load_tokenizer(run.need("base"))
        self.rows = (read_alpaca(run.need("ka.json")) if stage == "sft" else read_ranking(run.need("kc.json")))[-rows:]
        self.seconds: dict[str, list[float]] = {}
        self.losses: dict[str, list[float]] = {}
        self.peaks: dict[str, int] = {}

    def trainer(self, recipe: Any) -> Any:
        base = models.load_base(self.run.need("base"), "none")
        if self.stage == "sft":
            model = models.new_adapter(base, recipe, 0)
            return sft.sft_trainer(model, self.tokenizer, self.rows, recipe, 0, self.folder)
        model = models.load_adapter(base, self.run.need("adapters/ka"), trainable=True)
        pairs = [pair | {"aspect": ""} for pair in self.rows]
        return dpo.dpo_trainer(model, self.tokenizer, pairs, recipe, 0, self.folder, watched=0)

    def train(self, off: str, gauge: bool = False) -> None:
        recipe = self.recipe.replace(machine={"checkpointing": off == "kept activations"})
        with without(off):
            trainer = self.trainer(recipe)
            trainer.remove_callback(PrinterCallback)
            memory = Memory(trainer.model) if gauge else contextlib.nullcontext()
            with packed.packed(trainer.model), memory:
                start = time.perf_counter()
                trainer.train()
                seconds = time.perf_counter() - start
        self.losses[off] = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        if gauge:  # which takes time of its own
            self.peaks[off] = memory.peak
        else:
            self.seconds.setdefault(off, []).append(seconds)


def measure(run: Run, repeats: int, rows: int) -> dict[str, Any]:
    """Both stages: seconds of each way, times ours, largest difference of a loss, most bytes in tensors."""
    stages = {}
    for stage in ("sft", "dpo"):
        with tempfile.TemporaryDirectory() as name:
            bench = Bench(run, stage, rows, Path(name))
            bench.train("nothing")  # which puts the reference on the disk
            bench.seconds.clear()
            for _ in range(repeats):
                for off in ("nothing", *PARTS):
                    bench.train(off)
            seconds = bench.seconds
            for off in ("nothing", *GAUGED):
                bench.train(off, gauge=True)
        ours = bench.losses["nothing"]
        stages[stage] = {
            off: {
                "seconds": spread(seconds[off]),
                "times_ours": ratio(seconds[off], seconds["nothing"]),
                "largest_difference_of_a_loss": max(abs(a - b) for a, b in zip(bench.losses[off], ours, strict=True)),
                **({"peak_mb": bench.peaks[off] / 2**20} if off in bench.peaks else {}),
            }
            for off in ("nothing", *PARTS)
        }
    differences = [row["largest_difference_of_a_loss"] for rows in stages.values() for row in rows.values()]
    return {"recipe": run.recipe.name, "rows": rows, "limit": LIMIT, "off": stages, "same": max(differences) < LIMIT}


def main() -> int:
    """Measure, print, and write `benchmarks/results/techniques.json`; 1 where a loss differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="lab")
    parser.add_argument("--quick", action="store_true", help="one round of 32 rows; writes nothing")
    chosen = parser.parse_args()
    measured = measure(Run("techniques", chosen.recipe, 0), *((1, 32) if chosen.quick else (7, 240)))
    for stage, rows in measured["off"].items():
        for off, row in rows.items():
            times, difference = row["times_ours"]["median"], row["largest_difference_of_a_loss"]
            what = "as it is" if off == "nothing" else f"without {off}"
            print(f"{stage} {what:<42} {times:5.2f} times as long   loss differs by {difference:.0e}")
    if not chosen.quick:
        publish("techniques", measured)
    return 0 if measured["same"] else 1


if __name__ == "__main__":
    sys.exit(ended(main))
