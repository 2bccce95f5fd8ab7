"""What the study runs: on which bases and seeds, which learning rates it tries, and where it looks for the limits."""

from __future__ import annotations

from dataclasses import dataclass, replace

from knowtuning.arms import ARMS
from knowtuning.recipe import Recipe, get_recipe

# Controls that the paper lacks; they exist in the study only, beside the arms of the notebooks.
CONTROLS = {
    "sft_longer": "SFT with twice the epochs",
    "ka_preferred": "KA, then SFT on the preferred answers for as many steps as DPO takes",
    "ka_random": "KA with random facts in place of the hardest",
    "ka_easiest": "KA with the easiest facts in place of the hardest",
}
STUDIED = (*ARMS, *CONTROLS)


@dataclass(frozen=True)
class Method:
    """The knobs of the method at one point; the defaults are the paper's."""

    alpha: float = 0.5
    beta: float = 0.5
    gamma: float = 0.2
    select: str = "hardest"


@dataclass(frozen=True)
class Point:
    """One point of the map of when the method works: `axis` is what is varied, `value` how, the rest is as always."""

    axis: str
    value: str
    recipe: str
    method: Method = Method()
    false_share: float = 0.0

    @property
    def name(self) -> str:
        """The point as a folder's name, such as "alpha-0.25"."""
        return "-".join(filter(None, (self.axis, self.value))).replace(" ", "-")

    @property
    def unturned(self) -> tuple[str, ...]:
        """Arms that the knob does not reach: they are those of the cell with the same seed."""
        if self.false_share or self.axis == "exposure":
            return ()
        if (self.method.alpha, self.method.select) != (Method.alpha, Method.select):
            return ("sft",)
        return ("sft", "ka", "knowtuning") if self.method == Method() else ("sft", "ka")


@dataclass(frozen=True)
class Study:
    """Cells (training seeds by recipe), the seeds of tuning, which no cell has, and the points of the map."""

    cells: dict[str, tuple[int, ...]]
    tuning: str
    tuning_seeds: tuple[int, ...]
    points: tuple[Point, ...]
    point_seeds: tuple[int, ...]
    arms: tuple[str, ...] = STUDIED
    rates: tuple[float, ...] = (0.5, 1.0, 2.0)  # the grid of every arm: multiples of the recipe's learning rates
    responses: int = 6
    confidence_samples: int = 8  # Tian et al. take 20
    confidence_tokens: int = 24
    map_arms: tuple[str, ...] = ("sft", "ka", "knowtuning")
    judged_against: tuple[str, ...] = ("sft", "rlaif", "facttune")


def _points(recipe: str, told: tuple[int, ...]) -> tuple[Point, ...]:
    """One axis after another, around the default."""
    default = Method()
    points = [Point("default", "", recipe)]
    points += [Point("exposure", str(n), f"{recipe}-told-{n}") for n in told]
    points += [Point("annotator errors", str(share), recipe, false_share=share) for share in (0.3,)]
    points += [Point("alpha", str(a), recipe, replace(default, alpha=a)) for a in (0.25, 1.0)]
    points += [Point("beta", str(b), recipe, replace(default, beta=b)) for b in (0.25, 0.75)]
    points += [Point("gamma", str(g), recipe, replace(default, gamma=g)) for g in (0.0, 1.0)]
    points += [Point("selection", s, recipe, replace(default, select=s)) for s in ("random", "easiest")]
    return tuple(points)


STUDIES = {
    "lab": Study(
        cells={
            "lab": (0, 1, 2, 3, 4),
            "lab-base-1": (5, 6, 7, 8, 9),
            "lab-generic": (0, 1),
            "lab-generic-base-1": (2, 3),
        },
        tuning="lab",
        tuning_seeds=(100, 101),
        points=_points("lab", (20, 30, 40)),
        point_seeds=(0, 1),
    ),
    "smoke": Study(
        cells={"smoke": (0, 1)},
        tuning="smoke",
        tuning_seeds=(100,),
        points=(Point("default", "", "smoke"), Point("gamma", "0.0", "smoke", Method(gamma=0.0))),
        point_seeds=(0,),
        rates=(1.0, 2.0),
        responses=3,
        confidence_samples=3,
    ),
}


def get_study(name: str) -> Study:
    """Return the study called `name`; an unknown name raises `ValueError` that lists the known ones."""
    if name not in STUDIES:
        raise ValueError(f"study {name!r} is unknown; use one of {', '.join(STUDIES)}.")
    return STUDIES[name]


def at_point(point: Point) -> Recipe:
    """The recipe of a point, with its annotators."""
    recipe = get_recipe(point.recipe)
    return recipe.replace(lab=recipe.lab.replace(false_share=point.false_share))
