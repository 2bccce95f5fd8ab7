"""Command line: `knowtuning walk | execute | publish | serve`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from knowtuning.artifacts import DataError
from knowtuning.execute import NotebookError
from knowtuning.teacher.errors import TeacherError


def main(argv: list[str] | None = None) -> int:
    """Run one command; an error that the user can mend is one sentence on stderr and exit code 1."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except (DataError, NotebookError, TeacherError, ValueError) as error:
        print(f"knowtuning: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _walk(arguments: argparse.Namespace) -> int:
    from knowtuning.arms import ARMS
    from knowtuning.profiles import get_profile
    from knowtuning.walk import walk

    profile, arms, seeds = get_profile(arguments.profile), arguments.arms.split(","), arguments.seeds.split(",")
    if unknown := [arm for arm in arms if arm not in ARMS]:
        raise DataError(f"arm {unknown[0]!r} is unknown; use some of {', '.join(ARMS)}.")
    if wrong := [seed for seed in seeds if not seed.isdigit()]:
        raise DataError(f"seed {wrong[0]!r} is not a whole number; write --seeds 0,1,2.")
    if profile.lab is None and not Path(arguments.data).is_file():
        raise DataError(f"profile {profile.name} needs real text: --data {arguments.data or '…'} is not a file.")
    options = {"data": str(Path(arguments.data).resolve()), "rows": str(arguments.rows)} if arguments.data else {}
    code = walk(arguments.profile, arguments.seeds, arguments.arms, arguments.cores, options)
    if code == 0:
        from knowtuning.evaluation.report import print_report

        for seed in seeds:
            print_report(profile.name, int(seed), arms)
    return code


def _execute(arguments: argparse.Namespace) -> int:
    from knowtuning.execute import execute

    given = {}
    for pair in arguments.parameters:
        name, equals, value = pair.partition("=")
        if not equals:
            raise DataError(f"parameter {pair!r}: write name=value.")
        given[name] = value
    execute(arguments.notebook, arguments.output, given, arguments.progress)
    return 0


def _publish(arguments: argparse.Namespace) -> int:
    from knowtuning.publish import publish

    publish(arguments.profile, arguments.seed, arguments.arm)
    return 0


def _serve(arguments: argparse.Namespace) -> int:
    from knowtuning.teacher.server import run_server

    run_server(arguments.model, settings=arguments.settings, port=arguments.port)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="knowtuning", description="KnowTuning as executable notebooks.")
    commands = parser.add_subparsers(required=True, metavar="command")

    walk = commands.add_parser("walk", help="run all notebooks whose artefacts are missing or out of date, in order")
    walk.add_argument("--profile", default="lab")
    walk.add_argument("--seeds", default="0", help="comma-separated (default: 0)")
    walk.add_argument("--arms", default="sft,ka,knowtuning", help="comma-separated (default: sft,ka,knowtuning)")
    walk.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    walk.add_argument("--data", default="", help="alpaca or JSONL file, for a profile of real text")
    walk.add_argument("--rows", type=int, default=0, help="use the first ROWS rows of the file (default: all)")
    walk.set_defaults(run=_walk)

    execute = commands.add_parser("execute", help="execute one notebook with checked parameters")
    execute.add_argument("notebook", help="its path, or its name in notebooks/")
    execute.add_argument("output", type=Path, help="where the executed notebook goes")
    execute.add_argument("parameters", nargs="*", metavar="name=value")
    execute.add_argument("--progress", type=Path, help="file that the progress is written to")
    execute.set_defaults(run=_execute)

    publish = commands.add_parser("publish", help="copy a run's executed notebooks and figures into the repository")
    publish.add_argument("--profile", default="lab")
    publish.add_argument("--seed", type=int, default=0)
    publish.add_argument("--arm", default="knowtuning", help="the arm whose notebooks 08 and 09 are shown")
    publish.set_defaults(run=_publish)

    serve = commands.add_parser("serve", help="serve a local teacher that speaks the OpenAI protocol, until Ctrl-C")
    serve.add_argument("--model", default="english-rules", help="lab-oracle or english-rules")
    serve.add_argument("--settings", default="lab", help="the lab that the oracle knows: lab or smoke")
    serve.add_argument("--port", type=int, default=8000)
    serve.set_defaults(run=_serve)
    return parser


if __name__ == "__main__":
    sys.exit(main())
