"""From the answers of all cells to the small result files that tables, figures and tests read.

from study.collect import collect
collect(runs_folder() / "study", ROOT / "data/results/lab/study")
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from knowtuning.files import DataError, read_json, shown, write_text
from knowtuning.knowledge.aspects import ASPECTS
from study import claims, compare, tables
from study.answers import Cell, Domain, find_cells, load_domains
from study.cost import cost_differences, cost_rows
from study.lengths import length_controlled
from study.multiple import holm
from study.power import minimal_difference
from study.rows import Rows, grouped, where, write_rows

REFERENCES = ("sft", "knowtuning")
ALSO = (("ka", "ka_random"), ("ka", "ka_easiest"))  # the selection of facts
RIVALS = ("sft", "rlaif", "facttune", "facttune_mc")
MAP_METRICS = {
    "correct": "correct facts",
    "incorrect": "incorrect facts",
    "percent_correct": "% correct",
    "f1": "F1",
}
VERDICTS = {"win": 1, "tie": 0, "lose": -1}
OTHER_CELLS = (3, 5, 10, 20, 50)


def collect(folder: Path, output: Path) -> list[Path]:
    """Read the study under `folder`, write its result files into `output`, and return their paths.

    A study may be partial: arms are compared on the cells that have both, `coverage.json` names what is not there, and
    a file of which the study has nothing (`tuning.json`, `map.json`, `judge.json`) is not written, and removed where an
    older collection left one. `tables.md` holds all tables of `study.tables`.
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
    places = grouped(differences, "domain", "decoding")
    verdicts = [row for place in places for row in claims.judge(*place, differences, pairwise, costs)]
    files = {
        "coverage": (coverage, {"unfinished": unfinished}),
        "cells": (where(means, tier="all"), {}),
        "tiers": (tier_rows(means), {}),
        "differences": (differences, {"family": "one metric, all arms against one reference"}),
        "pairwise": (pairwise, {"family": "one domain and decoding, all rivals and aspects"}),
        "power": (power_rows(differences), {}),
        "cost": (cost_rows(cells), {}),
        "cost_differences": (costs, {}),
        "claims": (verdicts, {"bands": claims.BANDS}),
        "training": (training_rows(cells), {}),
        "map": (map_rows(folder / "map"), {}),
    }
    for name, made in (("judge", judge_rows), ("tuning", list)):
        about = read_json(folder / f"{name}.json") if (folder / f"{name}.json").exists() else {"rows": []}
        files[name] = (made(about.pop("rows")), about)
    written = []
    for name, (rows, about) in files.items():
        if name in tables.OPTIONAL and not rows:
            (output / f"{name}.json").unlink(missing_ok=True)
        else:
            written.append(write_rows(output / f"{name}.json", rows, **about))
    return [*written, write_text(output / "tables.md", tables.report(tables.load(output)))]


def coverage_rows(domain: Domain) -> Rows:
    """One row per cell: how many arms it has, and `missing`, the arm.decoding that others of its domain have."""
    rows = []
    for place, cell in enumerate(domain.cells):
        has = {key: place in answers.cells for key, answers in domain.answers.items()}
        rows.append(
            {"domain": domain.world, "recipe": cell.recipe, "seed": cell.seed, "base_seed": cell.base_seed}
            | {"arms": len({arm for (arm, _), there in has.items() if there})}
            | {"missing": sorted(".".join(key) for key, there in has.items() if not there)}
        )
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


def tier_rows(means: Rows) -> Rows:
    """Means over cells of the rows of `mean_rows` that are of one tier."""
    rows = []
    of_tiers = [row for row in means if row["tier"] != "all"]
    for key, cells in grouped(of_tiers, "domain", "arm", "decoding", "tier").items():
        about = dict(zip(("domain", "arm", "decoding", "tier"), key, strict=True))
        about |= {"questions": cells[0]["questions"], "cells": len(cells)}
        known = {name: [row[name] for row in cells if row[name] is not None] for name in compare.FACTS}
        rows.append(about | {name: float(np.mean(values)) if values else None for name, values in known.items()})
    return rows


def difference_rows(domain: Domain) -> Rows:
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
    return _adjusted(rows, "domain", "decoding", "tier", "against", "metric")


def pairwise_rows(domain: Domain, arm: str = "knowtuning") -> Rows:
    """Games of `arm` against its rivals by the lab's truth: win, tie and lose in %, and `difference`, win - lose.

    `rate` is the win rate in % with ties split, `rate_at_equal_length` the same at equal length (AlpacaEval 2's model).
    """
    rows = []
    for decoding in domain.decodings:
        for rival in RIVALS:
            places = domain.both(arm, rival, decoding)
            if not places:
                continue
            first, second = (domain.answers[name, decoding].of(places) for name in (arm, rival))
            bases = [domain.cells[place].base_seed for place in places]
            for aspect in ASPECTS:
                won = compare.wins(aspect, first, second)
                about = {"domain": domain.world, "decoding": decoding, "arm": arm, "against": rival, "aspect": aspect}
                about |= {
                    name: 100 * float(np.mean(won == sign)) for name, sign in (("win", 1), ("tie", 0), ("lose", -1))
                }
                about |= _flat(compare.net_wins(won, bases)) | {"rate": 50 * float(np.mean(won)) + 50}
                equal = length_controlled(won, first["words"] - second["words"])
                rows.append(about | {name: None if rate is None else 100 * rate for name, rate in equal.items()})
    return _adjusted(rows, "domain", "decoding")


def power_rows(differences: Rows) -> Rows:
    """What difference of KnowTuning and SFT this study, and ones with fewer or more cells, find four times in five.

    `detectable` is for the cells of this study, `detectable_at` for other numbers of cells, in the units of the metric.
    """
    rows = []
    for row in where(differences, arm="knowtuning", against="sft", tier="all"):
        if row["var_seed"] is None:
            continue
        components = {name: row[f"var_{name}"] for name in ("seed", "question", "residual")}
        at = {str(cells): minimal_difference(components, cells, row["questions"]) for cells in OTHER_CELLS}
        rows.append(
            {name: row[name] for name in ("domain", "decoding", "arm", "against", "metric", "cells", "questions")}
            | {f"sd_{name}": variance**0.5 for name, variance in components.items()}
            | {"detectable": minimal_difference(components, row["cells"], row["questions"]), "detectable_at": at}
        )
    return rows


def map_rows(folder: Path) -> Rows:
    """One row per point, seed, decoding, tier and metric of the map: what each arm scored, and what the base knew.

    `chosen reward` (decoding "training") is beta times the log-ratio of the preferred answers at the end of DPO: below
    0, training made them less likely.
    """
    rows = []
    for path in sorted(folder.glob("*/seed-*/point.json")):
        record = read_json(path)
        try:
            about = {"axis": record["point"]["axis"], "value": record["point"]["value"], "seed": record["seed"]}
            about |= record["base"]
            arms = {(arm, decoding): means for arm, by in record["arms"].items() for decoding, means in by.items()}
        except (KeyError, AttributeError) as error:
            raise DataError(f"{shown(path)} lacks {error}: run this point of the map again.") from None
        for decoding, name in dict.fromkeys((decoding, name) for (_, decoding), m in arms.items() for name in m):
            metric, _, tier = name.partition(": ")
            place = {"decoding": decoding, "tier": tier or "all", "metric": MAP_METRICS.get(metric, metric)}
            scores = {arm: means.get(name) for (arm, here), means in arms.items() if here == decoding}
            rows.append({**about, **place, **scores})
        if drift := record.get("chosen reward at the end", {}):
            rows.append({**about, "decoding": "training", "tier": "all", "metric": "chosen reward", **drift})
    return rows


def judge_rows(rows: Rows) -> Rows:
    """One row per judge, rival and aspect: true, raw and corrected win rates in %, and the judge's measured errors."""
    flat = []
    for row in rows:
        line = {name: row[name] for name in ("judge", "arm", "against", "aspect", "questions", "unreadable")}
        line["true"] = 100 * row["true"]["win_rate"]
        rates = {name: row[name]["win_rate"] for name in ("raw", "corrected") if name in row}
        for name, share in (rates | row["measured"]).items():
            if isinstance(share, dict):
                ends = {name: share["value"], f"{name}_low": share["low"], f"{name}_high": share["high"]}
                line |= {key: None if value is None else 100 * value for key, value in ends.items()}
        flat.append({**line, "clipped": row.get("clipped"), "refused": row.get("refused")})
    return flat


def training_rows(cells: list[Cell]) -> Rows:
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
    parts = [(decoding, *tier) for decoding in domain.decodings for tier in _tiers(domain, decoding)]
    return sorted(parts, key=lambda part: (part[1] != "all", part[1]))


def _of_tier(fields: compare.Fields, chosen: np.ndarray) -> compare.Fields:
    return {name: values[:, chosen] for name, values in fields.items()}


def _flat(result: dict) -> dict:
    """A result of `crossed` as one row; `p` is that of the two-way interval."""
    seeds, questions, variance = (result[name] or {} for name in ("seeds", "questions", "variance"))
    alone = result["cells"] < 2  # the interval over questions would stand where one over trainings as well is meant
    return {
        "difference": result["difference"],
        "low": None if alone else result["low"],
        "high": None if alone else result["high"],
        "p": result["p"],
        "cells": result["cells"],
        "questions": result["questions_n"],
        "missing": result["missing"],
        "seeds_low": seeds.get("low"),
        "seeds_high": seeds.get("high"),
        "questions_low": questions.get("low"),
        "questions_high": questions.get("high"),
        **{f"var_{name}": variance.get(name) for name in ("seed", "question", "residual")},
        "by_base": {str(base): difference for base, difference in result["by_group"].items()},
    }


def _adjusted(rows: Rows, *family: str) -> Rows:
    """The rows with `p_holm`: Holm's correction over the rows that share the named fields."""
    adjusted = {key: iter(holm([row["p"] for row in members])) for key, members in grouped(rows, *family).items()}
    return [{**row, "p_holm": next(adjusted[tuple(row[name] for name in family)])} for row in rows]
