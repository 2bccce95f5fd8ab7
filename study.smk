# The study: all arms over many cells, the learning rates before them and the map after them.
#   snakemake --cores 2 results --config study=lab
from knowtuning.study.plan import STUDIED, get_study

STUDY_NAME = config.get("study", "lab")
STUDY = get_study(STUDY_NAME)
FOLDER = f"{RUNS}/study" if STUDY_NAME == "lab" else f"{RUNS}/study-{STUDY_NAME}"
STEP = (
    f"OMP_NUM_THREADS={{threads}} {sys.executable} -m knowtuning.study.run {{params.step}} --study {STUDY_NAME} "
)
CELLS = [f"{FOLDER}/{recipe}/seed-{seed}/cell.json" for recipe, seeds in STUDY.cells.items() for seed in seeds]
POINTS = expand(
    f"{FOLDER}/map/{{point}}/seed-{{seed}}/point.json", point=[p.name for p in STUDY.points], seed=STUDY.point_seeds
)


def base_of(recipe):
    return f"{RUNS}/{get_recipe(recipe).base}/base/knowledge.jsonl"


rule study_rates:
    input:
        base_of(STUDY.tuning),
    output:
        f"{FOLDER}/tuning/seed-{{seed}}/rates.json",
    params:
        step="rates",
        arms=repr(STUDY.arms),
    priority: 3
    shell:
        STEP + "--seed {wildcards.seed}"


rule study_choice:
    input:
        expand(f"{FOLDER}/tuning/seed-{{seed}}/rates.json", seed=STUDY.tuning_seeds),
    output:
        f"{FOLDER}/tuning.json",
    params:
        step="choose",
    shell:
        STEP


rule study_cell:
    input:
        rules.study_choice.output,
        lambda wildcards: base_of(wildcards.recipe),
    output:
        f"{FOLDER}/{{recipe}}/seed-{{seed}}/cell.json",
    params:
        step="cell",
        arms=repr(STUDY.arms),
    priority: 2
    shell:
        STEP + "--recipe {wildcards.recipe} --seed {wildcards.seed}"


def point_of(wildcards):
    return next(point for point in STUDY.points if point.name == wildcards.point)


def cell_beside(wildcards):
    """The cell that a point takes over what its knob does not reach."""
    point = point_of(wildcards)
    return f"{FOLDER}/{point.recipe}/seed-{wildcards.seed}/cell.json" if point.unturned else []


rule study_point:
    input:
        rules.study_choice.output,
        lambda wildcards: base_of(point_of(wildcards).recipe),
        cell_beside,
    output:
        f"{FOLDER}/map/{{point}}/seed-{{seed}}/point.json",
    params:
        step="point",
        point=lambda wildcards: repr(point_of(wildcards)),
    wildcard_constraints:
        point="|".join(p.name.replace(".", "[.]") for p in STUDY.points),
    priority: 1
    shell:
        STEP + "--point {wildcards.point} --seed {wildcards.seed}"


rule study_judge:
    input:
        [path for path in CELLS if path.startswith(f"{FOLDER}/{next(iter(STUDY.cells))}/")][:2],
    output:
        f"{FOLDER}/judge.json",
    params:
        step="judge",
    shell:
        STEP


rule study_tables:
    input:
        CELLS,
        POINTS,
        rules.study_judge.output,
    output:
        f"{FOLDER}/results/claims.json",
    params:
        step="tables",
    shell:
        STEP


# every file by name, and not only the tables: one in the middle that is gone is made again
rule results:
    input:
        CELLS,
        POINTS,
        rules.study_judge.output,
        rules.study_tables.output,
