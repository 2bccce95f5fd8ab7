"""What several test files share: a folder of its own for runs, and an untrained base of the smallest lab."""

import signal

import pytest

from knowtuning.recipe import get_recipe

SMOKE = get_recipe("smoke").lab

# a shell's & hands on that Ctrl-C is ignored, and the commands that tests start and interrupt would inherit it
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def own_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("KNOWTUNING_RUNS", str(tmp_path / "runs"))


@pytest.fixture(scope="session")
def untrained_base(tmp_path_factory):
    """Folder of a Llama with random weights and the lab's tokenizer."""
    from knowtuning.lab.base import build_model
    from knowtuning.lab.corpus import train_tokenizer
    from knowtuning.lab.world import World

    folder = tmp_path_factory.mktemp("base")
    tokenizer = train_tokenizer(World.load(SMOKE))
    build_model(SMOKE, tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
