"""BERTScore (Zhang et al., 2020) by the package bert_score, with an encoder from a local folder."""

import bert_score
import datasets
import evaluate
from transformers.utils import logging

TEXT = datasets.Value("string")


class BertScore(evaluate.Metric):
    """`compute(predictions, references, encoder=…, num_layers=…)` returns lists `precision`, `recall`, `f1`."""

    scorer = None

    def _info(self):
        return evaluate.MetricInfo(
            description="Greedy matching of contextual embeddings by cosine, without idf weights and rescaling.",
            citation="Zhang et al., BERTScore, ICLR 2020",
            features=datasets.Features({"predictions": TEXT, "references": TEXT}),
        )

    def _compute(self, predictions, references, encoder, num_layers, device):
        if self.scorer is None:
            logging.disable_progress_bar()  # it would stay in a notebook's output
            self.scorer = bert_score.BERTScorer(model_type=encoder, num_layers=num_layers, device=device)
        # bert_score 0.3.13 encodes an empty text with a tokenizer method that transformers 5 no longer has;
        # such a text scores 0 there by definition, so it need not be sent
        rows = list(zip(predictions, references, strict=True))
        spoken = [number for number, texts in enumerate(rows) if all(text.strip() for text in texts)]
        columns = {name: [0.0] * len(rows) for name in ("precision", "recall", "f1")}
        if spoken:
            scores = self.scorer.score(*([rows[number][side] for number in spoken] for side in (0, 1)))
            for column, values in zip(columns.values(), scores, strict=True):
                for number, value in zip(spoken, values.tolist(), strict=True):
                    column[number] = value
        return columns
