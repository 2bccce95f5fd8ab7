"""The claims of the paper, each with the comparison that tests it, and the rule by which the lab judges them.

The rule, for every claim alike: the *gain* is the difference in the direction that the claim says.

* **holds**: the gain is above 0, with a p-value below 0.05 after Holm's correction within the family of the claim.
* **does not hold**: the whole 95 % interval of the gain lies below the band of practical difference (`BANDS`): the
  claimed gain is not there, be the interval below 0, around 0, or above 0 and too small to matter without being sure.
* **cannot be told**: anything else: the interval holds both no gain and a gain that would matter, or cells are missing.

A family is the claims of one name in one domain and one decoding. The interval is that of `seeds.crossed`: for other
trainings and other questions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from study.multiple import holm
from study.rows import Rows, grouped, where

LEVEL = 0.05
PRICED_AS = "gpt-3.5-turbo"  # the paper's teacher; by it costs are judged


@dataclass(frozen=True)
class Claim:
    """One claim: `arm` has more (`sign` 1) or less (-1) of `measure` than `against`."""

    text: str
    family: str
    arm: str
    against: str
    measure: str
    kind: Literal["metric", "wins", "dollars"] = "metric"
    sign: int = 1


# Gains below these do not matter, in the units of the measure.
BANDS = {
    "correct facts": 0.1,
    "incorrect facts": 0.05,
    "% correct": 1.0,
    "completeness": 1.0,
    "order": 1.0,
    "wins": 2.0,  # points of wins less losses
    "dollars": 0.0,
}


def _baselines() -> list[Claim]:
    names = {"rlaif": "RLAIF", "facttune": "FactTune (FS)", "facttune_mc": "FactTune (MC)"}
    aspects = ("completeness", "factuality", "logicality")
    return [
        Claim(f"wins over {name} on {aspect}", "against baselines", "knowtuning", arm, aspect, "wins")
        for arm, name in names.items()
        for aspect in aspects
    ]


def _ablations() -> list[Claim]:
    own = {"no_kcc": ("-KCC", "completeness"), "no_kfc": ("-KFC", "% correct"), "no_klc": ("-KLC", "order")}
    whole = {"no_ka": "-KA", "ka": "-KC"}
    claims = [
        Claim(f"{name} lowers {metric}", "ablations", "knowtuning", arm, metric) for arm, (name, metric) in own.items()
    ]
    return claims + [
        Claim(f"{name} lowers {metric}", "ablations", "knowtuning", arm, metric)
        for arm, name in whole.items()
        for metric in ("completeness", "% correct", "order")
    ]


CLAIMS = (
    Claim("more complete than SFT", "against SFT", "knowtuning", "sft", "completeness"),
    Claim("more factual than SFT: % correct", "against SFT", "knowtuning", "sft", "% correct"),
    Claim(
        "more factual than SFT: fewer incorrect facts", "against SFT", "knowtuning", "sft", "incorrect facts", sign=-1
    ),
    Claim("better ordered than SFT", "against SFT", "knowtuning", "sft", "order"),
    *_baselines(),
    *_ablations(),
    Claim("hardest facts beat random ones: % correct", "selection", "ka", "ka_random", "% correct"),
    Claim("hardest facts beat random ones: completeness", "selection", "ka", "ka_random", "completeness"),
    Claim("hardest facts beat the easiest: % correct", "selection", "ka", "ka_easiest", "% correct"),
    Claim("hardest facts beat the easiest: completeness", "selection", "ka", "ka_easiest", "completeness"),
    Claim("cheaper than FactTune (FS)", "cost", "KnowTuning", "FactTune FS", "dollars", "dollars", sign=-1),
    Claim("cheaper than FactTune (MC)", "cost", "KnowTuning", "FactTune MC", "dollars", "dollars", sign=-1),
)


def judge(domain: str, decoding: str, differences: Rows, pairwise: Rows, costs: Rows) -> Rows:
    """The verdict on every claim in one domain and decoding, from the rows that `collect` makes.

    Rows: claim, family, domain, decoding, arm, against, measure, gain, low, high, p, p_holm, band, cells, verdict. The
    gain and its interval have the sign of the claim: above 0 supports it.
    """
    metrics = where(differences, domain=domain, decoding=decoding, tier="all")
    games = where(pairwise, domain=domain, decoding=decoding)
    prices = where(costs, domain=domain, model=PRICED_AS)
    # kind of claim -> (arm, against, measure) -> the row that compares them
    compared = {
        "metric": {(row["arm"], row["against"], row["metric"]): row for row in metrics},
        "wins": {(row["arm"], row["against"], row["aspect"]): row for row in games},
        "dollars": {(row["first"], row["second"], "dollars"): row for row in prices},
    }
    rows = [
        {"claim": claim.text, "family": claim.family, "domain": domain, "decoding": decoding}
        | {"arm": claim.arm, "against": claim.against, "measure": claim.measure, **_gain(claim, compared[claim.kind])}
        | {"band": BANDS["wins" if claim.kind == "wins" else claim.measure]}
        for claim in CLAIMS
    ]
    for members in grouped(rows, "family").values():
        for row, p in zip(members, holm([row["p"] for row in members]), strict=True):
            if p is not None:
                row["p_holm"] = p
    return [{**row, "verdict": verdict(row)} for row in rows]


def verdict(row: dict) -> str:
    """The rule of this file, for a row with gain, low, high, p_holm and band."""
    if row["low"] is None or row.get("p_holm") is None:
        return "cannot be told"
    if row["gain"] > 0 and row["p_holm"] < LEVEL:
        return "holds"
    return "does not hold" if row["high"] < row["band"] else "cannot be told"


def _gain(claim: Claim, compared: dict[tuple, dict]) -> dict:
    """gain, low, high, p and cells of a claim; a difference may be on record the other way round."""
    pair, turned = (claim.arm, claim.against, claim.measure), (claim.against, claim.arm, claim.measure)
    row = compared.get(pair) or compared.get(turned)
    if row is None:
        return dict.fromkeys(("gain", "low", "high", "p")) | {"cells": 0}
    sign = claim.sign * (1 if pair in compared else -1)
    ends = [None if row[end] is None else sign * row[end] for end in ("low", "high")]
    low, high = ends if None in ends else sorted(ends)
    return {"gain": sign * row["difference"], "low": low, "high": high, "p": row["p"], "cells": row["cells"]}
