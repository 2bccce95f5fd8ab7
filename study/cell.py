"""One cell of the study: every arm on one base with one training seed, by the functions that the notebooks call."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from knowtuning.arms import ARMS
from knowtuning.baselines import facttune, rlaif, samples
from knowtuning.evaluation import bertscore, report
from knowtuning.files import DataError, read_json, read_jsonl, shown, write_json, write_jsonl
from knowtuning.knowledge import pipeline
from knowtuning.knowledge.difficulty import score_facts
from knowtuning.knowledge.extract import extract_facts
from knowtuning.lab.annotators import annotate, narrow
from knowtuning.lab.world import World
from knowtuning.recipe import Recipe
from knowtuning.run import runs_folder
from knowtuning.teacher.record import Record
from knowtuning.teacher.server import open_teacher
from knowtuning.training import dpo, generate, models, sft
from study.plan import Method

DECODINGS = ("greedy", "sampled", "narrow")
SELECTIONS = {"ka": "", "ka_random": "random", "ka_easiest": "easiest"}


@dataclass
class Cell:
    """What one (recipe, seed) is made of, each part made when it is first asked for and kept in `folder`.

    `rates` are multiples of the recipe's learning rates by arm (1 where an arm has none). Adapters and answers that
    lie in `folder` are taken as they are, so that a run which was killed goes on where it was.
    """

    recipe: Recipe
    seed: int
    folder: Path
    method: Method = Method()
    rates: dict[str, float] = field(default_factory=dict)
    responses: int = 6
    confidence_samples: int = 20
    confidence_tokens: int = 24

    def __post_init__(self) -> None:
        base = runs_folder() / self.recipe.base / "base"
        if not (base / "model.safetensors").exists():
            raise DataError(f"{shown(base)} holds no base: run notebook 00_base_model with recipe={self.recipe.base}.")
        self.base = base
        self.tokenizer = models.load_tokenizer(base, self.recipe.prompt)
        self.world = World.load(self.recipe.lab)
        self.data = annotate(self.recipe.lab, self.seed)

    # --- the teacher's part

    @contextmanager
    def _teacher(self, purpose: str):
        """A teacher with a record of its own, so that what each set of examples costs can be read off its record."""
        options = {"settings": self.recipe.base, "concurrency": self.recipe.concurrency}
        with open_teacher(self.recipe.teacher, self.folder / "teacher" / purpose, **options) as teacher:
            yield teacher

    @cached_property
    def facts(self) -> list[dict]:
        with self._teacher("knowtuning") as teacher:
            return extract_facts(teacher, self.data.train)[0]

    @cached_property
    def scored_facts(self) -> list[dict]:
        questions = {row["id"]: row["question"] for row in self.data.train}
        return score_facts(self.model("sft"), self.tokenizer, self.facts, questions, self.recipe.machine.score_tokens)

    def _method(self, select: str) -> pipeline.Method:
        return pipeline.Method(alpha=self.method.alpha, beta=self.method.beta, select=select, seed=self.seed)

    def augmented(self, select: str) -> list[dict]:
        """D_ka: the original rows, and those rewritten from the facts that `select` takes for difficult."""
        rows, method = self.data.train, self._method(select)
        difficulty = pipeline.find_difficult(lambda *facts: self.scored_facts, rows, self.facts, method)
        with self._teacher("knowtuning" if select == self.method.select else select) as teacher:
            rewritten, _ = pipeline.augment(teacher, rows, difficulty)
        return list(pipeline.augmented(rows, rewritten))

    @cached_property
    def compared(self) -> list[dict]:
        """D_kc: the pairs of all three aspects."""
        with self._teacher("knowtuning") as teacher:
            return pipeline.compare(teacher, self.data.train, self.facts, self._method(self.method.select))[0]

    @cached_property
    def own_answers(self) -> list[dict]:
        """What the SFT model itself says to the training questions, for the baselines."""
        path = self.folder / "samples.jsonl"
        if not path.exists():
            options = (
                self.responses,
                self.recipe.evaluation.max_new_tokens,
                4 * self.recipe.evaluation.batch,
                self.seed,
            )
            write_jsonl(path, samples.draw(self.model("sft"), self.tokenizer, self.data.train, *options))
        return read_jsonl(path)

    def pairs(self, arm: str) -> list[dict]:
        """The preference pairs of an arm; baselines get as many as KnowTuning, if their candidates yield them."""
        if ARMS[arm].pairs == "kc":
            return [pair for pair in self.compared if pair["aspect"] in ARMS[arm].aspects]
        path = self.folder / "pairs" / f"{arm}.jsonl"
        if not path.exists():
            write_jsonl(path, self._baseline_pairs(arm, limit=len(self.compared)))
        return read_jsonl(path)

    def _baseline_pairs(self, arm: str, limit: int) -> list[dict]:
        with self._teacher(arm) as teacher:
            if arm == "rlaif":
                return rlaif.pairs(teacher, self.own_answers, limit, self.seed)[0]
            if arm == "facttune":
                references = {row["id"]: row["answer"] for row in self.data.train}
                rewards, _ = facttune.fact_scores(teacher, self.own_answers, references)
            else:
                sizes = (self.confidence_samples, self.confidence_tokens, 8 * self.recipe.evaluation.batch, self.seed)
                # the base is asked, as by Tian et al.: SFT answers narrow questions with whole descriptions
                rewards, _ = facttune.confidences(teacher, self._base(), self.tokenizer, self.own_answers, *sizes)
        return facttune.pairs(self.own_answers, rewards, limit, self.seed)[0]

    # --- training

    def place(self, arm: str) -> Path:
        """Where the adapter of `arm` lies at its rate."""
        rate = self.rates.get(arm, 1.0)
        return self.folder / "adapters" / (arm if rate == 1.0 else f"{arm}.{rate:g}x")

    def adapter(self, arm: str) -> Path:
        """Where the adapter of `arm` lies; it is trained if there is none yet, and so is the one it starts from."""
        path = self.place(arm)
        if not (path / "training.json").exists():
            start, numbers = time.time(), self._train(arm, path)
            write_json(path / "training.json", numbers | {"seconds": round(time.time() - start, 1)})
        return path

    def take(self, other: Cell, arms: Iterable[str]) -> None:
        """Take adapters and answers of `arms` over from a cell that would train and answer just the same."""
        for arm in arms:
            if not self.place(arm).exists():
                shutil.copytree(other.adapter(arm), self.place(arm))
            for path in other.folder.glob(f"answers/{arm}.*.jsonl"):
                (self.folder / "answers").mkdir(exist_ok=True)
                shutil.copyfile(path, self.folder / "answers" / path.name)

    def _train(self, arm: str, path: Path) -> dict:
        recipe = scaled(self.recipe, self.rates.get(arm, 1.0))
        if by_dpo(arm):
            model, numbers = self._train_dpo(arm, recipe)
        else:
            model, numbers = self._train_sft(arm, recipe)
        models.save_adapter(model, path, f"{arm}, seed {self.seed}, recipe {self.recipe.name}.")
        return numbers

    def _train_sft(self, arm: str, recipe: Recipe) -> tuple[Any, dict]:
        if arm == "ka_preferred":
            # batches and steps of the DPO that it stands beside
            rows = [{"question": pair["question"], "answer": pair["chosen"]} for pair in self.compared]
            recipe = recipe.replace(sft={"batch": recipe.dpo.batch, "epochs": recipe.dpo.epochs})
            model = models.load_adapter(self._base(), self.adapter("ka"), trainable=True)
        else:
            longer = arm == "sft_longer"
            recipe = recipe.replace(sft={"epochs": 2 * recipe.sft.epochs}) if longer else recipe
            rows = self.augmented(SELECTIONS[arm] or self.method.select) if arm in SELECTIONS else self.data.train
            model = models.new_adapter(self._base(), recipe, self.seed)
        model, _, numbers = sft.train_sft(model, self.tokenizer, rows, recipe, self.seed)
        return model, {"rows": numbers["rows"], "steps": numbers["steps"]}

    def _train_dpo(self, arm: str, recipe: Recipe) -> tuple[Any, dict]:
        pairs = self.pairs(arm)
        gamma = self.method.gamma if ARMS[arm].pairs == "kc" else ARMS[arm].gamma
        model = models.load_adapter(self._base(), self.adapter(ARMS[arm].start), trainable=True)
        options = {"output": self.folder / "trainer", "gamma": gamma, "watched": 0}
        trainer = dpo.dpo_trainer(model, self.tokenizer, pairs, recipe, self.seed, **options)
        model, losses, _, numbers = dpo.train_dpo(trainer)
        # likelihood displacement: where the preferred answers' own likelihood has gone, over the last fifth
        last = losses[-max(1, len(losses) // 5) :]
        drift = sum(row["chosen reward"] for row in last) / len(last)
        return model, {"pairs": len(pairs), "steps": numbers["steps"], "chosen reward at the end": round(drift, 4)}

    def drift(self, arm: str) -> dict[str, float]:
        """The reward of the preferred answers at the end of DPO, beta times their log-ratio; empty for other arms."""
        if not by_dpo(arm):
            return {}
        return {arm: read_json(self.adapter(arm) / "training.json")["chosen reward at the end"]}

    def _base(self) -> Any:
        return models.load_base(self.base, self.recipe.quantisation, self.recipe.dtype)

    def model(self, arm: str) -> Any:
        """The base under the adapter of `arm`, for generation."""
        return self._base() if arm == "base" else models.load_adapter(self._base(), self.adapter(arm)).eval()

    # --- answers

    @cached_property
    def questions(self) -> dict[str, list[dict]]:
        """Held-out rows by decoding: "narrow" is greedy too, on the shifted test set."""
        return {"greedy": self.data.test, "sampled": self.data.test, "narrow": narrow(self.recipe.lab)}

    def answers(self, arm: str, decodings: Iterable[str] = DECODINGS) -> dict[str, list[dict]]:
        """Scored answers of `arm` by decoding, without BERTScore."""
        model = cache(lambda: self.model(arm))
        rows = {}
        for decoding in decodings:
            path = self.folder / "answers" / f"{arm}.{decoding}.jsonl"
            if not path.exists():
                write_jsonl(path, self.score(model(), self.questions[decoding], decoding))
            rows[decoding] = read_jsonl(path)
        return rows

    def score(self, model: Any, rows: list[dict], decoding: str) -> list[dict]:
        """Let `model` answer `rows`, and count what it says."""
        asked = [row["question"] for row in rows]
        how = "sampled" if decoding == "sampled" else "greedy"
        sizes = (self.recipe.evaluation.max_new_tokens, 2 * self.recipe.evaluation.batch, self.seed)
        replies = generate.generate(model, self.tokenizer, asked, how, *sizes)
        return report.score_answers(rows, replies, self.world, with_bertscore=False)[0]


def run_cell(cell: Cell, arms: Iterable[str], say: Callable[[str], None] = lambda text: None) -> dict:
    """Train and evaluate all `arms` of a cell, and write `cell.json`, last: its presence means complete."""
    answers = {}
    for arm in arms:
        start = time.time()
        answers[arm] = cell.answers(arm)
        say(f"{cell.recipe.name} seed {cell.seed}: {arm} ({time.time() - start:.0f} s)")
    if cell.recipe.evaluation.bertscore:
        _add_bertscore(cell, answers)
    trained = {arm: cell.place(arm) / "training.json" for arm in answers if arm != "base"}
    record = {
        "recipe": cell.recipe.name,
        "seed": cell.seed,
        "world": cell.recipe.lab.world,
        "base_seed": cell.recipe.lab.base_seed,
        "learning_rates": {arm: learning_rate(cell.recipe, arm, cell.rates.get(arm, 1.0)) for arm in trained},
        "training": {arm: read_json(path) for arm, path in trained.items()},
        "teacher": {
            path.parent.name: spent(path.parent) for path in sorted((cell.folder / "teacher").glob("*/record.sqlite"))
        },
    }
    write_json(cell.folder / "cell.json", record)
    return record


def _add_bertscore(cell: Cell, answers: dict[str, dict[str, list[dict]]]) -> None:
    """BERTScore of the greedy answers of all arms at once: the encoder reads a text only once that several arms say."""
    rows = [row for of_arm in answers.values() for row in of_arm["greedy"]]
    if all("bertscore" in row for row in rows):
        return
    references = {row["id"]: row["answer"] for row in cell.data.test}
    scores = bertscore.score([row["answer"] for row in rows], [references[row["id"]] for row in rows])
    for row, score in zip(rows, scores, strict=True):
        row["bertscore"] = round(score, 4)
    for arm, of_arm in answers.items():
        write_jsonl(cell.folder / "answers" / f"{arm}.greedy.jsonl", of_arm["greedy"])


def scaled(recipe: Recipe, rate: float) -> Recipe:
    """The recipe with both learning rates times `rate`."""
    return recipe.replace(
        sft={"learning_rate": rate * recipe.sft.learning_rate}, dpo={"learning_rate": rate * recipe.dpo.learning_rate}
    )


def learning_rate(recipe: Recipe, arm: str, rate: float) -> float:
    """The learning rate that an arm is trained with."""
    return rate * (recipe.dpo.learning_rate if by_dpo(arm) else recipe.sft.learning_rate)


def by_dpo(arm: str) -> bool:
    """Whether an arm is trained on preference pairs."""
    return arm in ARMS and ARMS[arm].start is not None


def spent(folder: Path) -> dict[str, dict[str, int]]:
    """Calls and tokens by task, read from a teacher's record."""
    with Record(folder) as record:
        return record.calls()
