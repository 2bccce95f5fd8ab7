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
        (["estimate", "--sample", "0"], "--sample: '0' is not a whole number above 0"),
        (["preview", "--count", "many"], "--count: 'many' is not a whole number above 0"),
        (["walk", "--max-cost", "-3"], "--max-cost: '-3' is not an amount of dollars"),
        (["walk", "--max-cost", "nan"], "--max-cost: 'nan' is not an amount of dollars"),
    ],
)
def test_a_number_that_means_nothing_is_refused(command, sentence, capsys):
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 2 and sentence in capsys.readouterr().err
