"""The command line: what cannot work is refused in one sentence before anything runs."""

import pytest

from knowtuning.cli import main


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--recipe", "lap"], "recipe 'lap' is unknown"),
        (["--arms", "sft,magic"], "arm 'magic' is unknown"),
        (["--seeds", "0,one"], "seed 'one' is not a whole number"),
        (["--recipe", "dolly-offline"], "needs real text"),
        (["--recipe", "dolly-offline", "--data", "nowhere.json"], "there is no such file"),
    ],
)
def test_a_walk_that_cannot_work_is_refused(options, sentence, capsys):
    assert main(["walk", *options]) == 1
    error = capsys.readouterr().err
    assert sentence in error and error.startswith("knowtuning: ") and error.count("\n") == 1


def test_a_second_walk_over_a_recipe_is_refused(tmp_path, capsys):
    import fcntl

    from knowtuning.run import runs_folder

    (runs_folder() / "smoke").mkdir(parents=True)
    with open(runs_folder() / "smoke" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(["walk", "--recipe", "smoke"]) == 1
    assert "another walk over recipe smoke is running" in capsys.readouterr().err


def test_a_parameter_without_a_value_is_refused(capsys):
    assert main(["execute", "01_questions_and_answers", "out.ipynb", "seed"]) == 1
    assert "write name=value" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["estimate", "--sample", "0"], "'--sample': Input should be greater than or equal to 1"),
        (["preview", "--count", "many"], "'--count': Input should be a valid integer"),
        (["walk", "--max-cost", "-3"], "'--max-cost': '-3' is not an amount of dollars"),
        (["walk", "--max-cost", "nan"], "'--max-cost': 'nan' is not an amount of dollars"),
        (
            ["walk", "--executor", "moon"],
            "'moon' is not one of 'local', 'slurm', 'kubernetes'",
        ),
        (["walks"], "No such command 'walks'"),
    ],
)
def test_a_number_that_means_nothing_is_refused(command, sentence, capsys):
    assert main(command) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.startswith("knowtuning: ") and error.count("\n") == 1


def test_the_list_of_verbs_fits_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    for verb in ("recipes", "doctor", "preview", "estimate", "walk", "execute", "sheet", "push", "serve", "shard"):
        assert f"│ {verb} " in shown
