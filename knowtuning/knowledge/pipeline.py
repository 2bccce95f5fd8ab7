"""The one wiring of the method, which notebooks 03 to 06, the study, the shards, the explorer and a preview all call.

Extract, find the difficult, rewrite: D_ka, for knowledge augmentation. Extract, disturb, rephrase: D_kc, for knowledge
comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from knowtuning.data.llamafactory import UNKNOWN, write_alpaca, write_dataset_info, write_ranking
from knowtuning.files import DataError, write_jsonl
from knowtuning.knowledge.aspects import ASPECTS
from knowtuning.knowledge.difficulty import select_difficult
from knowtuning.knowledge.disturb import disturb, word_answers
from knowtuning.knowledge.extract import extract_facts
from knowtuning.knowledge.rewrite import rewrite

if TYPE_CHECKING:
    from knowtuning.run import Run
    from knowtuning.teacher.client import Teacher

Counts = dict[str, int]
# perplexity of facts after their questions: `score_facts` with its model, tokenizer and `max_tokens`
Scorer = Callable[[list[dict], dict[str, str]], list[dict]]


@dataclass(frozen=True)
class Method:
    """The parameters of the method; the defaults are the paper's.

    alpha, scope, select: see `select_difficult`. condition_on_question: score a fact after its question, or on its own.
    beta, seed: see `disturb`. rejected: see `word_answers`.
    """

    alpha: float = 0.5
    scope: str = "answer"
    select: str = "hardest"
    condition_on_question: bool = True
    beta: float = 0.5
    rejected: str = "concatenated"
    seed: int = 0


class Made(NamedTuple):
    """Rows as in facts.jsonl and difficulty.jsonl, those of D* and D_kc, and the counts of each step."""

    facts: list[dict]
    difficulty: list[dict]
    rewritten: list[dict]
    pairs: list[dict]
    counts: dict[str, Counts]


def make(teacher: Teacher, score: Scorer, rows: list[dict], method: Method) -> Made:
    """All that the method makes of QA rows, as a walk makes it notebook by notebook."""
    facts, extracted = extract_facts(teacher, rows)
    difficulty = find_difficult(score, rows, facts, method)
    rewritten, augmented = augment(teacher, rows, difficulty)
    pairs, compared = compare(teacher, rows, facts, method)
    return Made(facts, difficulty, rewritten, pairs, {"extract": extracted, "rewrite": augmented, "disturb": compared})


def rehearse(teacher: Teacher, rows: list[dict], alpha: float = 0.5, seed: int = 0) -> Made:
    """`make` before there is an SFT model: a random alpha share of each answer's facts stands for the difficult ones."""

    def unscored(facts: list[dict], questions: dict[str, str]) -> list[dict]:
        places = ((row["id"], index, fact) for row in facts for index, fact in enumerate(row["facts"]))
        return [{"id": name, "index": index, "fact": fact} for name, index, fact in places]

    return make(teacher, unscored, rows, Method(alpha=alpha, select="random", seed=seed))


def find_difficult(score: Scorer, rows: list[dict], facts: list[dict], method: Method) -> list[dict]:
    """Score the facts of QA rows under the SFT model, and mark the difficult ones: the rows of difficulty.jsonl."""
    questions = {row["id"]: row["question"] if method.condition_on_question else "" for row in rows}
    return select_difficult(score(facts, questions), method.alpha, method.scope, method.select, method.seed)


def difficult_facts(difficulty: Iterable[dict]) -> dict[str, list[str]]:
    """The difficult facts K* of each answer, in its order, by the id of its row."""
    facts: dict[str, list[str]] = {}
    for row in difficulty:
        if row["difficult"]:
            facts.setdefault(row["id"], []).append(row["fact"])
    return facts


def augment(teacher: Teacher, rows: list[dict], difficulty: list[dict]) -> tuple[list[dict], Counts]:
    """D*: each QA row rewritten so that it is about its difficult facts; and counts."""
    return rewrite(teacher, rows, difficult_facts(difficulty))


def compare(teacher: Teacher, rows: list[dict], facts: list[dict], method: Method) -> tuple[list[dict], Counts]:
    """D_kc: for each aspect a pair of a rephrased answer and one made worse; and counts."""
    pairs, left_out = disturb(teacher, rows, {row["id"]: row["facts"] for row in facts}, method.beta, method.seed)
    pairs, counts = word_answers(teacher, pairs, method.rejected)
    return pairs, left_out | counts


def augmented(rows: Iterable[dict], rewritten: Iterable[dict]) -> Iterator[dict]:
    """D_ka = D + D*, each row with what `write_ka` tells of it: `from`, and the `facts` that it was made of."""
    for row in rows:
        yield {**row, "facts": [], "from": "original"}
    for row in rewritten:
        yield {**row, "id": f"{row['id']}.ka", "from": "rewritten"}


def write_ka(run: Run, rows: Iterable[dict]) -> None:
    """Write the rows of `augmented` as ka.json, for LLaMA-Factory too; provenance stands beside it row by row."""
    _write(run, "ka", write_alpaca(run.path("ka.json"), rows), rows, ("id", "from", "facts"))


def write_kc(run: Run, pairs: Iterable[dict]) -> None:
    """Write the pairs of `compare` as kc.json, for LLaMA-Factory too; provenance stands beside it row by row."""
    _write(run, "kc", write_ranking(run.path("kc.json"), pairs), pairs, ("id", "aspect", "facts", "disturbed"))


def _write(run: Run, name: str, path, rows: Iterable[dict], kept: tuple[str, ...]) -> None:
    run.wrote(path.name, path)
    write_dataset_info(run.root, name, path.name, ranking=name == "kc")
    provenance = run.path(f"{name}.provenance.jsonl")
    run.wrote(provenance.name, write_jsonl(provenance, ({key: row[key] for key in kept} for row in rows)))


def of_aspects(pairs: list[dict], provenance: list[dict], aspects: Iterable[str] = ()) -> list[dict]:
    """The pairs of some aspects (none: of all), each with its `aspect`.

    Args:
        pairs: the rows of kc.json.
        provenance: the rows of kc.provenance.jsonl, one for each pair.

    Raises:
        DataError: the two files differ in length, or some aspects are to be picked from pairs that do not tell theirs.
    """
    if len(pairs) != len(provenance):
        raise DataError(
            f"there are {len(pairs)} pairs and the provenance of {len(provenance)}; run the notebook that writes them."
        )
    wanted = set(aspects) or {row["aspect"] for row in provenance}
    if any(row["aspect"] == UNKNOWN for row in provenance):
        if wanted < set(ASPECTS):
            raise DataError(
                f"kc.provenance.jsonl does not tell the aspect of its pairs, so {', '.join(sorted(wanted))} cannot be "
                "picked; add a column 'aspect' to the comparison file, or train on all aspects."
            )
        wanted.add(UNKNOWN)
    told = [pair | {"aspect": row["aspect"]} for pair, row in zip(pairs, provenance, strict=True)]
    return [pair for pair in told if pair["aspect"] in wanted]
