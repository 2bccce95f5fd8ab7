"""Human evaluation: choices made on a blind sheet, opened with its key, and what they say of arms and annotators."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from knowtuning.evaluation.judge import true_verdict
from knowtuning.evaluation.pairwise import win_tie_lose
from knowtuning.evaluation.stats import mean_interval
from knowtuning.files import DataError
from knowtuning.knowledge.aspects import ASPECTS


def unblind(choices: Iterable[dict], key: dict) -> list[dict]:
    """What each choice says of one arm against the other.

    Returns rows `{"annotator", "item", "id", "arm", "against", "aspect", "verdict", "repeats"}`; the verdict is "win"
    where `arm` was chosen, "lose" where `against` was. An item that is not in the key raises `DataError`.
    """
    verdicts = []
    for row in choices:
        entry = key["items"].get(row["item"])
        if entry is None:
            raise DataError(
                f"item {row['item']!r}, chosen on by {row['annotator']}, is not in this key; take that of their sheet."
            )
        arm_is_left = entry["left"] == entry["arm"]
        verdict = "tie" if row["choice"] == "tie" else "win" if (row["choice"] == "left") == arm_is_left else "lose"
        chosen = {field: row[field] for field in ("annotator", "item", "aspect")}
        about = {field: entry[field] for field in ("id", "arm", "against", "repeats")}
        verdicts.append({**chosen, "verdict": verdict, **about})
    return verdicts


def ratings(verdicts: Iterable[dict], aspect: str, items: Sequence[str]) -> dict[str, list[str | None]]:
    """Verdicts on one aspect as `agreement` takes them: a column per annotator, one value per item of `items`.

    Items without a verdict are None. Annotators come in order of name.
    """
    given: dict[str, dict[str, str]] = defaultdict(dict)
    for row in verdicts:
        if row["aspect"] == aspect:
            given[row["annotator"]][row["item"]] = row["verdict"]
    return {name: [given[name].get(item) for item in items] for name in sorted(given)}


def first_items(key: dict, pair: tuple[str, str] | None = None) -> list[str]:
    """The items that repeat no other, in the order of the sheet: all of them, or those of a pair (arm, against)."""
    return [
        item
        for item, entry in key["items"].items()
        if entry["repeats"] is None and pair in (None, (entry["arm"], entry["against"]))
    ]


def true_column(answers: Mapping[str, Sequence[dict]], aspect: str, key: dict, items: Sequence[str]) -> list[str]:
    """The true verdict on each item, where the lab knows it; `answers` are scored rows by arm, as in `true_verdict`."""
    scored = {arm: {row["id"]: row for row in rows} for arm, rows in answers.items()}
    entries = [key["items"][item] for item in items]
    return [true_verdict(scored[e["arm"]][e["id"]], scored[e["against"]][e["id"]], aspect) for e in entries]


def judge_column(
    judged: Mapping[tuple[str, str], Sequence[dict]], aspect: str, key: dict, items: Sequence[str]
) -> list[str | None]:
    """The judge's verdict on each item, None where there is none; `judged`: rows of `judge_pairs` by pair of arms."""
    given = {
        (*pair, row["id"]): row["verdict"] for pair, rows in judged.items() for row in rows if row["aspect"] == aspect
    }
    entries = [key["items"][item] for item in items]
    return [given.get((entry["arm"], entry["against"], entry["id"])) for entry in entries]


def majority(columns: Mapping[str, Sequence[str | None]]) -> list[str | None]:
    """The verdict of most raters of each item; "tie" where no verdict leads, None where nobody rated it."""
    verdicts = []
    for given in zip(*columns.values(), strict=True):
        ranked = Counter(value for value in given if value is not None).most_common(2)
        split = len(ranked) == 2 and ranked[0][1] == ranked[1][1]
        verdicts.append("tie" if split else ranked[0][0] if ranked else None)
    return verdicts


def verdict_rows(verdicts: Sequence[dict], key: dict) -> list[dict]:
    """Win, tie and lose by pair of arms and aspect, over items, by the majority of the annotators of each item.

    Rows `{"arm", "against", "aspect", "items", "win (%)", "tie (%)", "lose (%)", "win rate (%)", "low", "high", "p"}`
    over the items that somebody rated; the win rate splits ties and has a 95 % interval over items, p is that of the
    sign test. Questions that both arms answer alike are not on the sheet, and not counted.
    """
    rows = []
    for pair in key["pairs"]:
        items = first_items(key, (pair["arm"], pair["against"]))
        for aspect in ASPECTS:
            rated = [verdict for verdict in majority(ratings(verdicts, aspect, items)) if verdict]
            if not rated:
                continue
            shares = win_tie_lose(rated)
            rate = shares["win rate (ties split)"]
            row = {"arm": pair["arm"], "against": pair["against"], "aspect": aspect, "items": len(rated)}
            row |= {f"{name} (%)": 100 * shares[name]["value"] for name in ("win", "tie", "lose")}
            row |= {"win rate (%)": 100 * rate["value"], "low": 100 * rate["low"], "high": 100 * rate["high"]}
            rows.append(row | {"p": shares["p"]})
    return rows


def annotator_rows(choices: Sequence[dict], key: dict) -> list[dict]:
    """How each annotator worked: do they agree with themselves when the sides are swapped, and do they favour a side?

    Rows `{"annotator", "choices", "repeated", "same (%)", "low", "high", "ties (%)", "left of left or right (%)"}`;
    the interval is of "same": by bootstrap over the repeated choices. Percents of nothing are None.
    """
    rows = []
    for name in sorted({row["annotator"] for row in choices}):
        own = [row for row in choices if row["annotator"] == name]
        verdict = {(row["item"], row["aspect"]): row["verdict"] for row in unblind(own, key)}
        twice = [
            100.0 * (verdict[item, aspect] == verdict[first, aspect])
            for item, aspect in verdict
            if (first := key["items"][item]["repeats"]) and (first, aspect) in verdict
        ]
        same, sides = mean_interval(twice), Counter(row["choice"] for row in own)
        row = {"annotator": name, "choices": len(own), "repeated": len(twice), "same (%)": same["value"]}
        row |= {"low": same["low"], "high": same["high"], "ties (%)": 100 * sides["tie"] / len(own)}
        chosen = sides["left"] + sides["right"]
        rows.append(row | {"left of left or right (%)": 100 * sides["left"] / chosen if chosen else None})
    return rows
