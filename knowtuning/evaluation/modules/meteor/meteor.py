"""METEOR (Lavie and Agarwal, 2007) by NLTK, with the tokeniser fixed and WordNet used only where it is installed.

NLTK 3.10 differs from the paper in two ways that the numbers carry: words are matched from the end of the text, not so
that the chunks are fewest; and synonyms are looked up by the stem ("automobil"), so WordNet adds few matches.
"""

import re

import datasets
import evaluate
import nltk
from nltk.translate.meteor_score import meteor_score

WORD = re.compile(r"\w+(?:['’]\w+)*")


class NoWordNet:
    """Stands in for WordNet where NLTK finds none: no word has a synonym, so only equal words and stems match."""

    def synsets(self, word):
        return []


def find_wordnet():
    """Return NLTK's WordNet, or the stand-in; NLTK looks on disk only (NLTK_DATA and its usual folders)."""
    try:
        nltk.corpus.wordnet.ensure_loaded()
    except LookupError:
        return NoWordNet()
    return nltk.corpus.wordnet


def tokenize(text):
    """Words of a text in lower case, an apostrophe inside a word kept, punctuation left out.

    NLTK's METEOR splits nothing, and other tokenisers move it by up to ten points.
    """
    return WORD.findall(text.lower())


class Meteor(evaluate.Metric):
    """`compute(predictions, references)` returns the mean `meteor`, the `scores` per row and the `variant`."""

    def _info(self):
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description="METEOR by NLTK with alpha 0.9, beta 3, gamma 0.5.",
            citation="Lavie and Agarwal, METEOR, WMT 2007",
            inputs_description="predictions and references: one text each per row",
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions, references):
        wordnet = find_wordnet()
        scores = [
            meteor_score([tokenize(reference)], tokenize(prediction), wordnet=wordnet)
            for prediction, reference in zip(predictions, references, strict=True)
        ]
        matching = "exact+stem, regex tokens (no WordNet)"
        if not isinstance(wordnet, NoWordNet):
            matching = "exact+stem+synonym, regex tokens (WordNet)"
        return {"meteor": sum(scores) / len(scores), "scores": scores, "variant": f"METEOR {matching}"}
