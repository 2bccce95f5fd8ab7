"""What the README promises about files and commands, and that the three lists of packages agree."""

import json
import re
import subprocess
import tomllib

import yaml

from knowtuning.files import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
APART = ("kubernetes",)  # extras that slow down everybody else: pyproject.toml says how
GPU_EXTRAS = {"liger"}  # extras that need a GPU: neither locked nor installed here
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def locked():
    pins = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            assert re.fullmatch(r"[A-Za-z0-9._-]+==[^\s;+]+", line), f"constraints.txt: {line!r} is not name==version"
            name, version = line.split("==")
            pins[canonical(name)] = version
    return pins


def declared(apart=()):
    extras = PROJECT["optional-dependencies"]
    lists = [PROJECT["dependencies"], *(extras[name] for name in extras if name not in ("all", *apart))]
    return {canonical(re.match(r"[A-Za-z0-9._-]+", requirement)[0]) for names in lists for requirement in names}


def test_every_dependency_is_locked():
    assert declared(apart=GPU_EXTRAS) <= set(locked())


def test_installed_versions_are_the_locked_ones():
    from importlib.metadata import version

    pins = locked()
    for name in declared(apart=(*APART, *GPU_EXTRAS)):
        assert version(name).split("+")[0] == pins[name], name


def test_environment_installs_the_project_with_the_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    [pip] = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pip == ["-c constraints.txt", "-e .[all,test]"]
    [python] = [entry for entry in environment["dependencies"] if str(entry).startswith("python=")]
    assert PROJECT["requires-python"] == f">={python.removeprefix('python=')}"
    install = "-c constraints.txt -e '.[all,test]'"
    assert install in README and install in (ROOT / "Makefile").read_text()


def test_all_is_every_extra_but_test_and_those_apart():
    extras = PROJECT["optional-dependencies"]
    [everything] = extras["all"]
    named = re.fullmatch(r"knowtuning\[(.*)\]", everything)[1].split(",")
    assert sorted(named) == sorted(set(extras) - {"all", "test", *APART, *GPU_EXTRAS})


def test_the_tree_of_the_readme_exists():
    tree = re.search(r"## The tree\n\n```\n(.*?)```", README, re.S)[1]
    folder = ""
    for line in tree.splitlines():
        entries = line.split("  ")[0].split() if not line.startswith(" ") else [line.split()[0]]
        if line.startswith(("README", "environment")):
            entries = [word for word in line.split() if "." in word or word == "LICENSE"]
        for entry in entries:
            inside = folder if line.startswith(" ") else ""
            if entry != "runs/":
                assert (ROOT / inside / entry).exists(), f"{inside}{entry} is in the README's tree and not here"
        if not line.startswith(" ") and entries[-1].endswith("/"):
            folder = entries[-1]


def test_the_package_is_in_the_tree_whole():
    tree = re.search(r"## The tree\n\n```\n(.*?)```", README, re.S)[1]
    for path in (ROOT / "knowtuning").iterdir():
        if not path.name.startswith("_"):
            assert f"  {path.name}" in tree, f"{path.name} is missing in the README's tree"


def test_make_lists_its_verbs_and_the_readme_names_real_ones():
    listed = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    verbs = set(re.findall(r"^  make (\S+)", listed, re.M))
    assert {"lab", "test", "dolly", "lint", "jupyter"} <= verbs
    for verb in re.findall(r"`make ([a-z-]+)", README) + re.findall(r"^make ([a-z-]+)", README, re.M):
        assert verb in verbs


def test_the_table_of_the_readme_is_that_of_the_committed_run():
    from knowtuning.evaluation.report import arm_rows

    results = ROOT / "data" / "results" / "lab" / "seed-0"
    scores = [json.loads((results / f"{arm}.json").read_text()) for arm in ("sft", "ka", "knowtuning")]
    results_page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    for decoding in ("greedy", "sampled"):
        for row in arm_rows(scores, decoding):
            cells = [f"{value:.2f}" for name, value in row.items() if name != "arm"]
            line = f"| {row['arm']} | {decoding} | {' | '.join(cells)} |"
            assert line in results_page and (line in README or decoding == "sampled")


def test_the_picture_of_the_method_is_that_of_the_committed_run():
    from study.overview import method

    results = ROOT / "data" / "results" / "lab" / "seed-0"
    numbers = json.loads((results / "method.json").read_text())
    assert (ROOT / "figures" / "method.svg").read_text(encoding="utf-8") == method(numbers)
    for arm in ("sft", "knowtuning"):
        scores = json.loads((results / f"{arm}.json").read_text())["decodings"]["greedy"]["overall"]
        assert numbers[f"{arm}: correct facts"] == scores["correct facts"]["value"]
    notebook = (ROOT / "notebooks" / "04_difficult_knowledge.ipynb").read_text(encoding="utf-8")
    assert f"'difficult': {numbers['difficult']}" in notebook and f"'facts': {numbers['facts']}" in notebook


def test_links_of_the_readme_lead_somewhere():
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link


def test_nothing_tracked_carries_a_path_of_a_machine_or_a_key():
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    folders = "|".join(("ro" + "ot", "ho" + "me/[a-z]", "Us" + "ers/[a-z]", "wo" + "rk/main"))
    forbidden = re.compile(rf"/({folders})|\bsk-[A-Za-z0-9]{{20,}}")
    for name in filter(None, tracked.split("\0")):
        path = ROOT / name
        if path.suffix in (".png", ".pdf", "") and path.name not in ("Makefile", "Snakefile"):
            continue
        if path.exists():
            assert not forbidden.search(path.read_text(encoding="utf-8")), name
