"""The whole method in one picture, with the numbers of a run."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from knowtuning.files import read_json

COMPARED = ("sft", "knowtuning")
WIDTH, HEIGHT = 1000, 500
BLUE, ORANGE, GREEN, INK, GREY = "#0072b2", "#d55e00", "#009e73", "#1a1a1a", "#5f6368"
# beginning of a step's manifest, and the numbers that the picture tells of it
STEPS = {
    "02_vanilla_sft": ("rows",),
    "03_extraction": ("answers", "facts"),
    "04_difficult_knowledge": ("difficult",),
    "05_rewriting": ("rewritten", "training_rows"),
    "06_disturbance": ("pairs: completeness", "pairs: factuality", "pairs: logicality"),
    "08_knowledge_comparison.knowtuning": ("pairs",),
}


def method_numbers(run: Path) -> dict[str, float]:
    """What the picture tells of a finished run: counts from its manifests, greedy scores of SFT and KnowTuning.

    Raises:
        DataError: a notebook of the walk has not finished.
    """
    numbers: dict[str, float] = {}
    for step, names in STEPS.items():
        found = read_json(run / "manifests" / f"{step}.json")["numbers"]
        numbers |= {name: found[name] for name in names}
    for arm in COMPARED:
        scores = read_json(run / "scores" / f"{arm}.json")["decodings"]["greedy"]["overall"]
        numbers |= {f"{arm}: {name}": scores[name]["value"] for name in ("correct facts", "incorrect facts")}
    return numbers


def method(numbers: dict[str, float]) -> str:
    """The picture as SVG, without scripts or outside fonts, on a ground of its own that suits light and dark pages.

    Args:
        numbers: as `method_numbers` returns them.
    """
    n = {name: f"{value:,}" if isinstance(value, int) else f"{value:.2f}" for name, value in numbers.items()}
    drawn = [
        _text(20, 40, "KnowTuning, and what it did in the lab", 20, "start", INK, bold=True),
        _band(70, 150, "I  Knowledge augmentation (KA): which facts are hard?", BLUE, "start"),
        _band(236, 190, "II  Knowledge comparison (KC): which answer is better?", ORANGE, "end"),
        _box(20, 105, 150, ["questions", "and answers", f"{n['answers']} to train on"], GREY),
        _box(20, 325, 150, ["base model", "+ SFT adapter", "notebooks 00–02"], GREY),
        _box(216, 105, 150, ["atomic facts", f"{n['facts']}", "notebook 03"], BLUE),
        _box(412, 105, 150, ["difficult facts", f"{n['difficult']}", "notebook 04"], BLUE),
        _box(608, 105, 150, ["rewritten", f"{n['rewritten']} Q&A", "notebook 05"], BLUE),
        _box(804, 105, 176, ["SFT on D + D*", f"{n['training_rows']} rows → KA", "notebook 07"], BLUE),
        _box(216, 325, 150, ["rephrased", "the preferred answer", "notebook 06"], GREEN),
        _box(412, 268, 150, ["incomplete", f"facts deleted: {n['pairs: completeness']}"], ORANGE, 42),
        _box(412, 321, 150, ["false", f"facts revised: {n['pairs: factuality']}"], ORANGE, 42),
        _box(412, 374, 150, ["illogical", f"facts shuffled: {n['pairs: logicality']}"], ORANGE, 42),
        _box(608, 325, 150, ["preference pairs", f"{n['pairs']}", "better over worse"], ORANGE),
        _box(804, 325, 176, ["DPO + 0.2 SFT", "→ KnowTuning", "notebook 08"], ORANGE),
        *(_arrow(x, 139, x + 46, 139) for x in (170, 366, 562, 758)),
        _arrow(95, 173, 95, 325),
        _path("M 170 359 H 193 V 200 H 487 V 173", GREY),
        _text(498, 194, "perplexity under SFT", 13, "start", GREY),
        _arrow(291, 173, 291, 325),
        _path("M 366 159 H 389 V 289 H 412", INK),
        _path("M 389 289 V 342 H 412", INK),
        _path("M 389 342 V 395 H 412", INK),
        *(_path(f"M 562 {y} H 585 V 359 H 608", INK) for y in (289, 342, 395)),
        _path("M 291 393 V 420 H 683 V 393", INK),
        _arrow(758, 359, 804, 359),
        _arrow(892, 173, 892, 325),
        _text(500, 462, _outcome(n), 15, "middle", INK),
        _text(500, 484, "One run of the lab, greedy answers, per answer (notebook 09).", 12, "middle", GREY),
    ]
    about = (
        f"KnowTuning: {n['answers']} answers are split into {n['facts']} atomic facts; the {n['difficult']} that the "
        f"SFT model finds hardest are rewritten into {n['rewritten']} questions and answers and trained on; then facts "
        f"are deleted, falsified or shuffled, and DPO with 0.2 of the SFT loss prefers the whole answers in "
        f"{n['pairs']} pairs. {_outcome(n)}"
    )
    title = "The method in one picture"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="t d" '
        f'font-family="Helvetica, Arial, sans-serif"><title id="t">{title}</title><desc id="d">{escape(about)}</desc>'
        f'<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        f'<path d="M0 0 8 4 0 8z" fill="{INK}"/></marker></defs>'
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="10" fill="#ffffff"/>'
        f"{''.join(drawn)}</svg>\n"
    )


def _outcome(n: dict[str, str]) -> str:
    told = {
        arm: f"{n[f'{arm}: correct facts']} true and {n[f'{arm}: incorrect facts']} false facts" for arm in COMPARED
    }
    return f"SFT tells {told['sft']}; KnowTuning {told['knowtuning']}."


def _band(y: int, height: int, title: str, color: str, side: str) -> str:
    return (
        f'<rect x="196" y="{y}" width="794" height="{height}" rx="8" fill="{color}" fill-opacity=".07"/>'
        f"{_text(208 if side == 'start' else 882, y + 22, title, 14, side, color, bold=True)}"
    )


def _box(x: int, y: int, width: int, lines: Sequence[str], color: str, height: int = 68) -> str:
    step = 19
    top = y + (height - step * len(lines)) / 2 + 14
    told = [
        _text(x + width / 2, top + step * i, line, 14 if i == 0 else 13, "middle", INK, bold=i == 0)
        for i, line in enumerate(lines)
    ]
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="#ffffff" stroke="{color}" '
        f'stroke-width="2"/>{"".join(told)}'
    )


def _arrow(x: int, y: int, to_x: int, to_y: int) -> str:
    return _path(f"M {x} {y} L {to_x} {to_y}", INK)


def _path(way: str, color: str) -> str:
    return f'<path d="{way}" fill="none" stroke="{color}" stroke-width="1.5" marker-end="url(#tip)"/>'


def _text(x: float, y: float, text: str, size: int, anchor: str, color: str, bold: bool = False) -> str:
    look = f'font-size="{size}" font-weight="{700 if bold else 400}" text-anchor="{anchor}" fill="{color}"'
    return f'<text x="{x:g}" y="{y:g}" {look}>{escape(text)}</text>'
