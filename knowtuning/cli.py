"""Command line: `knowtuning walk`, `annotate` and the other verbs that `knowtuning --help` lists."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from knowtuning.execute import NotebookError
from knowtuning.files import DataError
from knowtuning.teacher.errors import TeacherError

if TYPE_CHECKING:
    from knowtuning.prospect import Prospect


def main(argv: list[str] | None = None) -> int:
    """Run one command; an error that the user can mend is one sentence on stderr and exit code 1."""
    arguments = _parser().parse_args(argv)
    try:
        if "recipe" in arguments:
            arguments.recipe = _recipe(arguments)
        return arguments.run(arguments) or 0
    except (DataError, NotebookError, TeacherError, ValueError) as error:
        print(f"knowtuning: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _recipe(arguments: argparse.Namespace) -> str:
    """The name of the recipe that is asked for, which is kept where notebooks and jobs find it."""
    from knowtuning.recipe import get_recipe, keep

    return keep(get_recipe(arguments.recipe, [*([f"base={arguments.base}"] if arguments.base else []), *arguments.set]))


def _recipes(arguments: argparse.Namespace) -> None:
    import textwrap

    from knowtuning.recipe import get_recipe, lab_of, recipe_names
    from knowtuning.teacher.budget import load_price
    from knowtuning.teacher.server import is_local

    for recipe in map(get_recipe, recipe_names()):
        gpus = recipe.machine.num_processes
        price = load_price(recipe.teacher)
        needs = [f"{recipe.machine.memory_gb:g} GB of memory", f"{recipe.machine.disk_gb:g} of disk"]
        needs += ["no GPU" if lab_of(recipe.base) else f"{gpus} GPUs" if gpus > 1 else "a GPU"]
        cost = f"${price.input:g} + ${price.output:g}/M tokens" if price else "price unknown"
        needs += [f"{recipe.teacher} ({'free' if is_local(recipe.teacher) else cost})"]
        print(f"{recipe.name}\n{textwrap.fill(recipe.about, 80, initial_indent='  ', subsequent_indent='  ')}")
        print(textwrap.fill("needs " + ", ".join(needs), 80, initial_indent="  ", subsequent_indent="  "))
    print("Change one by --set FIELD=VALUE or --base MODEL, or extend it in a file.")


def _doctor(arguments: argparse.Namespace) -> int:
    if arguments.dry_run:
        from knowtuning.dryrun import print_dry_run

        return print_dry_run(arguments.recipe, arguments.rows, arguments.steps, arguments.layers)
    from knowtuning.doctor import doctor

    return doctor(arguments.recipe, arguments.teacher)


def _preview(arguments: argparse.Namespace) -> None:
    from knowtuning.prospect import preview

    preview(_prospect(arguments), arguments.count)


def _estimate(arguments: argparse.Namespace) -> None:
    from knowtuning.prospect import print_estimate
    from knowtuning.teacher.budget import parse_price

    price = parse_price(arguments.price) if arguments.price else None
    print_estimate(_prospect(arguments), arguments.sample, price, arguments.batch)


def _walk(arguments: argparse.Namespace) -> int:
    from knowtuning.arms import ARMS
    from knowtuning.cluster import here, on_cluster
    from knowtuning.recipe import get_recipe
    from knowtuning.walk import walk

    recipe, arms, seeds = get_recipe(arguments.recipe), arguments.arms.split(","), arguments.seeds.split(",")
    if unknown := [arm for arm in arms if arm not in ARMS]:
        raise DataError(f"arm {unknown[0]!r} is unknown; use some of {', '.join(ARMS)}.")
    if wrong := [seed for seed in seeds if not seed.isdigit()]:
        raise DataError(f"seed {wrong[0]!r} is not a whole number; write --seeds 0,1,2.")
    data, copy = _data(arguments)
    if recipe.lab is None and not data:
        raise DataError(f"recipe {recipe.name} needs real text: give --data FILE.")
    given = {
        "data": data,
        "copy": copy,
        "rows": arguments.rows,
        "model": arguments.teacher,
        "ka": _file(arguments.ka, "ka"),
        "kc": _file(arguments.kc, "kc"),
        "reference": arguments.reference,
        "gamma": "" if arguments.gamma is None else str(arguments.gamma),
    }
    if arguments.shards > 1:
        from knowtuning.shards.shard import method

        method("score")  # refused here where shards cannot serve it
        given["shards"] = arguments.shards
    options = {name: str(value) for name, value in given.items() if value}
    pay = f"max_cost={arguments.max_cost}" + (" batch=true" if arguments.batch else "")
    place = here(arguments.cores)
    if arguments.executor != "local":
        place = on_cluster(arguments.executor, arguments.jobs, recipe.name, arguments.workflow_profile)
    code = walk(recipe.name, arguments.seeds, arguments.arms, place, options, pay, arguments.retry_failed)
    if code == 0:
        from knowtuning.evaluation.report import print_report

        for seed in seeds:
            print_report(recipe.name, int(seed), arms)
    return code


def _execute(arguments: argparse.Namespace) -> None:
    from knowtuning.execute import execute

    given = {}
    for pair in arguments.parameters:
        name, equals, value = pair.partition("=")
        if not equals:
            raise DataError(f"parameter {pair!r}: write name=value.")
        given[name] = value
    execute(arguments.notebook, arguments.output, given, arguments.progress)


def _shard(arguments: argparse.Namespace) -> None:
    from knowtuning.files import count_lines, shown
    from knowtuning.progress import file_tick
    from knowtuning.run import Run
    from knowtuning.shards.gather import share
    from knowtuning.shards.shard import parse_shard, run_stage

    signal.signal(signal.SIGTERM, _interrupt)  # a scheduler's way to end a job: what is paid is recorded first
    shard, run = parse_shard(arguments.shard), Run("shard", arguments.recipe, arguments.seed)
    options = {"batch": arguments.batch}
    if arguments.max_cost:
        options["max_cost"] = share(run, shard.of, arguments.max_cost)
    if arguments.progress:
        start, stop = shard.bounds(count_lines(run.need("data/train.jsonl")))
        options["tick"] = file_tick(arguments.progress, f"shard {shard}", stop - start)
    account = run_stage(arguments.stage, shard, run, arguments.teacher, **options)
    if arguments.progress:
        arguments.progress.unlink(missing_ok=True)
    told = ", ".join(f"{count:,} {name}" for name, count in account["counts"].items())
    print(f"{arguments.stage} {shard}: {told} -> {shown(shard.output(run, arguments.stage))}")


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _gather(arguments: argparse.Namespace) -> None:
    from knowtuning.run import Run
    from knowtuning.shards.gather import gather, write_artefacts

    run = Run("gather", arguments.recipe, arguments.seed)
    counts = gather(run, arguments.shards)
    print(", ".join(f"{count:,} {name}" for name, count in counts.items()))
    if arguments.artefacts:
        run.finish(**write_artefacts(run, arguments.shards))


def _quality(arguments: argparse.Namespace) -> None:
    from knowtuning.evaluation.teacher_quality import print_quality
    from knowtuning.run import runs_folder

    directory = runs_folder() / "quality" / arguments.teacher.replace("/", "_")
    print_quality(arguments.teacher, directory, max_cost=arguments.max_cost or None)


def _publish(arguments: argparse.Namespace) -> None:
    from knowtuning.publish import publish

    publish(arguments.recipe, arguments.seed, arguments.arm)


def _sheet(arguments: argparse.Namespace) -> None:
    from knowtuning.evaluation.human.sheet import sheet_of_run
    from knowtuning.files import shown
    from knowtuning.run import Run

    run = Run("12_human_evaluation", arguments.recipe, arguments.seed)
    path = sheet_of_run(run, arguments.arms.split(","), arguments.count, arguments.repeated / 100)
    print(f"Give annotators {shown(path)}, and never human/keys. They answer it with:")
    print(f"knowtuning annotate {shown(path)} --as NAME")


def _annotate(arguments: argparse.Namespace) -> int:
    from knowtuning.evaluation.human.annotate_terminal import annotate

    return annotate(arguments.sheet, arguments.name, arguments.out)


def _push(arguments: argparse.Namespace) -> None:
    from knowtuning.cards.push import push
    from knowtuning.run import Run

    print(push(Run("push", arguments.recipe, arguments.seed).root, arguments.repository, private=not arguments.public))


def _serve(arguments: argparse.Namespace) -> None:
    from knowtuning.teacher.server import serve

    serve(arguments.model, arguments.settings, arguments.port)


def _prospect(arguments: argparse.Namespace) -> Prospect:
    from knowtuning.prospect import Prospect

    data, copy = _data(arguments)
    cap = arguments.max_cost or None
    return Prospect(arguments.recipe, data, copy, arguments.rows, arguments.teacher, cap)


def _data(arguments: argparse.Namespace) -> tuple[str, str]:
    """The data set to read, by name or as an absolute path, and the local copy of a named one."""
    from knowtuning.data.registry import registry

    copy = _file(arguments.copy, "copy")
    return (arguments.data if arguments.data in registry() else _file(arguments.data, "data")), copy


def _file(name: str, option: str) -> str:
    """The absolute path of a file or folder that was given; nothing where none was."""
    if name and not Path(name).exists():
        raise DataError(f"--{option} {name}: there is no such file.")
    return str(Path(name).resolve()) if name else ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="knowtuning", description="KnowTuning as executable notebooks.")
    commands = parser.add_subparsers(required=True, metavar="command")

    recipe = argparse.ArgumentParser(add_help=False)
    said = "sizes and machinery: a name that `knowtuning recipes` lists, or a YAML file of your own (default: lab)"
    recipe.add_argument("--recipe", default="lab", metavar="NAME|FILE", help=said)
    said = "change a field of it, such as sft.learning_rate=1e-4; may be repeated, and makes another recipe"
    recipe.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help=said)
    recipe.add_argument(
        "--base", default="", metavar="MODEL", help="the same as --set base=MODEL: a folder or hub name"
    )

    data = argparse.ArgumentParser(add_help=False, parents=[recipe])
    data.add_argument("--data", default="", help="for real text: dolly, medquad, lima, nq, eli5, or a file of your own")
    data.add_argument("--copy", default="", help="local copy of a named data set, in place of the download")
    data.add_argument("--rows", type=int, default=0, help="use the first ROWS rows (default: all)")
    data.add_argument("--teacher", default="", help="model to ask (default: the recipe's)")
    _max_cost(data)

    recipes = commands.add_parser("recipes", help="list the recipes: what each is for, needs and costs")
    recipes.set_defaults(run=_recipes)

    said = "say whether endpoint, machine and packages suffice for a recipe"
    doctor = commands.add_parser("doctor", parents=[recipe], help=said)
    doctor.add_argument("--teacher", default="", help="model to ask (default: the recipe's)")
    said = "go the whole path with a random base of the recipe's shape: memory, speed, times; asks no endpoint"
    doctor.add_argument("--dry-run", action="store_true", help=said)
    doctor.add_argument("--rows", type=_positive, default=4000, help="rows that a dry run tells times for (4000)")
    doctor.add_argument("--steps", type=_positive, default=3, help="training steps that a dry run times (3)")
    said = "layers that a dry run tries (default: all on a GPU, a few on a CPU)"
    doctor.add_argument("--layers", type=_positive, default=0, help=said)
    doctor.set_defaults(run=_doctor)

    preview = commands.add_parser("preview", parents=[data], help="show a few rows and what the teacher makes of them")
    preview.add_argument("--count", type=_positive, default=5, help="rows to show (default: 5)")
    preview.set_defaults(run=_preview)

    estimate = commands.add_parser("estimate", parents=[data], help="calls, tokens and dollars of a run, from a sample")
    estimate.add_argument("--sample", type=_positive, default=60, help="rows to ask about (default: 60)")
    estimate.add_argument(
        "--price", default="", metavar="IN,OUT", help="dollars per million tokens, where none is known"
    )
    estimate.add_argument("--batch", action="store_true", help="at the price of the Batch API")
    estimate.set_defaults(run=_estimate)

    walk = commands.add_parser(
        "walk", parents=[data], help="run all notebooks whose artefacts are missing or out of date, in order"
    )
    walk.add_argument("--seeds", default="0", help="comma-separated (default: 0)")
    walk.add_argument("--arms", default="sft,ka,knowtuning", help="comma-separated (default: sft,ka,knowtuning)")
    walk.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    said = "where the notebooks run: on this machine, or as jobs of a cluster (docs/cluster.md)"
    walk.add_argument("--executor", choices=("local", "slurm", "kubernetes"), default="local", help=said)
    walk.add_argument("--jobs", type=_positive, default=16, help="jobs at once on a cluster (default: 16)")
    said = "folder with the cluster's settings (default: cluster/slurm or cluster/kubernetes)"
    walk.add_argument("--workflow-profile", default="", metavar="DIR", help=said)
    walk.add_argument("--batch", action="store_true", help="ask the teacher by the Batch API: half price, within a day")
    walk.add_argument("--retry-failed", action="store_true", help="ask the teacher anew about rows that it gave up")
    said = "cut the training rows into N shards, and work on as many at once as there are cores (default: no shards)"
    walk.add_argument("--shards", type=_positive, default=1, metavar="N", help=said)
    walk.add_argument("--ka", default="", help="train on this KA file (alpaca form) instead of rewriting")
    walk.add_argument("--kc", default="", help="train on this KC file (ranking form) instead of disturbing")
    said = "what DPO measures the policy against: start, the adapter it starts from (default), or base"
    walk.add_argument("--reference", choices=["start", "base"], default="", help=said)
    said = "weight of DPO's SFT term on the preferred answers (default: 0.2; 0: none, as in the first release)"
    walk.add_argument("--gamma", type=float, help=said)
    walk.set_defaults(run=_walk)

    execute = commands.add_parser("execute", help="execute one notebook with checked parameters")
    execute.add_argument("notebook", help="its path, or its name in notebooks/")
    execute.add_argument("output", type=Path, help="where the executed notebook goes")
    execute.add_argument("parameters", nargs="*", metavar="name=value")
    execute.add_argument("--progress", type=Path, help="file that the progress is written to")
    execute.set_defaults(run=_execute)

    shard = commands.add_parser(
        "shard", parents=[recipe], help="do one stage over a slice of the training rows, in bounded memory"
    )
    shard.add_argument("stage", help="extract, score, rewrite or disturb")
    shard.add_argument("shard", metavar="I/N", help="the slice, such as 3/8 for the third of eight")
    shard.add_argument("--seed", type=int, default=0)
    shard.add_argument("--teacher", default="", help="model to ask (default: the recipe's)")
    said = "dollars that all shards may cost; each gets the same part of what is left of them (default: no cap)"
    shard.add_argument("--max-cost", type=_dollars, default=0.0, help=said)
    shard.add_argument(
        "--batch", action="store_true", help="ask the teacher by the Batch API: half price, within a day"
    )
    shard.add_argument("--progress", type=Path, help="file that the progress is written to")
    shard.set_defaults(run=_shard)

    gather = commands.add_parser(
        "gather", parents=[recipe], help="join what shards have paid for, so that the notebooks find it"
    )
    gather.add_argument("--seed", type=int, default=0)
    gather.add_argument("--shards", type=_positive, required=True, metavar="N", help="number of the shards")
    said = "write facts, difficulty, ka and kc from the shards' rows too, in place of notebooks 03 to 06"
    gather.add_argument("--artefacts", action="store_true", help=said)
    gather.set_defaults(run=_gather)

    quality = commands.add_parser("quality", help="measure a teacher on 60 answers labelled by hand (240 calls or so)")
    quality.add_argument("--teacher", default="english-rules", help="model to ask (default: english-rules)")
    _max_cost(quality)
    quality.set_defaults(run=_quality)

    publish = commands.add_parser(
        "publish", parents=[recipe], help="copy a run's executed notebooks and figures into the repository"
    )
    publish.add_argument("--seed", type=int, default=0)
    publish.add_argument("--arm", default="knowtuning", help="the arm whose notebooks 08 and 09 are shown")
    publish.set_defaults(run=_publish)

    sheet = commands.add_parser(
        "sheet", parents=[recipe], help="make a blind sheet of pairs of answers for people to compare"
    )
    sheet.add_argument("--seed", type=int, default=0)
    sheet.add_argument("--arms", default="knowtuning,sft", help="the first is compared with each of the others")
    sheet.add_argument("--count", type=_positive, default=40, help="questions per pair of arms (default: 40)")
    sheet.add_argument("--repeated", type=float, default=10, help="per cent of the items that come twice (default: 10)")
    sheet.set_defaults(run=_sheet)

    annotate = commands.add_parser("annotate", help="compare the answers of a blind sheet, in the terminal")
    annotate.add_argument("sheet", type=Path, help="the sheet.jsonl that you were given")
    annotate.add_argument("--as", dest="name", required=True, help="your name: letters, digits, - and _")
    annotate.add_argument("--out", type=Path, help="file for the choices (default: choices/NAME.jsonl by the sheet)")
    annotate.set_defaults(run=_annotate)

    push = commands.add_parser(
        "push", parents=[recipe], help="push a run's data sets with their card to the Hugging Face hub (HF_TOKEN)"
    )
    push.add_argument("repository", help="name on the hub: user/dataset")
    push.add_argument("--seed", type=int, default=0)
    push.add_argument("--public", action="store_true", help="for everybody to see (default: private)")
    push.set_defaults(run=_push)

    serve = commands.add_parser("serve", help="serve a local teacher that speaks the OpenAI protocol, until Ctrl-C")
    serve.add_argument(
        "--model", default="english-rules", help="english-rules, lab-oracle, or lab-oracle-errors-NN (per cent)"
    )
    serve.add_argument("--settings", default="lab", help="the lab that the oracle knows: lab or smoke")
    serve.add_argument("--port", type=int, default=8000)
    serve.set_defaults(run=_serve)
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _dollars(text: str) -> float:
    try:
        dollars = float(text)
    except ValueError:
        dollars = -1.0
    if not 0 <= dollars < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount of dollars, such as 2.5 (0: no cap)")
    return dollars


def _max_cost(parser: argparse.ArgumentParser) -> None:
    said = "dollars that the teacher may cost, all calls on record included (default: no cap)"
    parser.add_argument("--max-cost", type=_dollars, default=0.0, help=said)


if __name__ == "__main__":
    sys.exit(main())
