"""Preference training: L = L_DPO + gamma * L_SFT(preferred), starting from and measured against pi_ka."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch.nn.functional import logsigmoid
from transformers import PrinterCallback, TrainingArguments

from knowtuning.recipe import Recipe
from knowtuning.training.launch import run_trainer, train_elsewhere, wants_processes
from knowtuning.training.packed import answer_log_probs, pack_answers, packed
from knowtuning.training.prompts import encode_within
from knowtuning.training.reference import reference_log_probs
from knowtuning.training.sft import PackedTrainer, shared_arguments

REFERENCES = ("start", "base")
SIDES = ("chosen", "rejected")


def dpo_loss(margins: torch.Tensor, beta: float = 0.1) -> torch.Tensor:
    """-log sigmoid(beta * margin), the DPO loss of each pair (Rafailov et al. 2023, equation 7).

    A margin is log pi(chosen)/ref(chosen) - log pi(rejected)/ref(rejected), in nats over the whole answers.

    Example:
        >>> round(dpo_loss(torch.tensor(0.0)).item(), 6)  # policy = reference: ln 2
        0.693147
    """
    return -logsigmoid(beta * margins)


def preference_loss(
    log_probs: torch.Tensor,
    counts: torch.Tensor,
    reference: torch.Tensor,
    beta: float,
    gamma: float,
    sft_mean: str,
    tokens: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """L = L_DPO + gamma * L_SFT(preferred) of a batch, and the log-ratios to the reference.

    L_DPO is the mean of `dpo_loss` over the pairs, on summed log-probabilities. L_SFT is the preferred answers'
    negative log-likelihood: with `sft_mean="tokens"` its mean over their tokens (TRL), with "answers" the mean over the
    answers of each answer's token mean (llmtuner).

    Shapes: log_probs, counts (of tokens) and reference (2n,): n preferred answers, then the n others; the loss (), the
    log-ratios (2n,). `tokens`: how many preferred tokens the mean is over, where they are not this batch's alone.
    """
    ratios = log_probs - reference
    chosen, rejected = ratios.chunk(2)
    dpo = dpo_loss(chosen - rejected, beta).mean()
    preferred, lengths = log_probs.chunk(2)[0], counts.chunk(2)[0]
    if sft_mean == "answers":
        sft = -(preferred / lengths).mean()
    else:
        sft = -preferred.sum() / (lengths.sum() if tokens is None else tokens)
    return dpo + gamma * sft, ratios


class PreferenceTrainer(PackedTrainer):
    """DPO over pairs whose reference is precomputed: examples of `dpo_examples` with `ref_chosen_logps` and so on.

    `beta`, `gamma` and `sft_mean` are those of `preference_loss`.
    """

    loss_is_scaled_for_ga = False
    beta, gamma, sft_mean = 0.1, 0.0, "tokens"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.numbers: list[dict[str, float]] = []
        # the reference has no dropout, and log-ratios are to it
        for module in self.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0

    def counted(self, batch: dict[str, torch.Tensor]) -> int:
        """The preferred answers' tokens: they are the first half of a batch."""
        return super().counted({"labels": batch["labels"][:, : batch["lengths"].chunk(2)[0].sum()]})

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        log_probs, counts = answer_log_probs(model, inputs)
        tokens = None
        if num_items_in_batch is not None and model.training:
            # the losses of micro-batches and processes are averaged afterwards: each needs a mean share of the tokens
            tokens = num_items_in_batch / self.accelerator.num_processes / self.current_gradient_accumulation_steps
        loss, ratios = preference_loss(
            log_probs, counts, inputs["reference"], self.beta, self.gamma, self.sft_mean, tokens
        )
        self.numbers.append(self._rewards(ratios.detach()))
        return (loss, {}) if return_outputs else loss

    def _rewards(self, ratios: torch.Tensor) -> dict[str, float]:
        """Means over the pairs of all processes; a reward is beta times the log-ratio."""
        rewards = self.accelerator.gather(self.beta * ratios).view(self.accelerator.num_processes, 2, -1)
        chosen, rejected = rewards.unbind(1)
        return {
            "rewards/chosen": chosen.mean().item(),
            "rewards/rejected": rejected.mean().item(),
            "rewards/margins": (chosen - rejected).mean().item(),
            "rewards/accuracies": (chosen > rejected).float().mean().item(),
        }

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log with a loss the rewards of its batches; those of watched pairs as "eval_rewards/…"."""
        prefix = "eval_" if any(name.startswith("eval_") for name in logs) else ""
        for name in self.numbers[0] if self.numbers else ():
            logs[prefix + name] = sum(batch[name] for batch in self.numbers) / len(self.numbers)
        self.numbers.clear()
        super().log(logs, start_time)


def collate_pairs(examples: list[dict]) -> dict[str, torch.Tensor]:
    """The batch of `pack` of all preferred answers and then all others, and their reference log-probabilities (2n,)."""
    sides = [(example, side) for side in SIDES for example in examples]
    batch = pack_answers([example["prompt_ids"] for example, _ in sides], [e[f"{side}_ids"] for e, side in sides])
    return batch | {"reference": torch.tensor([example[f"ref_{side}_logps"] for example, side in sides])}


def dpo_examples(tokenizer: Any, pairs: list[dict], max_length: int) -> tuple[list[dict], int]:
    """Tokenise pairs `{"question", "chosen", "rejected"}`; the second value counts answers cut at `max_length`."""
    examples, cut = [], 0
    for pair in pairs:
        example = {}
        for side in SIDES:
            prompt, answer, was_cut = encode_within(tokenizer, pair["question"], pair[side], max_length)
            cut += was_cut
            example |= {"prompt_ids": prompt, f"{side}_ids": answer}
        examples.append(example)
    return examples, cut


def dpo_trainer(
    model: Any,
    tokenizer: Any,
    pairs: list[dict],
    recipe: Recipe,
    seed: int,
    output: Path | str,
    gamma: float = 0.2,
    beta: float = 0.1,
    reference_model: Any = None,
    watched: int = 16,
) -> PreferenceTrainer:
    """Build the trainer, with the reference's log-probabilities computed or read from `output`/reference.

    Without a `reference_model` the reference is the model as it is given, pi_ka, and the loss before the first step is
    ln 2. `watched` pairs of each aspect, drawn from the training pairs, are evaluated before and during training, to
    see which aspect is learnt when; 0: none.
    """
    examples, _ = dpo_examples(tokenizer, pairs, recipe.max_length)
    watching = watch(examples, pairs, watched, seed)
    trainer = build_trainer(model, tokenizer, examples, watching, recipe, seed, output, gamma, beta)
    store, budget = Path(output) / "reference", recipe.machine.score_tokens
    add_reference(trainer, examples, reference_model or trainer.model, store, budget)
    trainer.train_dataset, trainer.eval_dataset = datasets(examples, watching)
    trainer.recipe = recipe
    trainer.job = {"examples": examples, "watched": watching, "seed": seed, "gamma": gamma, "beta": beta}
    return trainer


def build_trainer(
    model: Any,
    tokenizer: Any,
    examples: list[dict],
    watched: dict[str, list[dict]],
    recipe: Recipe,
    seed: int,
    output: Path | str,
    gamma: float,
    beta: float,
) -> PreferenceTrainer:
    """The trainer over tokenised examples, those to be `watched` by aspect."""
    steps = -(-len(examples) // recipe.dpo.batch) * recipe.dpo.epochs
    at_once = recipe.dpo.micro_batch or recipe.dpo.batch // recipe.machine.num_processes
    train, evaluated = datasets(examples, watched)
    trainer = PreferenceTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=train,
        eval_dataset=evaluated,
        data_collator=collate_pairs,
        args=TrainingArguments(
            output_dir=str(output),
            num_train_epochs=recipe.dpo.epochs,
            per_device_train_batch_size=at_once,
            gradient_accumulation_steps=recipe.dpo.batch // (at_once * recipe.machine.num_processes),
            per_device_eval_batch_size=max([1, *map(len, watched.values())]),
            learning_rate=recipe.dpo.learning_rate,
            eval_strategy="steps" if watched else "no",
            eval_steps=max(1, steps // 5),
            save_strategy="no",
            seed=seed,
            **shared_arguments(recipe),
        ),
    )
    trainer.beta, trainer.gamma, trainer.sft_mean = beta, gamma, recipe.dpo.sft_mean
    return trainer


def datasets(examples: list[dict], watched: dict[str, list[dict]]) -> tuple[Dataset, dict[str, Dataset] | None]:
    """What is trained on, and what is watched, as the trainer takes them."""
    return Dataset.from_list(examples), {aspect: Dataset.from_list(of) for aspect, of in watched.items()} or None


def add_reference(trainer: PreferenceTrainer, examples: list[dict], reference: Any, store: Path, budget: int) -> None:
    """Give every example the reference's log-probabilities of its two answers."""
    answers = [(example["prompt_ids"], example[f"{side}_ids"]) for example in examples for side in SIDES]
    values = iter(reference_log_probs(reference, answers, store, budget, trainer.accelerator.autocast()))
    for example in examples:
        example |= {f"ref_{side}_logps": next(values) for side in SIDES}


def watch(examples: list[dict], pairs: list[dict], count: int, seed: int) -> dict[str, list[dict]]:
    """At most `count` examples of each aspect, by its name."""
    watched = {}
    for aspect in sorted({pair["aspect"] for pair in pairs}) if count else ():
        of_aspect = [example for example, pair in zip(examples, pairs, strict=True) if pair["aspect"] == aspect]
        watched[aspect] = random.Random(f"{seed} {aspect}").sample(of_aspect, min(count, len(of_aspect)))
    return watched


def step_zero(trainer: PreferenceTrainer) -> list[dict]:
    """DPO loss (without the SFT term), margin and accuracy of each aspect before the first step: ln 2, 0 and 0."""
    trainer.remove_callback(PrinterCallback)
    gamma, trainer.gamma = trainer.gamma, 0.0
    with packed(trainer.model):
        trainer.evaluate()
    trainer.gamma = gamma
    return aspect_rows(trainer.state.log_history)


def train_dpo(trainer: PreferenceTrainer) -> tuple[Any, list[dict], list[dict], dict[str, Any]]:
    """Train and return (model, rows by step, rows by step and aspect, numbers)."""
    if wants_processes(trainer.recipe):
        found = train_elsewhere(trainer.model, trainer.recipe, f"{__name__}:build_trainer", trainer.job)
    else:
        found = run_trainer(trainer)
    history = found["history"]
    names = {"loss": "loss", "chosen reward": "rewards/chosen", "rejected reward": "rewards/rejected"}
    names |= {"margin": "rewards/margins", "accuracy": "rewards/accuracies"}
    losses = [{"step": h["step"]} | {ours: h[theirs] for ours, theirs in names.items()} for h in history if "loss" in h]
    return (
        trainer.model.eval(),
        losses,
        aspect_rows(history),
        {
            "pairs": len(trainer.train_dataset),
            "steps": found["steps"],
            "last margin": round(losses[-1]["margin"], 3),
            "last accuracy": round(losses[-1]["accuracy"], 3),
            "pairs per second": float(f"{found['metrics']['train_samples_per_second']:.3g}"),
        },
    )


def aspect_rows(history: list[dict]) -> list[dict]:
    """Rows `{"step", "aspect", "loss", "margin", "accuracy"}` out of the trainer's log.

    The loss is named after the watched set ("eval_logicality_loss"), the margins logged with it are not.
    """
    rows = []
    for entry in history:
        for key in entry:
            if key.startswith("eval_") and key.endswith("_loss"):
                rows.append(
                    {
                        "step": entry["step"],
                        "aspect": key.removeprefix("eval_").removesuffix("_loss"),
                        "loss": entry[key],
                        "margin": entry["eval_rewards/margins"],
                        "accuracy": entry["eval_rewards/accuracies"],
                    }
                )
    return rows
