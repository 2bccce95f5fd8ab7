"""Two processes train what one trains: the same losses, and the same adapter."""

import pytest
import torch

from knowtuning.recipe import get_recipe
from knowtuning.training import launch
from knowtuning.training.dpo import dpo_trainer, train_dpo
from knowtuning.training.models import load_base, load_tokenizer, new_adapter
from knowtuning.training.sft import train_sft

RECIPE = get_recipe("smoke").replace(
    quantisation="none", sft={"batch": 4, "epochs": 2}, dpo={"batch": 4, "epochs": 2}, data={"val_size": 4}
)
ROWS = [
    {"question": f"What is the thing {'very ' * (n % 5)}{n}?", "answer": f"It is {'a word and ' * (n % 7)}{n}."}
    for n in range(16)
]
PAIRS = [
    {"question": row["question"], "chosen": row["answer"], "rejected": f"It is not {n}. " * (n % 3 + 1), "aspect": "x"}
    for n, row in enumerate(ROWS)
]


@pytest.fixture
def tokenizer(untrained_base):
    return load_tokenizer(untrained_base)


def fresh(base):
    return new_adapter(load_base(base, "none"), RECIPE, seed=0)


def adapter_of(model):
    return {name: p.detach() for name, p in model.named_parameters() if "lora_" in name}


def same_adapters(one, other):
    ours, theirs = adapter_of(one), adapter_of(other)
    assert max(p.abs().max() for name, p in theirs.items() if "lora_B" in name) > 1e-4, "nothing was trained"
    for name, parameter in theirs.items():
        assert torch.allclose(ours[name], parameter, atol=1e-3), name


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_sft_in_two_processes_gives_the_loss_curve_of_one(untrained_base, tokenizer, parallel):
    alone, losses, numbers = train_sft(fresh(untrained_base), tokenizer, ROWS, RECIPE, seed=0)
    two = RECIPE.replace(machine={"num_processes": 2, "parallel": parallel})
    together, theirs, their_numbers = train_sft(fresh(untrained_base), tokenizer, ROWS, two, seed=0)
    assert [row["step"] for row in theirs] == [row["step"] for row in losses]
    for one, other in zip(losses, theirs, strict=True):
        assert one == pytest.approx(other, abs=1e-3)
    assert numbers["best step"] == their_numbers["best step"] and numbers["steps"] == their_numbers["steps"]
    same_adapters(together, alone)


def test_dpo_in_two_processes_gives_the_loss_curve_of_one(untrained_base, tokenizer, tmp_path):
    found = []
    for processes in (1, 2):
        recipe = RECIPE.replace(machine={"num_processes": processes}, dpo={"micro_batch": 2})
        trainer = dpo_trainer(fresh(untrained_base), tokenizer, PAIRS, recipe, 0, tmp_path / str(processes))
        found.append(train_dpo(trainer))
    for ours, theirs in zip(found[0][1] + found[0][2], found[1][1] + found[1][2], strict=True):
        assert ours == pytest.approx(theirs, abs=1e-3)
    same_adapters(found[1][0], found[0][0])


def test_a_process_that_fails_is_told_in_one_sentence(untrained_base, tokenizer):
    two = RECIPE.replace(max_length=1, machine={"num_processes": 2})
    with pytest.raises(RuntimeError, match=r"^training in 2 processes failed: \w+Error: \S"):
        sft = "knowtuning.training.sft:sft_trainer"
        launch.train_elsewhere(fresh(untrained_base), two, sft, {"rows": "none", "seed": 0})


def test_a_batch_that_processes_cannot_share_is_refused():
    with pytest.raises(ValueError, match="sft.batch is 4, which 3 processes"):
        RECIPE.replace(machine={"num_processes": 3})
