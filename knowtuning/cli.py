"""Command line: the verbs that `knowtuning --help` lists."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from knowtuning.execute import NotebookError
from knowtuning.files import DataError, count_lines, runs_folder, shown
from knowtuning.teacher.errors import TeacherError

BEFORE, RUN, AFTER, PARTS = "Before a run", "Run", "Read, compare, share", "What a walk calls"
CORES = os.cpu_count() or 1
HELP = "KnowTuning as executable notebooks. `knowtuning VERB --help` explains a verb; every option has a default."
app = typer.Typer(help=HELP, add_completion=False, pretty_exceptions_enable=False)


def _dollars(text: str) -> float:
    try:
        dollars = float(text)
    except ValueError:
        dollars = -1.0
    if not 0 <= dollars < float("inf"):
        raise typer.BadParameter(f"{text!r} is not an amount of dollars, such as 2.5 (0: no cap)")
    return dollars


def _option(metavar: str, text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, metavar=metavar, help=text, **more)


def _number(text: str, least: int = 1) -> Any:
    return typer.Option(metavar="N", min=least, help=text)


Name = Annotated[str, _option("NAME|FILE", "one that `knowtuning recipes` lists, or a YAML file.", "--recipe")]
Set = Annotated[list[str] | None, _option("FIELD=VALUE", "change a field of the recipe; may be repeated.", "--set")]
Base = Annotated[str, _option("MODEL", "the same as --set base=MODEL: a folder or hub name.")]
Seed = Annotated[int, _number("order of the training rows and everything drawn.", 0)]
Data = Annotated[str, _option("NAME|FILE", "real text: dolly, medquad, lima, nq, eli5, or a file of your own.")]
Copy = Annotated[str, _option("FILE", "local copy of a named data set, in place of the download.")]
Rows = Annotated[int, _number("use the first N rows only (0: all).", 0)]
Teacher = Annotated[str, _option("MODEL", "model to ask, in place of the recipe's.")]
MaxCost = Annotated[float, _option("DOLLARS", "cap on what the teacher costs (0: no cap).", parser=_dollars)]
Batch = Annotated[bool, typer.Option("--batch", help="by the Batch API: half price, within a day.")]
Cores = Annotated[int, _number("processor cores to use.")]
Progress = Annotated[Path | None, _option("FILE", "where the progress is written to.")]


def main(argv: list[str] | None = None) -> int:
    """Run one command; an error that the user can mend is one sentence on stderr and exit code 1 or 2."""
    given = (sys.argv[1:] if argv is None else argv) or ["--help"]
    try:
        return app(given, prog_name="knowtuning", standalone_mode=False) or 0
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
    from knowtuning.teacher.budget import load_price
    from knowtuning.teacher.server import is_local

    for recipe in map(get_recipe, recipe_names()):
        machine, price = recipe.machine, load_price(recipe.teacher)
        gpus = 0 if lab_of(recipe.base) else machine.num_processes
        cost = f"${price.input:g} + ${price.output:g}/M tokens" if price else "price unknown"
        cost = "free" if is_local(recipe.teacher) else cost
        needs = f"{machine.memory_gb:g} GB of memory, {machine.disk_gb:g} GB of disk, GPUs: {gpus}"
        print(recipe.name)
        for text in (recipe.about, f"{needs}; {recipe.teacher} ({cost})"):
            print(textwrap.fill(text, 80, initial_indent="  ", subsequent_indent="  "))
    print("Change one by --set FIELD=VALUE or --base MODEL, or extend it in a file.")


@app.command(rich_help_panel=BEFORE)
def doctor(
    recipe: Name = "lab",
    change: Set = None,
    base: Base = "",
    teacher: Teacher = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="try the whole path with random weights.")] = False,
    rows: Annotated[int, _number("rows that a dry run tells times for.")] = 4000,
    steps: Annotated[int, _number("training steps that it times.")] = 3,
    layers: Annotated[int, _number("layers that it tries (0: all on a GPU, a few on a CPU).", 0)] = 0,
) -> int:
    """Say whether endpoint, machine and packages suffice for a recipe."""
    from knowtuning.doctor import doctor

    return doctor(_kept(recipe, change, base), teacher, dry_run, rows, steps, layers)


@app.command(rich_help_panel=BEFORE)
def preview(
    recipe: Name = "lab",
    change: Set = None,
    base: Base = "",
    data: Data = "",
    copy: Copy = "",
    rows: Rows = 0,
    teacher: Teacher = "",
    max_cost: MaxCost = 0.0,
    count: Annotated[int, _number("rows to show.")] = 5,
) -> None:
    """Show a few rows and what the teacher makes of them."""
    from knowtuning.preview import preview

    training, opened = _asked(_kept(recipe, change, base), data, copy, rows, teacher, max_cost)
    with opened as asked:
        preview(asked, training[:count])


@app.command(rich_help_panel=BEFORE)
def estimate(
    recipe: Name = "lab",
    change: Set = None,
    base: Base = "",
    data: Data = "",
    copy: Copy = "",
    rows: Rows = 0,
    teacher: Teacher = "",
    max_cost: MaxCost = 0.0,
    sample: Annotated[int, _number("rows to ask about.")] = 60,
    price: Annotated[str, _option("IN,OUT", "dollars per million tokens, where none is known.")] = "",
    batch: Batch = False,
) -> None:
    """Tell calls, tokens and dollars of a run, from a sample."""
    from knowtuning.preview import print_estimate
    from knowtuning.teacher.budget import parse_price

    given = parse_price(price) if price else None
    training, opened = _asked(_kept(recipe, change, base), data, copy, rows, teacher, max_cost)
    with opened as asked:
        print_estimate(asked, training, sample, given, batch)


@app.command(rich_help_panel=BEFORE)
def quality(teacher: Teacher = "english-rules", max_cost: MaxCost = 0.0) -> None:
    """Measure a teacher on 60 answers labelled by hand, in some 240 calls."""
    from knowtuning.evaluation.teacher_quality import print_quality

    print_quality(teacher, runs_folder() / "quality" / teacher.replace("/", "_"), max_cost=max_cost or None)


@app.command(rich_help_panel=RUN)
def walk(
    recipe: Name = "lab",
    change: Set = None,
    base: Base = "",
    data: Data = "",
    copy: Copy = "",
    rows: Rows = 0,
    teacher: Teacher = "",
    max_cost: MaxCost = 0.0,
    batch: Batch = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="ask anew what was given up.")] = False,
    seeds: Annotated[str, _option("LIST", "comma-separated.")] = "0",
    arms: Annotated[str, _option("LIST", "comma-separated; docs/method.md explains them.")] = "sft,ka,knowtuning",
    ka: Annotated[str, _option("FILE", "train on this KA file (alpaca) instead of rewriting.")] = "",
    kc: Annotated[str, _option("FILE", "train on this KC file (ranking) instead of disturbing.")] = "",
    reference: Annotated[Literal["start", "base"], _option("MODEL", "of DPO: start (its adapter) or base.")] = "start",
    gamma: Annotated[float | None, _option("X", "weight of DPO's SFT term (default: 0.2; 0: none).")] = None,
    cores: Cores = CORES,
    shards: Annotated[int, _number("cut the training rows into so many, worked on side by side.")] = 1,
    executor: Annotated[
        Literal["local", "slurm", "kubernetes"], _option("PLACE", "where notebooks run: local, slurm, kubernetes.")
    ] = "local",
    jobs: Annotated[int, _number("jobs at once on a cluster.")] = 16,
    workflow_profile: Annotated[str, _option("DIR", "the cluster's settings: docs/cluster.md.")] = "",
) -> int:
    """Run all notebooks whose artefacts are missing or out of date, in order; a walk that was stopped goes on."""
    from knowtuning.arms import ARMS
    from knowtuning.cluster import here, on_cluster
    from knowtuning.recipe import get_recipe
    from knowtuning.walk import walk

    chosen = get_recipe(recipe, _changes(change, base))
    if unknown := [arm for arm in arms.split(",") if arm not in ARMS]:
        raise DataError(f"arm {unknown[0]!r} is unknown; use some of {', '.join(ARMS)}.")
    if wrong := [seed for seed in seeds.split(",") if not seed.isdigit()]:
        raise DataError(f"seed {wrong[0]!r} is not a whole number; write --seeds 0,1,2.")
    if chosen.lab is None and not data:
        raise DataError(f"recipe {chosen.name} needs real text: give --data FILE.")
    if shards > 1:
        from knowtuning.shards.shard import method

        method("score")  # refused here where shards cannot serve it
    given = {"data": _data(data), "copy": _file(copy, "copy"), "rows": rows, "model": teacher}
    given |= {"ka": _file(ka, "ka"), "kc": _file(kc, "kc"), "gamma": "" if gamma is None else str(gamma)}
    given |= {"reference": reference if reference != "start" else "", "shards": shards if shards > 1 else ""}
    options = {name: str(value) for name, value in given.items() if value}
    pay = f"max_cost={max_cost}" + (" batch=true" if batch else "")
    local = executor == "local"
    place = here(cores) if local else on_cluster(executor, jobs, chosen.name, workflow_profile)
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

    if wrong := [pair for pair in parameters or [] if "=" not in pair]:
        raise DataError(f"parameter {wrong[0]!r}: write name=value.")
    execute(notebook, output, dict(pair.split("=", 1) for pair in parameters or []), progress)


@app.command(rich_help_panel=AFTER)
def sheet(
    recipe: Name = "lab",
    seed: Seed = 0,
    arms: Annotated[str, _option("LIST", "the first is compared with each of the others.")] = "knowtuning,sft",
    count: Annotated[int, _number("questions per pair of arms.")] = 40,
    repeated: Annotated[float, _option("X", "per cent of the items that come twice.", min=0)] = 10,
) -> None:
    """Make a blind sheet of pairs of answers for people to compare."""
    from knowtuning.evaluation.human.sheet import sheet_of_run
    from knowtuning.run import Run

    path = sheet_of_run(Run("12_human_evaluation", recipe, seed), arms.split(","), count, repeated / 100)
    print(f"Give annotators {shown(path)}, and never human/keys. They answer it with:")
    print(f"knowtuning annotate {shown(path)} --as NAME")


@app.command(rich_help_panel=AFTER)
def annotate(
    sheet: Annotated[Path, typer.Argument(help="the sheet.jsonl that you were given.")],
    name: Annotated[str, _option("NAME", "your name: letters, digits, - and _.", "--as")],
    out: Annotated[Path | None, _option("FILE", "for the choices (default: choices/NAME.jsonl beside it).")] = None,
) -> int:
    """Compare the answers of a blind sheet, in the terminal."""
    from knowtuning.evaluation.human.annotate_terminal import annotate

    return annotate(sheet, name, out)


@app.command(rich_help_panel=AFTER)
def push(
    repository: Annotated[str, typer.Argument(help="name on the hub: user/dataset.")],
    recipe: Name = "lab",
    seed: Seed = 0,
    public: Annotated[bool, typer.Option("--public", help="for everybody to see (default: private).")] = False,
) -> None:
    """Push a run's data sets with their card to the Hugging Face hub (HF_TOKEN)."""
    from knowtuning.cards.push import push
    from knowtuning.run import Run

    print(push(Run("push", recipe, seed).root, repository, private=not public))


@app.command(rich_help_panel=PARTS)
def serve(
    model: Annotated[str, _option("MODEL", "english-rules, lab-oracle, lab-oracle-errors-NN.")] = "english-rules",
    recipe: Name = "lab",
    port: Annotated[int, _number("port on this machine.")] = 8000,
) -> None:
    """Serve a local teacher that speaks the OpenAI protocol, until Ctrl-C; the oracle knows the recipe's lab."""
    from knowtuning.teacher import server

    server.serve(model, _kept(recipe), port)


@app.command(rich_help_panel=PARTS)
def shard(
    stage: Annotated[str, typer.Argument(help="extract, score, rewrite or disturb.")],
    part: Annotated[str, typer.Argument(metavar="I/N", help="the slice, such as 3/8 for the third of eight.")],
    recipe: Name = "lab",
    seed: Seed = 0,
    teacher: Teacher = "",
    max_cost: MaxCost = 0.0,
    batch: Batch = False,
    progress: Progress = None,
) -> None:
    """Do one stage over a slice of the training rows, in bounded memory, for its part of the cap."""
    from knowtuning.progress import FILE_VARIABLE
    from knowtuning.progress import progress as bar
    from knowtuning.run import Run
    from knowtuning.shards.gather import share
    from knowtuning.shards.shard import parse_shard, run_stage

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler ends a job so: what is paid is recorded
    rows, run = parse_shard(part), Run("shard", recipe, seed)
    options: dict[str, Any] = {"batch": batch}
    if max_cost:
        options["max_cost"] = share(run, rows.of, max_cost)
    if progress:
        os.environ[FILE_VARIABLE] = str(progress)
    start, stop = rows.bounds(count_lines(run.need("data/train.jsonl")))
    with bar(f"shard {rows}", stop - start) as tick:
        account = run_stage(stage, rows, run, teacher, tick=tick, **options)
    if progress:
        progress.unlink(missing_ok=True)
    told = ", ".join(f"{count:,} {name}" for name, count in account["counts"].items())
    print(f"{stage} {rows}: {told} -> {shown(rows.output(run, stage))}")


@app.command(rich_help_panel=PARTS)
def gather(
    shards: Annotated[int, _number("how many there are.")],
    recipe: Name = "lab",
    seed: Seed = 0,
    artefacts: Annotated[bool, typer.Option("--artefacts", help="write what notebooks 03 to 06 write, too.")] = False,
) -> None:
    """Join what shards have paid for, so that the notebooks find it."""
    from knowtuning.run import Run
    from knowtuning.shards.gather import gather, write_artefacts

    run = Run("gather", recipe, seed)
    print(", ".join(f"{count:,} {name}" for name, count in gather(run, shards).items()))
    if artefacts:
        run.finish(**write_artefacts(run, shards))


def _changes(change: list[str] | None, base: str) -> list[str]:
    return [*([f"base={base}"] if base else []), *(change or [])]


def _kept(recipe: str, change: list[str] | None = None, base: str = "") -> str:
    """The name of the recipe that is asked for, which is kept where notebooks and jobs find it."""
    from knowtuning.recipe import get_recipe, keep

    return keep(get_recipe(recipe, _changes(change, base)))


def _asked(
    name: str, data: str, copy: str, rows: int, teacher: str, max_cost: float
) -> tuple[list[dict], AbstractContextManager]:
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
