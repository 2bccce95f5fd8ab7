"""Command line: the verbs that `knowtuning --help` lists."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from knowtuning.execute import NotebookError
from knowtuning.files import DataError, runs_folder, shown
from knowtuning.teacher.errors import TeacherError

if TYPE_CHECKING:
    from knowtuning.cluster import Place

BEFORE, RUN, AFTER, PARTS = "Before a run", "Run", "Read, compare, share", "What a walk calls"
CORES = os.cpu_count() or 1
app = typer.Typer(
    help="KnowTuning as executable notebooks. `knowtuning VERB --help` explains a verb; every number has a default.",
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _dollars(text: str) -> float:
    try:
        dollars = float(text)
    except ValueError:
        dollars = -1.0
    if not 0 <= dollars < float("inf"):
        raise typer.BadParameter(f"{text!r} is not an amount of dollars, such as 2.5 (0: no cap)")
    return dollars


Recipe_ = Annotated[
    str, typer.Option("--recipe", metavar="NAME|FILE", help="one that `knowtuning recipes` lists, or a YAML file.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="change a field of the recipe: sft.epochs=2. May be repeated."),
]
Base = Annotated[
    str, typer.Option("--base", metavar="MODEL", help="the same as --set base=MODEL: a folder or hub name.")
]
Seed = Annotated[int, typer.Option("--seed", metavar="N")]
Data = Annotated[
    str, typer.Option(metavar="NAME|FILE", help="for real text: dolly, medquad, lima, nq, eli5, or a file of your own.")
]
Copy = Annotated[str, typer.Option(metavar="FILE", help="local copy of a named data set, in place of the download.")]
Rows = Annotated[int, typer.Option(metavar="N", min=0, help="use the first rows only (0: all).")]
Teacher = Annotated[str, typer.Option("--teacher", metavar="MODEL", help="model to ask, in place of the recipe's.")]
MaxCost = Annotated[
    float, typer.Option(parser=_dollars, metavar="DOLLARS", help="cap on what the teacher costs (0: no cap).")
]
Batch = Annotated[bool, typer.Option("--batch", help="ask by the Batch API: half price, within a day.")]
Arms = Annotated[str, typer.Option("--arms", metavar="LIST", help="comma-separated; docs/method.md lists them.")]
Progress = Annotated[Path | None, typer.Option("--progress", help="file that the progress is written to.")]


def main(argv: list[str] | None = None) -> int:
    """Run one command; an error that the user can mend is one sentence on stderr and exit code 1."""
    try:
        return (
            app((sys.argv[1:] if argv is None else argv) or ["--help"], prog_name="knowtuning", standalone_mode=False)
            or 0
        )
    except typer.TyperException as error:
        print(f"knowtuning: {error.format_message()}", file=sys.stderr)
        return error.exit_code
    except (DataError, NotebookError, TeacherError, ValueError) as error:
        print(f"knowtuning: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, typer.Abort):
        return 130


@app.command(rich_help_panel=BEFORE)
def recipes() -> None:
    """List the recipes: what each is for, needs and costs."""
    from knowtuning.recipe import get_recipe, lab_of, recipe_names
    from knowtuning.teacher.prices import load_price
    from knowtuning.teacher.server import is_local

    for recipe in map(get_recipe, recipe_names()):
        gpus, price = recipe.machine.num_processes, load_price(recipe.teacher)
        needs = [f"{recipe.machine.memory_gb:g} GB of memory", f"{recipe.machine.disk_gb:g} of disk"]
        needs += ["no GPU" if lab_of(recipe.base) else "a GPU" if gpus == 1 else f"{gpus} GPUs"]
        cost = f"${price.input:g} + ${price.output:g}/M tokens" if price else "price unknown"
        needs += [f"{recipe.teacher} ({'free' if is_local(recipe.teacher) else cost})"]
        print(recipe.name)
        for text in (recipe.about, "needs " + ", ".join(needs)):
            print(textwrap.fill(text, 80, initial_indent="  ", subsequent_indent="  "))
    print("Change one by --set FIELD=VALUE or --base MODEL, or extend it in a file.")


@app.command(rich_help_panel=BEFORE)
def doctor(
    recipe: Recipe_ = "lab",
    change: Set = None,
    base: Base = "",
    teacher: Teacher = "",
    dry_run: Annotated[
        bool, typer.Option(help="try the whole path with random weights: memory, speed, times.")
    ] = False,
    rows: Annotated[int, typer.Option(metavar="N", min=1, help="rows that a dry run tells times for.")] = 4000,
    steps: Annotated[int, typer.Option(metavar="N", min=1, help="training steps that a dry run times.")] = 3,
    layers: Annotated[
        int, typer.Option(metavar="N", min=0, help="layers that it tries (0: all on a GPU, a few on a CPU).")
    ] = 0,
) -> int:
    """Say whether endpoint, machine and packages suffice for a recipe."""
    name = _recipe(recipe, change, base)
    if dry_run:
        from knowtuning.dryrun import print_dry_run

        return print_dry_run(name, rows, steps, layers)
    from knowtuning.doctor import doctor, print_findings

    return print_findings(doctor(name, teacher))


@app.command(rich_help_panel=BEFORE)
def preview(
    recipe: Recipe_ = "lab",
    change: Set = None,
    base: Base = "",
    data: Data = "",
    copy: Copy = "",
    rows: Rows = 0,
    teacher: Teacher = "",
    max_cost: MaxCost = 0.0,
    count: Annotated[int, typer.Option(metavar="N", min=1, help="rows to show.")] = 5,
) -> None:
    """Show a few rows and what the teacher makes of them."""
    from knowtuning.preview import preview

    training, opened = _asked(_recipe(recipe, change, base), data, copy, rows, teacher, max_cost)
    with opened as asked:
        preview(asked, training[:count])


@app.command(rich_help_panel=BEFORE)
def estimate(
    recipe: Recipe_ = "lab",
    change: Set = None,
    base: Base = "",
    data: Data = "",
    copy: Copy = "",
    rows: Rows = 0,
    teacher: Teacher = "",
    max_cost: MaxCost = 0.0,
    sample: Annotated[int, typer.Option(metavar="N", min=1, help="rows to ask about.")] = 60,
    price: Annotated[str, typer.Option(metavar="IN,OUT", help="dollars per million tokens, if none is known.")] = "",
    batch: Annotated[bool, typer.Option("--batch", help="at the price of the Batch API.")] = False,
) -> None:
    """Tell calls, tokens and dollars of a run, from a sample."""
    from knowtuning.preview import print_estimate
    from knowtuning.teacher.prices import parse_price

    given = parse_price(price) if price else None
    training, opened = _asked(_recipe(recipe, change, base), data, copy, rows, teacher, max_cost)
    with opened as asked:
        print_estimate(asked, training, sample, given, batch)


@app.command(rich_help_panel=RUN)
def walk(
    recipe: Recipe_ = "lab",
    change: Set = None,
    base: Base = "",
    data: Data = "",
    copy: Copy = "",
    rows: Rows = 0,
    teacher: Teacher = "",
    max_cost: MaxCost = 0.0,
    batch: Batch = False,
    seeds: Annotated[str, typer.Option(metavar="LIST", help="comma-separated.")] = "0",
    arms: Arms = "sft,ka,knowtuning",
    cores: Annotated[int, typer.Option(metavar="N", min=1)] = CORES,
    shards: Annotated[
        int, typer.Option(metavar="N", min=1, help="cut the training rows into so many, worked on side by side.")
    ] = 1,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="ask anew about rows that were given up.")
    ] = False,
    ka: Annotated[str, typer.Option(metavar="FILE", help="train on this KA file (alpaca) instead of rewriting.")] = "",
    kc: Annotated[
        str, typer.Option(metavar="FILE", help="train on this KC file (ranking) instead of disturbing.")
    ] = "",
    reference: Annotated[
        Literal["start", "base"],
        typer.Option(metavar="MODEL", help="of DPO: start, the adapter it starts from, or base."),
    ] = "start",
    gamma: Annotated[
        float | None, typer.Option(metavar="X", help="weight of DPO's SFT term (default: 0.2; 0: none).")
    ] = None,
    executor: Annotated[
        Literal["local", "slurm", "kubernetes"],
        typer.Option(metavar="PLACE", help="where the notebooks run: local, slurm, kubernetes."),
    ] = "local",
    jobs: Annotated[int, typer.Option(metavar="N", min=1, help="jobs at once on a cluster.")] = 16,
    workflow_profile: Annotated[str, typer.Option(metavar="DIR", help="the cluster's settings: docs/cluster.md.")] = "",
) -> int:
    """Run all notebooks whose artefacts are missing or out of date, in order; a walk that was stopped goes on."""
    from knowtuning.arms import ARMS
    from knowtuning.recipe import get_recipe
    from knowtuning.walk import walk

    chosen = get_recipe(recipe, _changes(change, base))
    if unknown := [arm for arm in arms.split(",") if arm not in ARMS]:
        raise DataError(f"arm {unknown[0]!r} is unknown; use some of {', '.join(ARMS)}.")
    if wrong := [seed for seed in seeds.split(",") if not seed.isdigit()]:
        raise DataError(f"seed {wrong[0]!r} is not a whole number; write --seeds 0,1,2.")
    if chosen.lab is None and not data:
        raise DataError(f"recipe {chosen.name} needs real text: give --data FILE.")
    given = {"data": _data(data), "copy": _file(copy, "copy"), "rows": rows, "model": teacher}
    given |= {"ka": _file(ka, "ka"), "kc": _file(kc, "kc"), "gamma": "" if gamma is None else str(gamma)}
    given |= {"reference": reference if reference != "start" else "", "shards": shards if shards > 1 else ""}
    if shards > 1:
        from knowtuning.shards.method import method

        method("score")  # refused here where shards cannot serve it
    options = {name: str(value) for name, value in given.items() if value}
    pay = f"max_cost={max_cost}" + (" batch=true" if batch else "")
    place = _place(executor, cores, jobs, chosen.name, workflow_profile)
    code = walk(chosen, seeds, arms, place, options, pay, retry_failed)
    if code == 0:
        from knowtuning.evaluation.report import print_report

        for seed in seeds.split(","):
            print_report(chosen.name, int(seed), arms.split(","))
    return code


@app.command(rich_help_panel=RUN)
def execute(
    notebook: Annotated[str, typer.Argument(help="its path, or its name in notebooks/.")],
    output: Annotated[Path, typer.Argument(help="where the executed notebook goes.")],
    parameters: Annotated[list[str] | None, typer.Argument(metavar="[NAME=VALUE]...")] = None,
    progress: Progress = None,
) -> None:
    """Execute one notebook with checked parameters."""
    from knowtuning.execute import execute

    given = {}
    for pair in parameters or []:
        name, equals, value = pair.partition("=")
        if not equals:
            raise DataError(f"parameter {pair!r}: write name=value.")
        given[name] = value
    execute(notebook, output, given, progress)


@app.command(rich_help_panel=RUN)
def results(
    study: Annotated[str, typer.Option(help="lab, or smoke: does everything run?")] = "lab",
    cores: Annotated[int, typer.Option(metavar="N", min=1)] = CORES,
) -> int:
    """Run all arms over all seeds and bases, learning rates and map: hours."""
    from knowtuning.study.run import results

    return results(study, cores)


@app.command(rich_help_panel=AFTER)
def sheet(
    recipe: Recipe_ = "lab",
    change: Set = None,
    base: Base = "",
    seed: Seed = 0,
    arms: Annotated[str, typer.Option(help="the first is compared with each of the others.")] = "knowtuning,sft",
    count: Annotated[int, typer.Option(metavar="N", min=1, help="questions per pair of arms.")] = 40,
    repeated: Annotated[float, typer.Option(metavar="N", min=0, help="per cent of the items that come twice.")] = 10,
) -> None:
    """Make a blind sheet of pairs of answers for people to compare."""
    from knowtuning.evaluation.sheet import sheet_of_run
    from knowtuning.run import Run

    run = Run("12_human_evaluation", _recipe(recipe, change, base), seed)
    path = sheet_of_run(run, arms.split(","), count, repeated / 100)
    print(f"Give annotators {shown(path)}, and never human/keys. They answer it with:")
    print(f"knowtuning annotate {shown(path)} --as NAME")


@app.command(rich_help_panel=AFTER)
def annotate(
    sheet: Annotated[Path, typer.Argument(help="the sheet.jsonl that you were given.")],
    name: Annotated[str, typer.Option("--as", metavar="NAME", help="your name: letters, digits, - and _.")],
    out: Annotated[Path | None, typer.Option(help="file for the choices (default: choices/NAME.jsonl by it).")] = None,
) -> int:
    """Compare the answers of a blind sheet, in the terminal."""
    from knowtuning.annotate_terminal import annotate

    return annotate(sheet, name, out)


@app.command(rich_help_panel=AFTER)
def publish(
    recipe: Recipe_ = "lab",
    change: Set = None,
    base: Base = "",
    seed: Seed = 0,
    arm: Annotated[str, typer.Option(help="the arm whose notebooks 08 and 09 are shown.")] = "knowtuning",
) -> None:
    """Copy a run's executed notebooks and figures into the repository."""
    from knowtuning.publish import publish

    publish(_recipe(recipe, change, base), seed, arm)


@app.command(rich_help_panel=AFTER)
def push(
    repository: Annotated[str, typer.Argument(help="name on the hub: user/dataset.")],
    recipe: Recipe_ = "lab",
    change: Set = None,
    base: Base = "",
    seed: Seed = 0,
    public: Annotated[bool, typer.Option("--public", help="for everybody to see (default: private).")] = False,
) -> None:
    """Push a run's data sets with their card to the Hugging Face hub (HF_TOKEN)."""
    from knowtuning.data.hub import push
    from knowtuning.run import Run

    print(push(Run("push", _recipe(recipe, change, base), seed).root, repository, private=not public))


@app.command(rich_help_panel=BEFORE)
def quality(teacher: Teacher = "english-rules", max_cost: MaxCost = 0.0) -> None:
    """Measure a teacher on 60 answers labelled by hand (240 calls or so)."""
    from knowtuning.evaluation.teachers import print_quality

    directory = runs_folder() / "quality" / teacher.replace("/", "_")
    print_quality(teacher, directory, max_cost=max_cost or None)


@app.command(rich_help_panel=PARTS)
def serve(
    model: Annotated[str, typer.Option(help="english-rules, lab-oracle or lab-oracle-errors-NN.")] = "english-rules",
    recipe: Recipe_ = "lab",
    port: int = 8000,
) -> None:
    """Serve a local teacher that speaks the OpenAI protocol, until Ctrl-C; a recipe's lab is what the oracle knows."""
    from knowtuning.teacher.server import run_server

    run_server(model, settings=_recipe(recipe), port=port)


@app.command(rich_help_panel=PARTS)
def shard(
    stage: Annotated[str, typer.Argument(help="extract, score, rewrite or disturb.")],
    part: Annotated[str, typer.Argument(metavar="I/N", help="the slice, such as 3/8 for the third of eight.")],
    recipe: Recipe_ = "lab",
    change: Set = None,
    base: Base = "",
    seed: Seed = 0,
    teacher: Teacher = "",
    max_cost: MaxCost = 0.0,
    batch: Batch = False,
    progress: Progress = None,
) -> None:
    """Do one stage over a slice of the training rows, in bounded memory; each shard may cost its part of the cap."""
    from knowtuning.progress import FILE_VARIABLE
    from knowtuning.progress import progress as shown_progress
    from knowtuning.run import Run
    from knowtuning.shards.gather import share
    from knowtuning.shards.shard import count_rows, parse_shard
    from knowtuning.shards.stages import run_stage

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's way to end a job: record first
    slice_, run = parse_shard(part), Run("shard", _recipe(recipe, change, base), seed)
    options = {"batch": batch}
    if max_cost:
        options["max_cost"] = share(run, slice_.of, max_cost, teacher or run.recipe.teacher)
    if progress:
        os.environ[FILE_VARIABLE] = str(progress)
    start, stop = slice_.bounds(count_rows(run))
    with shown_progress(f"shard {slice_}", stop - start) as tick:
        account = run_stage(stage, slice_, run, teacher, tick=tick, **options)
    if progress:
        progress.unlink(missing_ok=True)
    told = ", ".join(f"{count:,} {name}" for name, count in account["counts"].items())
    print(f"{stage} {slice_}: {told} -> {shown(slice_.output(run, stage))}")


@app.command(rich_help_panel=PARTS)
def gather(
    shards: Annotated[int, typer.Option(metavar="N", min=1, help="number of the shards.")],
    recipe: Recipe_ = "lab",
    change: Set = None,
    base: Base = "",
    seed: Seed = 0,
    artefacts: Annotated[bool, typer.Option("--artefacts", help="write what notebooks 03 to 06 write, too.")] = False,
) -> None:
    """Join what shards have paid for, so that the notebooks find it."""
    from knowtuning.run import Run
    from knowtuning.shards.gather import gather, write_artefacts

    run = Run("gather", _recipe(recipe, change, base), seed)
    print(", ".join(f"{count:,} {name}" for name, count in gather(run, shards).items()))
    if artefacts:
        run.finish(**write_artefacts(run, shards))


def _changes(change: list[str] | None, base: str) -> list[str]:
    return [*([f"base={base}"] if base else []), *(change or [])]


def _recipe(recipe: str, change: list[str] | None = None, base: str = "") -> str:
    """The name of the recipe that is asked for, which is kept where notebooks and jobs find it."""
    from knowtuning.recipe import get_recipe, keep

    return keep(get_recipe(recipe, _changes(change, base)))


def _place(executor: str, cores: int, jobs: int, recipe: str, workflow_profile: str) -> Place:
    from knowtuning.cluster import here, on_cluster

    return here(cores) if executor == "local" else on_cluster(executor, jobs, recipe, workflow_profile)


def _asked(name: str, data: str, copy: str, rows: int, teacher: str, max_cost: float) -> tuple:
    """The rows that a walk would ask about, and its own teacher, not yet opened: the run does not pay for it again."""
    from knowtuning.preview import training_rows
    from knowtuning.recipe import get_recipe
    from knowtuning.teacher.server import open_teacher

    recipe, folder = get_recipe(name), runs_folder() / name / "teacher"
    training = training_rows(recipe, _data(data), _file(copy, "copy"), rows)
    return training, open_teacher(teacher or recipe.teacher, folder, recipe.base, max_cost=max_cost or None)


def _data(data: str) -> str:
    """The data set to read, by name or as an absolute path."""
    from knowtuning.data.registry import registry

    return data if data in registry() else _file(data, "data")


def _file(name: str, option: str) -> str:
    """The absolute path of a file or folder that was given; nothing where none was."""
    if name and not Path(name).exists():
        raise DataError(f"--{option} {name}: there is no such file.")
    return str(Path(name).resolve()) if name else ""


if __name__ == "__main__":
    sys.exit(main())
