"""From the answers of all cells to the small result files that tables, figures and tests read.

from knowtuning.study.collect import collect
collect(runs_folder() / "study", ROOT / "data/results/lab/study")
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from knowtuning.evaluation.multiple import holm
from knowtuning.evaluation.pairwise import length_controlled
from knowtuning.evaluation.power import minimal_difference
from knowtuning.files import DataError, read_json, shown, write_text
from knowtuning.knowledge.aspects import ASPECTS
from knowtuning.study import claims, compare, tables
from knowtuning.study.answers import Cell, Domain, find_cells, load_domains
from knowtuning.study.cost import cost_differences, cost_rows
from knowtuning.study.rows import write_rows

REFERENCES = ("sft", "knowtuning")
ALSO = (("ka", "ka_random"), ("ka", "ka_easiest"))  # the selection of facts
MAP_METRICS = {
    "correct": "correct facts",
    "incorrect": "incorrect facts",
    "percent_correct": "% correct",
    "f1": "F1",
}
VERDICTS = {"win": 1, "tie": 0, "lose": -1}
OTHER_CELLS = (3, 5, 10, 20, 50)
LENGTH_RESAMPLES = 250  # each fits a regression
RIVALS = ("sft", "rlaif", "facttune", "facttune_mc")


def collect(folder: Path, output: Path) -> list[Path]:
    """Read the study under `folder`, write its result files into `output`, and return their paths.

    A study may be partial: arms are compared on the cells that have both, `coverage.json` names what is not there, and
    a file of which the study has nothing (`tuning.json`, `map.json`, `judge.json`) is not written, and removed where an
    older collection left one. `tables.md` holds all tables of `knowtuning.study.tables`.
    """
    folder, output = Path(folder), Path(output)
    cells, unfinished = find_cells(folder)
    means, differences, pairwise, coverage = [], [], [], []
    for domain in load_domains(cells):
        means += mean_rows(domain)
        differences += difference_rows(domain)
        pairwise += pairwise_rows(domain)
        coverage += coverage_rows(domain)
    costs = cost_differences(cells)
    places = dict.fromkeys((row["domain"], row["decoding"]) for row in differences)
    verdicts = [row for place in places for row in claims.judge(*place, differences, pairwise, costs)]
    for name in ("map.json", "tuning.json", "judge.json"):
        (output / name).unlink(missing_ok=True)
    written = [
        write_rows(output / "coverage.json", coverage, unfinished=unfinished),
        write_rows(output / "cells.json", [row for row in means if row["tier"] == "all"]),
        write_rows(output / "tiers.json", tier_rows(means)),
        write_rows(output / "differences.json", differences, family="one metric, all arms against one reference"),
        write_rows(output / "pairwise.json", pairwise, family="one domain and decoding, all rivals and aspects"),
        write_rows(output / "power.json", power_rows(differences)),
        write_rows(output / "cost.json", cost_rows(cells)),
        write_rows(output / "cost_differences.json", costs),
        write_rows(output / "claims.json", verdicts, bands=claims.BANDS),
        write_rows(output / "training.json", training_rows(cells)),
    ]
    points = map_rows(folder / "map")
    if points:
        written.append(write_rows(output / "map.json", points))
    if (folder / "judge.json").exists():
        judged = read_json(folder / "judge.json")
        about = {name: value for name, value in judged.items() if name != "rows"}
        written.append(write_rows(output / "judge.json", judge_rows(judged), **about))
    if (folder / "tuning.json").exists():
        tuned = read_json(folder / "tuning.json")
        about = {name: value for name, value in tuned.items() if name != "rows"}
        written.append(write_rows(output / "tuning.json", tuned["rows"], **about))
    return [*written, write_text(output / "tables.md", tables.report(tables.load(output)))]


def coverage_rows(domain: Domain) -> list[dict]:
    """One row per cell: how many arms it has, and `missing`, the arm.decoding that others of its domain have."""
    rows = []
    for place, cell in enumerate(domain.cells):
        lacking = [f"{arm}.{decoding}" for (arm, decoding), found in domain.answers.items() if place not in found.cells]
        arms = {arm for (arm, _), found in domain.answers.items() if place in found.cells}
        about = {"domain": domain.world, "recipe": cell.recipe, "seed": cell.seed, "base_seed": cell.base_seed}
        rows.append({**about, "arms": len(arms), "missing": sorted(lacking)})
    return rows


def mean_rows(domain: Domain) -> Iterator[dict]:
    """One row per cell, arm, decoding and tier with every metric over the questions; of tiers, the facts only."""
    for (arm, decoding), answers in domain.answers.items():
        for tier, chosen in _tiers(domain, decoding):
            for place in answers.cells:
                cell, part = domain.cells[place], _of_tier(answers.of([place]), chosen)
                metrics = compare.measured(part) if tier == "all" else compare.FACTS
                about = {"domain": domain.world, "recipe": cell.recipe, "seed": cell.seed, "arm": arm}
                about |= {"decoding": decoding, "tier": tier, "questions": int(chosen.sum())}
                yield about | {name: compare.value(name, part) for name in metrics}


def tier_rows(means: list[dict]) -> list[dict]:
    """Means over cells of the rows of `mean_rows` that are of one tier."""
    groups: dict[tuple, list[dict]] = {}
    for row in means:
        if row["tier"] != "all":
            groups.setdefault(tuple(row[name] for name in ("domain", "arm", "decoding", "tier")), []).append(row)
    rows = []
    for (domain, arm, decoding, tier), found in groups.items():
        about = {"domain": domain, "arm": arm, "decoding": decoding, "tier": tier}
        about |= {"questions": found[0]["questions"], "cells": len(found)}
        known = {name: [row[name] for row in found if row[name] is not None] for name in compare.FACTS}
        rows.append(about | {name: float(np.mean(values)) if values else None for name, values in known.items()})
    return rows


def difference_rows(domain: Domain) -> list[dict]:
    """One row per tier, decoding, pair of arms and metric: `seeds.crossed`, flat, with Holm's p within its family.

    Each arm is compared with SFT and with KnowTuning, on the cells that have both. Tiers are compared on the facts, and
    with SFT only.
    """
    rows = []
    for decoding, tier, chosen in _parts(domain):
        references = REFERENCES if tier == "all" else REFERENCES[:1]
        arms = domain.arms(decoding)
        pairs = [(arm, reference) for reference in references for arm in arms if arm != reference]
        for arm, against in [*pairs, *(ALSO if tier == "all" else ())]:
            places = domain.both(arm, against, decoding)
            if not places:
                continue
            sides = [_of_tier(domain.answers[name, decoding].of(places), chosen) for name in (arm, against)]
            bases = [domain.cells[place].base_seed for place in places]
            for metric in compare.measured(sides[0]) if tier == "all" else compare.FACTS:
                about = {"domain": domain.world, "decoding": decoding, "tier": tier, "arm": arm, "against": against}
                rows.append({**about, "metric": metric, **_flat(compare.difference(metric, *sides, bases))})
    return _adjusted(rows, ("domain", "decoding", "tier", "against", "metric"))


def pairwise_rows(domain: Domain, arm: str = "knowtuning") -> list[dict]:
    """Games of `arm` against its rivals by the lab's truth: win, tie and lose in %, and `difference`, win - lose.

    `rate` is the win rate in % with ties split, `rate_at_equal_length` the same at equal length (AlpacaEval 2's model).

    """
    rows = []
    for decoding in dict.fromkeys(decoding for _, decoding in domain.answers):
        for rival in RIVALS:
            places = domain.both(arm, rival, decoding)
            if not places:
                continue
            first, second = (domain.answers[name, decoding].of(places) for name in (arm, rival))
            bases = [domain.cells[place].base_seed for place in places]
            for aspect in ASPECTS:
                won = compare.wins(aspect, first, second)
                shares = {name: 100 * float(np.mean(won == sign)) for name, sign in VERDICTS.items()}
                about = {"domain": domain.world, "decoding": decoding, "arm": arm, "against": rival, "aspect": aspect}
                rows.append(
                    {**about, **shares, **_flat(compare.net_wins(won, bases))}
                    | _at_equal_length(won, first["words"] - second["words"])
                )
    return _adjusted(rows, ("domain", "decoding"))


def power_rows(differences: list[dict], arm: str = "knowtuning", against: str = "sft") -> list[dict]:
    """What difference of two arms this study, and ones with fewer or more cells, find four times in five.

    `detectable` is for the cells of this study, `detectable_at` for other numbers of cells, in the units of the metric.
    """
    rows = []
    for row in differences:
        if (row["arm"], row["against"], row["tier"]) != (arm, against, "all") or row["var_seed"] is None:
            continue
        components = {name: row[f"var_{name}"] for name in ("seed", "question", "residual")}
        at = {str(cells): minimal_difference(components, cells, row["questions"]) for cells in OTHER_CELLS}
        rows.append(
            {name: row[name] for name in ("domain", "decoding", "arm", "against", "metric", "cells", "questions")}
            | {f"sd_{name}": variance**0.5 for name, variance in components.items()}
            | {"detectable": minimal_difference(components, row["cells"], row["questions"]), "detectable_at": at}
        )
    return rows


def map_rows(folder: Path) -> list[dict]:
    """One row per point, seed, decoding, tier and metric of the map: what each arm scored, and what the base knew.

    `chosen reward` (decoding "training") is beta times the log-ratio of the preferred answers at the end of DPO: below
    0, training made them less likely.
    """
    rows = []
    for path in sorted(folder.glob("*/seed-*/point.json")):
        found = read_json(path)
        try:
            about = {"axis": found["point"]["axis"], "value": found["point"]["value"], "seed": found["seed"]}
            about |= found["base"]
            arms = {(arm, decoding): means for arm, by in found["arms"].items() for decoding, means in by.items()}
        except (KeyError, AttributeError) as error:
            raise DataError(f"{shown(path)} lacks {error}: run this point of the map again.") from None
        for decoding, name in dict.fromkeys((decoding, name) for (_, decoding), m in arms.items() for name in m):
            metric, _, tier = name.partition(": ")
            place = {"decoding": decoding, "tier": tier or "all", "metric": MAP_METRICS.get(metric, metric)}
            scores = {arm: means.get(name) for (arm, here), means in arms.items() if here == decoding}
            rows.append({**about, **place, **scores})
        drift = found.get("chosen reward at the end", {})
        if drift:
            rows.append({**about, "decoding": "training", "tier": "all", "metric": "chosen reward", **drift})
    return rows


def judge_rows(found: dict) -> list[dict]:
    """One row per judge, rival and aspect: true, raw and corrected win rates in %, and the judge's measured errors."""
    rows = []
    for row in found["rows"]:
        flat = {name: row[name] for name in ("judge", "arm", "against", "aspect", "questions", "unreadable")}
        flat["true"] = 100 * row["true"]["win_rate"]
        for name in ("raw", "corrected"):
            flat |= _percent(name, row[name]["win_rate"]) if name in row else {}
        for name, measured in row["measured"].items():
            flat |= _percent(name, measured) if isinstance(measured, dict) else {}
        rows.append({**flat, "clipped": row.get("clipped"), "refused": row.get("refused")})
    return rows


def _percent(name: str, found: dict) -> dict:
    ends = {name: found["value"], f"{name}_low": found["low"], f"{name}_high": found["high"]}
    return {key: None if value is None else 100 * value for key, value in ends.items()}


def training_rows(cells: list[Cell]) -> list[dict]:
    """One row per cell and trained arm: learning rate, steps, rows or pairs, and seconds."""
    return [
        {"domain": cell.world, "recipe": cell.recipe, "seed": cell.seed, "arm": arm}
        | {"learning_rate": cell.about.get("learning_rates", {}).get(arm)}
        | numbers
        for cell in cells
        for arm, numbers in cell.about.get("training", {}).items()
    ]


def _tiers(domain: Domain, decoding: str) -> list[tuple[str, np.ndarray]]:
    tiers = domain.tiers[decoding]
    return [("all", np.ones(len(tiers), dtype=bool)), *((str(tier), tiers == tier) for tier in sorted(set(tiers)))]


def _parts(domain: Domain) -> list[tuple[str, str, np.ndarray]]:
    """Decodings, tiers and their questions; tier by tier, for `crossed` keeps the resamples of as many questions."""
    decodings = dict.fromkeys(decoding for _, decoding in domain.answers)
    found = [(decoding, *tier) for decoding in decodings for tier in _tiers(domain, decoding)]
    return sorted(found, key=lambda part: (part[1] != "all", part[1]))


def _of_tier(fields: compare.Fields, chosen: np.ndarray) -> compare.Fields:
    return {name: values[:, chosen] for name, values in fields.items()}


def _flat(found: dict) -> dict:
    """A result of `crossed` as one row; `p` is that of the two-way interval."""
    seeds, questions, variance = found["seeds"] or {}, found["questions"] or {}, found["variance"] or {}
    alone = found["cells"] < 2  # the interval over questions would stand where one over trainings as well is meant
    return {
        "difference": found["difference"],
        "low": None if alone else found["low"],
        "high": None if alone else found["high"],
        "p": found["p_two_way"],
        "cells": found["cells"],
        "questions": found["questions_n"],
        "missing": found["missing"],
        "seeds_low": seeds.get("low"),
        "seeds_high": seeds.get("high"),
        "questions_low": questions.get("low"),
        "questions_high": questions.get("high"),
        **{f"var_{name}": variance.get(name) for name in ("seed", "question", "residual")},
        "by_base": {str(base): part["difference"] for base, part in found["by_group"].items()},
    }


def _at_equal_length(won: np.ndarray, longer: np.ndarray) -> dict:
    """Win rate in %, raw and at equal length, with its interval; None where all answers differ alike in length."""
    rate = 50 * float(np.mean(won)) + 50
    names = ("rate_at_equal_length", "rate_low", "rate_high", "longer")
    if np.ptp(longer) == 0 and longer.flat[0]:
        return {"rate": rate, **dict.fromkeys(names)}
    verdicts = np.array([name for name, _ in sorted(VERDICTS.items(), key=lambda item: item[1])], dtype=object)
    found = length_controlled(verdicts[won + 1], longer, LENGTH_RESAMPLES)
    parts = (found["controlled"], found["low"], found["high"], found["longer"])
    return {"rate": rate, **{name: 100 * part for name, part in zip(names, parts, strict=True)}}


def _adjusted(rows: list[dict], family: tuple[str, ...]) -> list[dict]:
    """The rows with `p_holm`: Holm's correction over the rows that share the named fields."""
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in family), []).append(row)
    adjusted = {}
    for key, members in groups.items():
        tested = {place: row["p"] for place, row in enumerate(members) if row["p"] is not None}
        adjusted[key] = iter([holm(tested).get(place) for place in range(len(members))])
    return [{**row, "p_holm": next(adjusted[tuple(row[name] for name in family)])} for row in rows]
