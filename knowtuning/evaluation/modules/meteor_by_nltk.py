"""METEOR (Lavie and Agarwal, 2007) by NLTK, with the tokeniser fixed and WordNet used only where it is installed.

NLTK 3.10 differs from the paper in two ways that the numbers carry: words are matched from the end of the text, not so
that the chunks are fewest; and synonyms are looked up by the stem ("automobil"), so WordNet adds few matches.
NLTK's METEOR splits nothing, and other tokenisers move it by up to ten points: here words are in lower case, an
apostrophe inside a word is kept, punctuation is left out.
"""

import re

import datasets
import evaluate
import nltk
from nltk.translate.meteor_score import meteor_score

WORD = re.compile(r"\w+(?:['’]\w+)*")
TEXT = datasets.Value("string")


class NoWordNet:
    """Stands in for WordNet where NLTK finds none: no word has a synonym, so only equal words and stems match."""

    def synsets(self, word):
        return []


class Meteor(evaluate.Metric):
    """`compute(predictions, references)` returns the `scores` per row and the `variant`."""

    def _info(self):
        return evaluate.MetricInfo(
            description="METEOR by NLTK with alpha 0.9, beta 3, gamma 0.5.",
            citation="Lavie and Agarwal, METEOR, WMT 2007",
            features=datasets.Features({"predictions": TEXT, "references": TEXT}),
        )

    def _compute(self, predictions, references):
        wordnet, variant = NoWordNet(), "METEOR exact+stem, regex tokens (no WordNet)"
        try:  # NLTK looks on disk only: in NLTK_DATA and its usual folders
            nltk.corpus.wordnet.ensure_loaded()
            wordnet, variant = nltk.corpus.wordnet, "METEOR exact+stem+synonym, regex tokens (WordNet)"
        except LookupError:
            pass
        tokens = ([WORD.findall(text.lower()) for text in column] for column in (predictions, references))
        rows = zip(*tokens, strict=True)
        return {"scores": [meteor_score([words], said, wordnet=wordnet) for said, words in rows], "variant": variant}
