"""The tables of the paper, from the files that `collect` wrote: rows for `display.table`, and as Markdown.

    study = load(ROOT / "data/results/lab/study")
    table(facts(study, "greedy"))

A cell such as "+0.84 [0.74, 0.94]" is a difference with its 95 % interval for other trainings and other questions; a
star says that it is not 0 after Holm's correction over the arms. Where there is a single cell, there is no such
interval, and "[–]" stands in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from knowtuning.files import DataError, read_json, shown
from knowtuning.recipe import get_recipe
from study.claims import BANDS, PRICED_AS
from study.plan import Method
from study.rows import Rows, grouped, read_rows, where
from study.seeds import over_cells

if TYPE_CHECKING:
    from IPython.display import Markdown

NAMES = {
    "base": "base",
    "sft": "SFT",
    "rlaif": "RLAIF",
    "facttune": "FactTune (FS)",
    "facttune_mc": "FactTune (MC)",
    "knowtuning": "KnowTuning",
    "no_ka": "-KA",
    "ka": "-KC",
    "no_kcc": "-KCC",
    "no_kfc": "-KFC",
    "no_klc": "-KLC",
    "sft_longer": "SFT, twice the epochs",
    "ka_preferred": "KA, then SFT on preferred",
    "ka_random": "KA, random facts",
    "ka_easiest": "KA, easiest facts",
}
MAIN = ("base", "sft", "rlaif", "facttune", "facttune_mc", "knowtuning")
ABLATIONS = ("no_ka", "ka", "no_kcc", "no_kfc", "no_klc")
CONTROLS = ("sft_longer", "ka_preferred", "ka_random", "ka_easiest")
# the axes of the map, and where on each the lab stands otherwise
LAB = get_recipe("lab").lab
DEFAULTS = {
    "exposure": float(LAB.tiers[0].exposures),
    "annotator errors": LAB.false_share,
    "alpha": Method().alpha,
    "beta": Method().beta,
    "gamma": Method().gamma,
    "selection": Method().select,
}
SELECTIONS = ("hardest", "random", "easiest")
FACTS = ("correct facts", "incorrect facts", "all facts", "% correct")
GAINS = ("correct facts", "incorrect facts", "% correct", "completeness", "order")
ALL = (*FACTS, "completeness", "order", "F1", "METEOR", "BERTScore", "words")
FILES = tuple(
    ["coverage", "cells", "tiers", "differences", "pairwise", "power", "cost", "cost_differences", "claims", "training"]
)
OPTIONAL = ("map", "tuning", "judge")  # [] where the study has none

Study = dict[str, Any]  # name of a file -> its rows; "unfinished" cells; "chosen" learning rates


def load(folder: Path) -> Study:
    """Read what `collect` wrote; a folder without it raises `DataError`."""
    folder = Path(folder)
    if not (folder / "cells.json").exists():
        raise DataError(f"{shown(folder)} has no cells.json: run `make results`, which collects the study.")
    optional = {name: folder / f"{name}.json" for name in OPTIONAL}
    study: Study = {name: read_rows(folder / f"{name}.json") for name in FILES}
    study |= {name: read_rows(path) if path.exists() else [] for name, path in optional.items()}
    study["unfinished"] = read_json(folder / "coverage.json")["unfinished"]
    study["chosen"] = read_json(optional["tuning"])["chosen"] if study["tuning"] else {}
    return study


def domains(study: Study) -> list[str]:
    """The worlds of the study, in the order in which they were collected."""
    return list(dict.fromkeys(row["domain"] for row in study["coverage"]))


def coverage(study: Study) -> Rows:
    """Which cells there are: recipe, seeds, arms, and what is missing."""
    rows = [
        {"domain": domain, "recipe": recipe, "base seed": base}
        | {"training seeds": ", ".join(str(row["seed"]) for row in cells), "arms": max(row["arms"] for row in cells)}
        | {"missing": "; ".join(f"seed {row['seed']}: {_missing(row)}" for row in cells if row["missing"])}
        for (domain, recipe, base), cells in grouped(study["coverage"], "domain", "recipe", "base_seed").items()
    ]
    return rows + [{"recipe": name, "missing": "not finished, not used"} for name in study["unfinished"]]


def text_metrics(study: Study, decoding: str = "greedy") -> Rows:
    """METEOR and BERTScore of each arm, with the difference to SFT."""
    return _scores(study, decoding, ("METEOR", "BERTScore"))


def pairwise(study: Study, decoding: str = "greedy") -> Rows:
    """KnowTuning against SFT, RLAIF and FactTune on the three aspects by the lab's truth: win, tie, lose in %."""
    return [
        {"domain": row["domain"], "KnowTuning against": NAMES[row["against"]], "aspect": row["aspect"]}
        | {name: f"{row[name]:.1f}" for name in ("win", "tie", "lose")}
        | {"win - lose": interval(row), "p (Holm)": _p(row["p_holm"]), "win rate": f"{row['rate']:.1f}"}
        | {"win rate at equal length": interval(row, "rate_at_equal_length", "rate_", digits=1, sign=False)}
        for row in where(study["pairwise"], decoding=decoding)
    ]


def facts(study: Study, decoding: str = "greedy") -> Rows:
    """Correct, incorrect and all facts per answer, and % correct, with the difference to SFT."""
    return _scores(study, decoding, FACTS)


def ablations(study: Study, decoding: str = "greedy") -> Rows:
    """What each part adds: the ablated arm minus KnowTuning; below 0 the part helps (of incorrect facts: above 0)."""
    return _differences(study, decoding, [(arm, "knowtuning") for arm in ABLATIONS], GAINS)


def controls(study: Study, decoding: str = "greedy") -> Rows:
    """What the paper does not rule out: the control minus KnowTuning, and KA's selection of facts."""
    rows = []
    for pairs in ([(arm, "knowtuning") for arm in CONTROLS], [("ka", "ka_random")], [("ka", "ka_easiest")]):
        rows += _differences(study, decoding, pairs, (*GAINS, "words"))
    return rows


def cost(study: Study) -> Rows:
    """Calls and tokens that build the sets of each method, and dollars per 1,000 training answers at two prices."""
    rows = []
    for (domain, name), prices in grouped(study["cost"], "domain", "set").items():
        counts = {"calls": "calls", "prompt_tokens": "tokens in", "completion_tokens": "tokens out"}
        dollars = {row["model"]: f"{row['dollars_per_1000']:.3f}" for row in prices}
        rows.append(
            {"domain": domain, "set": name, "training answers": round(prices[0]["training_answers"])}
            | {label: round(prices[0][count]) for count, label in counts.items()}
            | {f"$ per 1,000 answers, {model}": dollars.get(model) for model in (PRICED_AS, "gpt-6-luna")}
        )
    return rows


def cost_differences(study: Study) -> Rows:
    """Dollars per 1,000 training answers of KnowTuning less those of each baseline, with their interval over cells."""
    return [
        {"domain": row["domain"], "difference": f"{row['first']} - {row['second']}", "cells": row["cells"]}
        | {f"$ per 1,000 answers, {PRICED_AS}": interval(row, digits=3)}
        for row in where(study["cost_differences"], model=PRICED_AS)
    ]


def by_tier(study: Study, decoding: str = "greedy") -> Rows:
    """Facts by how well the base knows the entity: where a rise in % correct comes from more talk about known ones."""
    rows = []
    for (domain, tier), of_tier in grouped(study["tiers"], "domain", "tier").items():
        for arm in (*MAIN, *ABLATIONS):
            if own := where(of_tier, arm=arm, decoding=decoding):
                against = _compared(study, domain, decoding, arm, "sft", tier)
                cells = {name: _with(own, against, name) for name in FACTS if name != "all facts"}
                rows.append({"domain": domain, "tier": tier, "arm": NAMES[arm], **cells})
    return rows


def across_sets(study: Study) -> Rows:
    """KnowTuning minus SFT in every domain and decoding; narrow is the shifted test set."""
    rows = []
    for domain in domains(study):
        for decoding in dict.fromkeys(row["decoding"] for row in study["differences"]):
            if compared := _compared(study, domain, decoding, "knowtuning", "sft"):
                cells = {name: interval(compared[name]) for name in ALL if name in compared}
                counted = {"cells": next(iter(compared.values()))["cells"]}
                rows.append({"domain": domain, "answers": decoding, **counted, **cells})
    return rows


def all_arms(study: Study, decoding: str = "greedy") -> Rows:
    """Every metric of every arm, mean over cells; and the standard deviation over cells behind ±."""
    rows = []
    for domain in domains(study):
        for arm in NAMES:
            if own := where(study["cells"], domain=domain, arm=arm, decoding=decoding):
                cells = {name: _spread(own, name) for name in ALL if own[0].get(name) is not None}
                rows.append({"domain": domain, "arm": NAMES[arm], "cells": len(own), **cells})
    return rows


def power(study: Study, decoding: str = "greedy") -> Rows:
    """What difference of KnowTuning and SFT would be seen four times in five, and where the spread comes from."""
    return [
        {"domain": row["domain"], "metric": row["metric"], "cells": row["cells"], "questions": row["questions"]}
        | {f"sd {name}": row[f"sd_{name}"] for name in ("seed", "question", "residual")}
        | {"band": BANDS.get(row["metric"]), "seen from": row["detectable"]}
        | {f"with {cells} cells": value for cells, value in row["detectable_at"].items()}
        for row in where(study["power"], decoding=decoding)
    ]


def bases(study: Study, decoding: str = "greedy") -> Rows:
    """KnowTuning minus SFT base by base, beside the interval over seeds alone and over questions alone."""
    return [
        {"domain": domain, "metric": metric, "both": interval(row)}
        | {"seeds alone": interval(row, ends="seeds_"), "questions alone": interval(row, ends="questions_")}
        | {f"base {base}": value for base, value in row["by_base"].items()}
        for domain in domains(study)
        for metric, row in _compared(study, domain, decoding, "knowtuning", "sft").items()
    ]


def tuning(study: Study) -> Rows:
    """The mean F1 (%) on validation questions of each arm at each multiple of the usual rate; the chosen is starred."""
    rows = []
    for (arm,), tried in grouped(study["tuning"], "arm").items():
        cells = {}
        for (multiple, rate), same in grouped(tried, "multiple", "rate").items():
            star = " *" if study["chosen"].get(arm) == rate else ""
            cells[f"rate x {multiple:g}"] = f"{100 * np.mean([row['f1'] for row in same]):.1f}{star}"
        rows.append({"arm": NAMES.get(arm, arm), **cells, "chosen rate": f"{study['chosen'][arm]:g}"})
    return rows


def regimes(study: Study, decoding: str = "greedy") -> Rows:
    """When the method works, KnowTuning minus SFT. Rows: axis, value, metric, seeds, difference, low, high (t-interval
    over seeds), each.

    The point with all knobs as always stands on every axis. Two seeds give no interval worth drawing (t is 12.7): low
    and high are then None.
    """
    rows = []
    for axis, value, here in _points_of_map(study):
        for (metric,), of_seeds in grouped(where(here, decoding=decoding, tier="all"), "metric").items():
            pairs = [(row.get("knowtuning"), row.get("sft")) for row in of_seeds]
            gains = np.array([a - b for a, b in pairs if a is not None and b is not None])
            if len(gains):
                about = {"axis": axis, "value": value, "metric": metric, "seeds": len(gains)}
                sure = over_cells(gains) if len(gains) > 2 else {"low": None, "high": None}
                rows.append({**about, **sure, "difference": float(gains.mean()), "each": gains.tolist()})
    return rows


def regime_table(study: Study, decoding: str = "greedy") -> Rows:
    """The map in words: what the base knows, KnowTuning minus SFT, and how far DPO pushed the preferred answers."""
    gains = {(row["axis"], row["value"], row["metric"]): row for row in regimes(study, decoding)}
    rows = []
    for axis, value, here in _points_of_map(study):
        known = {
            f"{name} (%)": float(100 * np.mean([row[name] for row in here]))
            for name in ("known recall", "rare recall")
            if name in here[0]
        }
        cells = {name: _over_seeds(gains[axis, value, name]) for name in GAINS if (axis, value, name) in gains}
        rewards = [row["knowtuning"] for row in where(here, metric="chosen reward")]
        reward = float(np.mean(rewards)) if rewards else None
        named = f"{value:g}" if isinstance(value, float) else value
        rows.append({"axis": axis, "value": named, **known, **cells, "reward of preferred": reward})
    return rows


def judges(study: Study) -> Rows:
    """The judge measured, in %: true, raw and corrected win rates of KnowTuning, and what the judge gets wrong."""
    names = {"raw": "raw", "corrected": "corrected", "sensitivity": "sensitivity", "specificity_worse": "specificity"}
    names |= {"position_bias": "position bias", "length_bias_tied": "length bias (of ties)"}
    return [
        {"judge": row["judge"], "against": NAMES.get(row["against"], row["against"]), "aspect": row["aspect"]}
        | {"true": f"{row['true']:.1f}"}
        | {label: interval(row, name, f"{name}_", digits=1, sign="bias" in name) for name, label in names.items()}
        | {"unreadable": row["unreadable"], "not corrected because": row["refused"] or ""}
        for row in study["judge"]
    ]


def verdicts(study: Study, decoding: str = "greedy") -> Rows:
    """Each claim of the paper beside what the lab found; the rule is in `study.claims`.

    The gain has the sign of the claim. `overall` is the verdict of all domains where they agree, and else says "mixed".
    """
    rows = []
    for (family, claim), of_domains in grouped(where(study["claims"], decoding=decoding), "family", "claim").items():
        row = {"family": family, "claim": claim, "measure": of_domains[0]["measure"]}
        for judged in of_domains:
            row[f"gain, {judged['domain']}"] = interval(judged, "gain")
            row[f"verdict, {judged['domain']}"] = judged["verdict"]
        overall = {judged["verdict"] for judged in of_domains}
        rows.append({**row, "overall": overall.pop() if len(overall) == 1 else "mixed"})
    return rows


# title -> the table, in the order of the paper; those of the first take (study), the others (study, decoding)
ONCE: dict[str, Callable[[Study], Rows]] = {
    "Cells": coverage,
    "Cost of the training sets": cost,
    "Cost: KnowTuning less each baseline": cost_differences,
    "Every test set: KnowTuning minus SFT": across_sets,
    "Learning rates: F1 on validation questions (* chosen)": tuning,
    "The judge measured (%)": judges,
}
TABLES: dict[str, Callable[[Study, str], Rows]] = {
    "METEOR and BERTScore": text_metrics,
    "KnowTuning against others, by the lab's truth (%)": pairwise,
    "Facts per answer": facts,
    "Ablations: arm minus KnowTuning": ablations,
    "Controls": controls,
    "Facts by how well the base knows the entity": by_tier,
    "Seeds, questions and bases apart: KnowTuning minus SFT": bases,
    "Power: what difference would be seen": power,
    "The map: KnowTuning minus SFT": regime_table,
    "The claims of the paper": verdicts,
}


def report(study: Study) -> str:
    """All tables as one Markdown text: cells, costs and grid once, the others for each kind of answers."""
    parts = [(title, draw(study)) for title, draw in ONCE.items()]
    decodings = dict.fromkeys(row["decoding"] for row in study["differences"])
    parts += [
        (f"{title}, {decoding} answers", draw(study, decoding))
        for title, draw in TABLES.items()
        for decoding in decodings
    ]
    return "\n\n".join(f"## {title}\n\n{markdown(rows)}" for title, rows in parts if rows) + "\n"


def interval(row: dict, name: str = "difference", ends: str = "", digits: int = 2, sign: bool = True) -> str:
    """A value with its interval, the fields `low` and `high` behind the prefix `ends`; a dash where there is none.

    >>> interval({"difference": 0.8412, "low": 0.74, "high": 0.94})
    '+0.84 [0.74, 0.94]'
    """
    if row.get(name) is None:
        return "–"
    value = f"{row[name]:{'+' if sign else ''}.{digits}f}"
    low, high = row.get(f"{ends}low"), row.get(f"{ends}high")
    return f"{value} [–]" if None in (low, high) else f"{value} [{low:.{digits}f}, {high:.{digits}f}]"


def markdown(rows: Rows, digits: int = 2) -> str:
    """Rows as a Markdown table; "" for none. Floats get `digits` decimal places, a missing value a dash."""
    if not rows:
        return ""
    names = list(dict.fromkeys(name for row in rows for name in row))

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

    def cell(value: Any) -> str:
        if value is None:
            return "–"
        return f"{value:.{digits}f}" if isinstance(value, float) else str(value)

    body = (line([cell(row.get(name)) for name in names]) for row in rows)
    return "\n".join([line(names), line(["---"] * len(names)), *body])


def view(rows: Rows) -> Markdown:
    """Rows as notebook 11 shows them: as Markdown, a fifth of the size of an HTML table, for it has many."""
    from IPython.display import Markdown

    return Markdown(markdown(rows))


# --- what the tables share


def _scores(study: Study, decoding: str, metrics: Sequence[str]) -> Rows:
    """A line per domain and arm: the mean over cells, and in brackets the difference to SFT."""
    rows = []
    for domain in domains(study):
        for arm in MAIN:
            if own := where(study["cells"], domain=domain, arm=arm, decoding=decoding):
                compared = _compared(study, domain, decoding, arm, "sft")
                cells = {name: _with(own, compared, name) for name in metrics if own[0].get(name) is not None}
                rows.append({"domain": domain, "arm": NAMES[arm], "cells": len(own), **cells})
    return rows


def _differences(study: Study, decoding: str, pairs: Sequence[tuple[str, str]], metrics: Sequence[str]) -> Rows:
    """A line per domain and pair of arms: the differences of the first to the second."""
    rows = []
    for domain in domains(study):
        for arm, against in pairs:
            if compared := _compared(study, domain, decoding, arm, against):
                cells = {name: interval(compared[name]) + _star(compared[name]) for name in metrics if name in compared}
                about = {"domain": domain, "difference": f"{NAMES[arm]} - {NAMES[against]}"}
                rows.append({**about, "cells": next(iter(compared.values()))["cells"], **cells})
    return rows


def _compared(study: Study, domain: str, decoding: str, arm: str, against: str, tier: str = "all") -> dict[str, dict]:
    """metric -> the row of one comparison."""
    wanted = {"domain": domain, "decoding": decoding, "arm": arm, "against": against, "tier": tier}
    return {row["metric"]: row for row in where(study["differences"], **wanted)}


def _with(own: Rows, compared: dict[str, dict], metric: str) -> str:
    """The mean over cells and the difference to the reference: "4.65 (+0.84 [0.74, 0.94])"."""
    values = [row[metric] for row in own if row.get(metric) is not None]
    mean = f"{np.mean(values):.2f}" if values else "–"
    return f"{mean} ({interval(compared[metric])}{_star(compared[metric])})" if metric in compared else mean


def _spread(own: Rows, metric: str) -> str:
    values = [row[metric] for row in own if row.get(metric) is not None]
    if not values:
        return "–"
    return f"{np.mean(values):.2f}" + (f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else "")


def _over_seeds(row: dict) -> str:
    """The mean with its interval; of one or two seeds with the seeds themselves: "+1.20 (+0.90, +1.50)"."""
    each = ", ".join(f"{gain:+.2f}" for gain in row["each"])
    return f"{row['difference']:+.2f} ({each})" if row["low"] is None else interval(row)


def _points_of_map(study: Study) -> list[tuple[str, Any, Rows]]:
    """(axis, value, rows) in the order of the axes and values; the default point is one of each axis."""
    points = {(axis, _number(value)): rows for (axis, value), rows in grouped(study["map"], "axis", "value").items()}
    defaults = [points.pop(place) for place in list(points) if place[0] == "default"]
    for axis in dict.fromkeys(axis for axis, _ in points):
        if defaults and axis in DEFAULTS:
            points.setdefault((axis, DEFAULTS[axis]), defaults[0])
    return [(*place, points[place]) for place in sorted(points, key=_place_on_map)]


def _number(value: Any) -> Any:
    """A number where the text is one: values of an axis are on record as they name a folder."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def _place_on_map(place: tuple) -> tuple:
    axis, value = place
    order = list(DEFAULTS).index(axis) if axis in DEFAULTS else len(DEFAULTS)
    if isinstance(value, float):
        return order, axis, 0, value
    return order, axis, 1, SELECTIONS.index(value) if value in SELECTIONS else len(SELECTIONS)


def _missing(row: dict) -> str:
    """What a cell lacks, arm by arm: "rlaif (greedy, narrow)"; a decoding that no arm has, once."""
    arms: dict[str, list[str]] = {}
    for name in row["missing"]:
        arm, _, decoding = name.rpartition(".")
        arms.setdefault(arm, []).append(decoding)
    lacking = list(arms.values())
    if len(arms) == row["arms"] and all(decodings == lacking[0] for decodings in lacking):
        return f"all arms ({', '.join(lacking[0])})"
    return ", ".join(f"{arm} ({', '.join(decodings)})" for arm, decodings in arms.items())


def _star(row: dict) -> str:
    """A star where the difference is not 0 after Holm's correction."""
    return "*" if row.get("p_holm") is not None and row["p_holm"] < 0.05 else ""


def _p(value: float | None) -> str:
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"
