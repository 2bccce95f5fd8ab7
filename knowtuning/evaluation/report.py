"""From answers to tables: scores of one arm, arms side by side, and differences with their intervals."""

from __future__ import annotations

from knowtuning.evaluation import bertscore, facts, meteor
from knowtuning.evaluation.stats import Values, bootstrap_difference, mean_interval, ratio_interval
from knowtuning.files import read_json, shown
from knowtuning.lab.world import World
from knowtuning.run import Run

POOLED = "% correct"  # correct facts of all facts told
# what the tables show of an answer: metric -> (field, factor); shares are in percent
METRICS = {
    "correct facts": ("correct", 1),
    "incorrect facts": ("incorrect", 1),
    POOLED: ("correct", 100),
    "completeness": ("completeness", 100),
    "order": ("order", 100),
    "METEOR": ("meteor", 100),
    "BERTScore": ("bertscore", 100),
    "words": ("words", 1),
}


def score_answers(
    test: list[dict], replies: list[dict], world: World | None, with_bertscore: bool = True
) -> tuple[list[dict], dict[str, str]]:
    """Score generated answers, and say which variants of the text metrics were used.

    Args:
        test: QA rows whose `answer` is the reference; `relations`, where a row has it, are those asked for.
        replies: `{"answer", "tokens", "finished"}` in the same order.
        world: where facts can be counted exactly; None for real text, which gets METEOR, BERTScore and length only.

    Returns:
        One row per question: the reply with its scores; and the variant of each text metric by name.
    """
    texts, references = [reply["answer"] for reply in replies], [row["answer"] for row in test]
    columns, variants = {"meteor": meteor.score(texts, references)}, {"METEOR": meteor.variant()}
    if with_bertscore:
        columns["bertscore"], variants["BERTScore"] = bertscore.score(texts, references), bertscore.variant()
    scored = []
    for number, (row, reply) in enumerate(zip(test, replies, strict=True)):
        counts = {"words": len(reply["answer"].split())}
        if world:
            entity = world.find_entity(row["question"])
            counts = facts.score_answer(world, entity, reply["answer"], row.get("relations"))
        numbers = {name: round(values[number], 4) for name, values in columns.items()}
        scored.append({"id": row["id"], "question": row["question"], **reply, **counts, **numbers})
    return scored, variants


def summarise(arm: str, answers: dict[str, list[dict]], variants: dict[str, str]) -> dict:
    """Scores of one arm: every metric with its 95 % interval over questions, by decoding and by tier.

    Args:
        answers: rows of `score_answers` by decoding.

    Returns:
        `{"arm", "variants", "decodings": {name: {"overall": {metric: {"value", "low", "high"}}, "by_tier", …}}}`.
    """
    decodings = {}
    for decoding, rows in answers.items():
        counted = "correct" in rows[0]
        decodings[decoding] = {
            "questions": len(rows),
            "unfinished": sum(not row["finished"] for row in rows),
            "overall": {name: _interval(name, rows) for name in METRICS if _values(name, rows)},
            "by_tier": facts.summarise(rows)["by_tier"] if counted else {},
            "unreadable": sum(row["unreadable"] for row in rows) if counted else None,
        }
    return {"arm": arm, "variants": variants, "decodings": decodings}


def arm_rows(scores: list[dict], decoding: str) -> list[dict]:
    """One row per arm, one column per metric: the table of the paper."""
    return [
        {"arm": of_arm["arm"]}
        | {name: interval["value"] for name, interval in of_arm["decodings"][decoding]["overall"].items()}
        for of_arm in scores
    ]


def tier_rows(score: dict, decoding: str) -> list[dict]:
    """Rows `{"arm", "tier", "correct", "incorrect", "percent_correct"}` of one arm."""
    return [
        {"arm": score["arm"], "tier": tier, **{key: part[key] for key in ("correct", "incorrect", "percent_correct")}}
        for tier, part in sorted(score["decodings"][decoding]["by_tier"].items())
    ]


def differences(rows: list[dict], others: list[dict]) -> list[dict]:
    """Rows `{"metric", "difference", "low", "high"}` of one arm's answers minus another's, paired by question."""
    if [row["id"] for row in rows] != [row["id"] for row in others]:
        raise ValueError("two arms can only be compared on the same questions in the same order.")
    compared = []
    for name in METRICS:
        ours, theirs = _values(name, rows), _values(name, others)
        if ours and theirs:
            interval = bootstrap_difference(ours, theirs, "ratio" if name == POOLED else "mean")
            compared.append({"metric": name, **{key: interval[key] for key in ("difference", "low", "high")}})
    return compared


def print_report(recipe: str, seed: int, arms: list[str]) -> None:
    """Print the table of the arms, greedy and sampled, and where figures and notebooks lie."""
    from rich.console import Console
    from rich.table import Table

    run = Run("09_evaluation", recipe, seed)
    scores = [read_json(run.path(f"scores/{arm}.json")) for arm in arms]
    console = Console() if Console().is_terminal else Console(width=80)
    for decoding in scores[0]["decodings"]:
        rows = arm_rows(scores, decoding)
        title = f"{run.recipe.name}, seed {seed}, {decoding} answers"
        view = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0))
        for column in rows[0]:
            view.add_column(column.replace(" ", "\n"), justify="left" if column == "arm" else "right", no_wrap=True)
        for row in rows:
            view.add_row(*("–" if v is None else v if isinstance(v, str) else f"{v:.2f}" for v in row.values()))
        console.print(view)
    print(*scores[0]["variants"].values(), sep="\n")
    print(f"teacher requests failed: {run.teacher_failures()}")
    if run.recipe.lab is None:
        print("The lab's small base cannot answer real questions: these scores mean nothing.")
    places = [run.runs / run.recipe.base / "base" / "figures", run.root / "figures"]
    for path in sorted(figure for place in places for figure in place.glob("*.png")):
        print(f"figure    {shown(path)}")
    print(f"notebooks {shown(run.root / 'notebooks')}")


def _values(name: str, rows: list[dict]) -> Values:
    """The values of one metric, empty where no answer has one."""
    field, factor = METRICS[name]
    values = [None if row.get(field) is None else factor * row[field] for row in rows]
    if all(value is None for value in values):
        return []
    if name != POOLED:
        return values
    return [
        None if value is None else (value, row["correct"] + row["incorrect"])
        for value, row in zip(values, rows, strict=True)
    ]


def _interval(name: str, rows: list[dict]) -> dict:
    return (ratio_interval if name == POOLED else mean_interval)(_values(name, rows))
