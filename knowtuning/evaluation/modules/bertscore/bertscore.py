"""BERTScore (Zhang et al., 2020) by the package bert_score, with an encoder from a local folder."""

import bert_score
import datasets
import evaluate
from transformers.utils import logging


def load_scorer(encoder, num_layers, device):
    """Load the encoder without the progress bar of transformers, which would stay in a notebook's output."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        return bert_score.BERTScorer(model_type=encoder, num_layers=num_layers, device=device)
    finally:
        if shown:
            logging.enable_progress_bar()


class BertScore(evaluate.Metric):
    """`compute(predictions, references, encoder=…, num_layers=…)` returns lists `precision`, `recall`, `f1`."""

    def _info(self):
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description="Greedy matching of contextual embeddings by cosine, without idf weights and rescaling.",
            citation="Zhang et al., BERTScore, ICLR 2020",
            inputs_description="predictions and references: one text each per row",
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions, references, encoder, num_layers, device="cpu", batch_size=64):
        rows = list(zip(predictions, references, strict=True))
        # bert_score 0.3.13 encodes an empty text with a tokenizer method that transformers 5 no longer has;
        # such a text scores 0 there by definition, so it need not be sent
        spoken = [number for number, (one, other) in enumerate(rows) if one.strip() and other.strip()]
        columns = {name: [0.0] * len(rows) for name in ("precision", "recall", "f1")}
        if not spoken:
            return columns
        if getattr(self, "scorer", None) is None:
            self.scorer = load_scorer(encoder, num_layers, device)
        texts = ([rows[number][side] for number in spoken] for side in (0, 1))
        for column, scores in zip(columns.values(), self.scorer.score(*texts, batch_size=batch_size), strict=True):
            for number, value in zip(spoken, scores.tolist(), strict=True):
                column[number] = value
        return columns
