"""The looking glass: one question through a finished run, and all that the method makes of the answer, at once."""

from __future__ import annotations

import os
import sys
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from knowtuning import display
from knowtuning.arms import ARMS
from knowtuning.display import View
from knowtuning.evaluation import facts
from knowtuning.files import DataError
from knowtuning.knowledge.difficulty import score_facts
from knowtuning.knowledge.pipeline import Method, make
from knowtuning.lab.world import World
from knowtuning.progress import FILE_VARIABLE
from knowtuning.run import Run
from knowtuning.teacher.client import Teacher
from knowtuning.teacher.errors import TeacherError
from knowtuning.teacher.server import open_teacher
from knowtuning.training import models
from knowtuning.training.dpo import SIDES
from knowtuning.training.generate import DECODINGS, generate
from knowtuning.training.token_log_probs import token_log_probs


class Explorer:
    """Answers questions with any arm of a finished run, and takes the answer through the steps of the method.

    Args:
        run: a run whose adapters are trained. Its files are only read; what the teacher says here is kept in a folder
            of its own, so that no table of the run counts it.
        model: the teacher's model; empty: the recipe's.
        records: folder of what the teacher says here; `explorer/` beside the runs of the recipe where it is None.

    Raises:
        DataError: the run has no adapter of SFT.
    """

    def __init__(self, run: Run, model: str = "", records: Path | None = None) -> None:
        self.run, self.teacher = run, model or run.recipe.teacher
        self.records = records or run.runs / run.recipe.name / "explorer"
        run.need("adapters/sft")
        trained = {path.parent.name for path in run.path("adapters").glob("*/adapter_config.json")}
        self.arms = ["base", *(arm for arm in ARMS if arm in trained)]
        self.world = World.load(run.recipe.lab) if run.recipe.lab else None
        self.tokenizer = models.load_tokenizer(run.need("base"), run.recipe.prompt)
        base = models.load_base(run.need("base"), run.recipe.quantisation, run.recipe.dtype)
        self.model = models.load_adapters(base, {arm: run.path(f"adapters/{arm}") for arm in self.arms[1:]})

    def look(
        self, question: str, arm: str = "knowtuning", temperature: float = 0.0, alpha: float = 0.5, seed: int = 0
    ) -> View:
        """The arm's answer beside SFT's; its facts by perplexity; their rewriting; three disturbances; log-ratios.

        Args:
            temperature: 0 is greedy; above it, top_p 0.7 and top_k 50 as in the paper's test scripts.
            alpha: share of the facts that counts as difficult.

        Raises:
            DataError: an empty question, or an arm that the run has not.
        """
        question = question.strip()
        if not question:
            raise DataError("the question is empty: type one, such as one of data/test.jsonl.")
        if arm not in self.arms:
            raise DataError(f"this run has no arm {arm!r}; it has {', '.join(self.arms)}.")
        answers = {name: self.answer(question, name, temperature, seed) for name in dict.fromkeys(("sft", arm))}
        parts = {"Answers": self._marked(question, answers)}
        settings = {"settings": self.run.recipe.base, "concurrency": self.run.recipe.concurrency}
        with open_teacher(self.teacher, self.records, **settings) as teacher:
            parts |= self._through_the_method(teacher, question, answers[arm], arm, alpha, seed)
        return _sections(parts)

    def answer(self, question: str, arm: str, temperature: float = 0.0, seed: int = 0) -> str:
        """What the arm says; see `look`."""
        decoding = DECODINGS["sampled"] | {"temperature": temperature} if temperature else DECODINGS["greedy"]
        longest = self.run.recipe.evaluation.max_new_tokens
        [row] = generate(self._under(arm), self.tokenizer, [question], decoding, longest, seed=seed)
        return row["answer"]

    def _through_the_method(
        self, teacher: Teacher, question: str, answer: str, arm: str, alpha: float, seed: int
    ) -> dict[str, View]:
        """What each step makes of the answer, as far as the teacher can follow."""
        rows = [{"id": question, "question": question, "answer": answer}] if answer else []

        def score(facts: list[dict], questions: dict[str, str]) -> list[dict]:
            return score_facts(self._under("sft"), self.tokenizer, facts, questions)

        made = make(teacher, score, rows, Method(alpha=alpha, seed=seed))
        if not made.facts:
            return {"Facts": _note("The teacher finds no fact in this answer, so the method ends here.")}
        columns = ([fact[name] for fact in made.difficulty] for name in ("fact", "perplexity", "difficult"))
        parts = {"Facts by perplexity under SFT": display.shaded_answer(answer, *columns)}
        for new in made.rewritten:
            parts["Difficult facts rewritten"] = display.rewriting(new["facts"], new["question"], new["answer"])
        if made.pairs:
            worse = {pair["aspect"]: " ".join(pair["disturbed"]) for pair in made.pairs}
            parts["Made worse in three ways"] = display.disturbances(" ".join(made.facts[0]["facts"]), worse)
        for pair in [pair for pair in made.pairs if pair["aspect"] == "factuality"]:
            reference = ARMS[arm].start or "base"
            tokens = {}
            for side in SIDES:
                texts = (self.tokenizer, pair["question"], pair[side])
                tokens[side] = [token_log_probs(self._under(name), *texts) for name in (arm, reference)]
            parts[f"A pair's log-ratios: {arm} against {reference}"] = display.log_ratios(tokens)
        return parts

    def _under(self, arm: str) -> Any:
        """The model with one arm's adapter, or none."""
        if arm == "base":
            self.model.base_model.disable_adapter_layers()
        else:
            self.model.base_model.enable_adapter_layers()
            self.model.set_adapter(arm)
        return self.model

    def _marked(self, question: str, answers: dict[str, str]) -> View:
        world = self.world
        entity = world.find_entity(question) if world else None
        if entity is None:
            return display.side_by_side(answers)
        read = {arm: (world.parse(text, entity), facts.missing(world, entity, text)) for arm, text in answers.items()}
        return display.answers_side_by_side(read)


def explore(explorer: Explorer, question: str, **chosen: Any) -> Any:
    """Controls in JupyterLab, beginning with this example; the example alone where nobody can press a button.

    That is: in a script, in a notebook executed headlessly, and without ipywidgets.
    """
    headless = FILE_VARIABLE in os.environ or "ipykernel" not in sys.modules
    if headless or find_spec("ipywidgets") is None:
        return explorer.look(question, **chosen)
    return controls(explorer, question, **chosen)


def controls(
    explorer: Explorer, question: str, arm: str = "knowtuning", temperature: float = 0.0, alpha: float = 0.5
) -> Any:
    """Controls over `Explorer.look`, and below them what it shows; Enter in the question looks too.

    Everything is reached by Tab. What cannot be shown (an empty question, a teacher that does not answer) is said in
    one sentence in its place.
    """
    import ipywidgets as widgets

    def look(**asked: Any) -> View:
        try:
            return explorer.look(**asked)
        except (DataError, TeacherError) as error:
            return _note(str(error))

    wide = {"layout": widgets.Layout(width="40em"), "style": {"description_width": "7em"}, "tabbable": True}
    form = widgets.interactive(
        look,
        {"manual": True, "manual_name": "look", "auto_display": True},
        question=widgets.Text(question, **wide),
        arm=widgets.Dropdown(options=explorer.arms, value=arm, **wide),
        temperature=widgets.FloatSlider(temperature, min=0, max=1.5, step=0.05, **wide),
        alpha=widgets.FloatSlider(alpha, min=0, max=1, step=0.05, **wide),
    )
    form.update()  # the example
    return form


def _note(text: str) -> View:
    return View(f"<p>{escape(text)}</p>", text)


def _sections(parts: dict[str, View]) -> View:
    html = "".join(f"<p><strong>{escape(title)}</strong></p>{view.html}" for title, view in parts.items())
    return View(html, "\n\n".join(f"{title}\n\n{view.text}" for title, view in parts.items()))
