# The walk as a graph: (notebook, recipe, seed, arm) -> artefacts. `knowtuning walk` runs it; so does plain snakemake:
#   snakemake --cores 2 --config recipe=lab seeds=0 arms=sft,ka,knowtuning
import os
import sys

from knowtuning.arms import ARMS
from knowtuning.execute import NOTEBOOKS, code_hash
from knowtuning.recipe import get_recipe, lab_of

RUNS = os.environ.get("KNOWTUNING_RUNS", "runs")
RECIPE = get_recipe(config.get("recipe", "lab"))
SEEDS = str(config.get("seeds", 0)).split(",")
WANTED = str(config.get("arms", "sft,ka,knowtuning")).split(",")
SHARDS = int(config.get("shards", 1))
DATA, COPY, ROWS = config.get("data", ""), config.get("copy", ""), config.get("rows", 0)
# the teacher's model, where it is not the recipe's: another one makes other facts
MODEL = f" model={config['model']}" if config.get("model") else ""
# KA and KC files of the user's in place of ours
GIVEN = {name: config.get(name, "") for name in ("ka", "kc")}
# what DPO measures the policy against, where it is not pi_ka, and the weight of KnowTuning's SFT term
REFERENCE, GAMMA = config.get("reference", "start"), config.get("gamma", "")
if unknown := set(WANTED) - set(ARMS):
    raise ValueError(f"arms {sorted(unknown)} are unknown; use some of {', '.join(ARMS)}.")

BASELINES = [name for name, arm in ARMS.items() if arm.pairs != "kc"]

RUN = f"{RUNS}/{{recipe}}/seed-{{seed}}"
NOTEBOOK = RUN + "/notebooks"
EXECUTE = (
    f"OMP_NUM_THREADS={{threads}} {sys.executable} -m knowtuning execute {{params.notebook}} {{output.notebook}} "
    f"{{params.given}} --progress {RUNS}/{{wildcards.recipe}}/progress/{{params.step}}.json"
)
# how the teacher is paid (max_cost=5 batch=true) changes nothing that it says: no reason to run anything again, and so
# in the environment and not among the parameters
ASK = EXECUTE.replace("{params.given}", "{params.given} ${{KNOWTUNING_PAY:-}}")


def notebook(name):
    """A notebook and its step, with what must run it again when it changes: its code, and the recipe's settings."""
    return {
        "notebook": name,
        "step": name,
        "code": code_hash(NOTEBOOKS / f"{name}.ipynb"),
        "settings": lambda wildcards: repr(get_recipe(wildcards.recipe)),
    }


def of_shards(stage):
    """What a notebook waits for where its rows are worked on in shards (see shards.smk)."""
    if SHARDS == 1:
        return []
    if stage == "score":
        return [f"{RUN}/shards/{number}-of-{SHARDS}/difficulty.jsonl" for number in range(1, SHARDS + 1)]
    return [f"{RUN}/shards/{stage}-of-{SHARDS}.gathered"]


def given_file(name):
    return f" given={GIVEN[name]}" if GIVEN[name] else ""


def adapter(arm):
    return [f"{RUN}/adapters/{arm}/{name}" for name in ("adapter_model.safetensors", "adapter_config.json")]


def base(wildcards):
    name = get_recipe(wildcards.recipe).base
    return f"{RUNS}/{name}/base/model.safetensors" if lab_of(name) else []


def trained(wildcards):
    return [] if wildcards.arm == "base" else expand(adapter(wildcards.arm), recipe=wildcards.recipe, seed=wildcards.seed)


def gamma(arm):
    return GAMMA if GAMMA != "" and ARMS[arm].pairs == "kc" else ARMS[arm].gamma


def compared(wildcards):
    return [f"{RUN}/scores/{arm}.json".format(**wildcards) for arm in ARMS[wildcards.arm].against]


def model(processes=1):
    """What a cluster gives a notebook that runs the model, beyond its defaults; our own small bases need nothing."""
    if lab_of(RECIPE.base):
        return {}
    return {"mem_mb": int(1024 * RECIPE.machine.memory_gb), "gpu": processes}


wildcard_constraints:
    recipe="[^/]+",
    seed=r"\d+",
    arm="|".join(ARMS),


rule base_model:
    output:
        model=f"{RUNS}/{{recipe}}/base/model.safetensors",
        tokenizer=f"{RUNS}/{{recipe}}/base/tokenizer.json",
        knowledge=f"{RUNS}/{{recipe}}/base/knowledge.jsonl",
        notebook=f"{RUNS}/{{recipe}}/base/notebooks/00_base_model.ipynb",
    params:
        **notebook("00_base_model"),
        given="recipe={recipe}",
    # the study trains several bases side by side, which two threads each would only slow down
    threads: lambda wildcards: 2 if wildcards.recipe in ("lab", "smoke") else 1
    shell:
        EXECUTE


rule questions_and_answers:
    input:
        [path for path in (DATA, COPY) if os.path.exists(path)],
    output:
        train=f"{RUN}/data/train.jsonl",
        valid=f"{RUN}/data/valid.jsonl",
        test=f"{RUN}/data/test.jsonl",
        card=f"{RUN}/data/card.json",
        readme=f"{RUN}/data/README.md",
        notebook=f"{NOTEBOOK}/01_questions_and_answers.ipynb",
    params:
        **notebook("01_questions_and_answers"),
        given="recipe={recipe} seed={seed}" + (f" data={DATA} rows={ROWS}" if DATA else "")
        + (f" copy={COPY}" if COPY else ""),
    shell:
        EXECUTE


rule vanilla_sft:
    input:
        base,
        rules.questions_and_answers.output.train,
        rules.questions_and_answers.output.valid,
    output:
        adapter("sft"),
        notebook=f"{NOTEBOOK}/02_vanilla_sft.ipynb",
    params:
        **notebook("02_vanilla_sft"),
        given="recipe={recipe} seed={seed}",
    resources:
        **model(RECIPE.machine.num_processes),
    shell:
        EXECUTE


rule extraction:
    input:
        rules.questions_and_answers.output.train,
        of_shards("extract"),
    output:
        facts=f"{RUN}/facts.jsonl",
        notebook=f"{NOTEBOOK}/03_extraction.ipynb",
    params:
        **notebook("03_extraction"),
        given="recipe={recipe} seed={seed}" + MODEL,
    shell:
        ASK


rule difficult_knowledge:
    input:
        base,
        adapter("sft"),
        rules.questions_and_answers.output.train,
        rules.extraction.output.facts,
        of_shards("score"),
    output:
        difficulty=f"{RUN}/difficulty.jsonl",
        notebook=f"{NOTEBOOK}/04_difficult_knowledge.ipynb",
    params:
        **notebook("04_difficult_knowledge"),
        given="recipe={recipe} seed={seed}",
    resources:
        **model(),
    shell:
        EXECUTE


rule rewriting:
    input:
        rules.questions_and_answers.output.train,
        [GIVEN["ka"]] if GIVEN["ka"] else [rules.difficult_knowledge.output.difficulty, *of_shards("rewrite")],
    output:
        ka=f"{RUN}/ka.json",
        provenance=f"{RUN}/ka.provenance.jsonl",
        notebook=f"{NOTEBOOK}/05_rewriting.ipynb",
    params:
        **notebook("05_rewriting"),
        given="recipe={recipe} seed={seed}" + MODEL + given_file("ka"),
    shell:
        ASK


rule disturbance:
    input:
        rules.questions_and_answers.output.train,
        [GIVEN["kc"]] if GIVEN["kc"] else [rules.extraction.output.facts, *of_shards("disturb")],
    output:
        kc=f"{RUN}/kc.json",
        provenance=f"{RUN}/kc.provenance.jsonl",
        notebook=f"{NOTEBOOK}/06_disturbance.ipynb",
    params:
        **notebook("06_disturbance"),
        given="recipe={recipe} seed={seed}" + MODEL + given_file("kc"),
    shell:
        ASK


rule knowledge_augmentation:
    input:
        base,
        rules.rewriting.output.ka,
    output:
        adapter("ka"),
        notebook=f"{NOTEBOOK}/07_knowledge_augmentation.ipynb",
    params:
        **notebook("07_knowledge_augmentation"),
        given="recipe={recipe} seed={seed}",
    resources:
        **model(RECIPE.machine.num_processes),
    shell:
        EXECUTE


rule baselines:
    input:
        base,
        adapter("sft"),
        rules.questions_and_answers.output.train,
        rules.disturbance.output.kc,
    output:
        [f"{RUN}/pairs/{arm}.{kind}" for arm in BASELINES for kind in ("json", "provenance.jsonl")],
        notebook=f"{NOTEBOOK}/10_baselines.ipynb",
    params:
        **notebook("10_baselines"),
        given="recipe={recipe} seed={seed}" + MODEL,
    resources:
        **model(),
    shell:
        ASK


rule knowledge_comparison:
    input:
        base,
        lambda w: expand(f"{RUN}/{ARMS[w.arm].pairs}.{{kind}}", kind=("json", "provenance.jsonl"), **w),
        lambda w: expand(adapter(ARMS[w.arm].start), recipe=w.recipe, seed=w.seed),
    output:
        adapter("{arm}"),
        notebook=f"{NOTEBOOK}/08_knowledge_comparison.{{arm}}.ipynb",
    wildcard_constraints:
        arm="|".join(name for name, arm in ARMS.items() if arm.start),
    params:
        **notebook("08_knowledge_comparison") | {"step": "08_knowledge_comparison.{arm}"},
        given=lambda w: f"recipe={w.recipe} seed={w.seed} arm={w.arm} start={ARMS[w.arm].start} "
        f"aspects={','.join(ARMS[w.arm].aspects)} gamma={gamma(w.arm)}"
        + (f" reference={REFERENCE}" if REFERENCE != "start" else ""),
    resources:
        **model(RECIPE.machine.num_processes),
    shell:
        EXECUTE


rule evaluation:
    input:
        base,
        trained,
        compared,
        rules.questions_and_answers.output.test,
    output:
        scores=f"{RUN}/scores/{{arm}}.json",
        greedy=f"{RUN}/answers/{{arm}}.greedy.jsonl",
        sampled=f"{RUN}/answers/{{arm}}.sampled.jsonl",
        notebook=f"{NOTEBOOK}/09_evaluation.{{arm}}.ipynb",
    params:
        **notebook("09_evaluation") | {"step": "09_evaluation.{arm}"},
        given=lambda w: f"recipe={w.recipe} seed={w.seed} arm={w.arm} against={','.join(ARMS[w.arm].against)}",
    resources:
        **model(),
    shell:
        EXECUTE


def everything():
    """Every artefact of the wanted arms, and not only their scores: a file in the middle that is gone is made again."""
    starts = {ARMS[arm].start for arm in WANTED} - {None}
    made = [rules.questions_and_answers]
    if WANTED != ["base"]:
        made += [rules.vanilla_sft]
    if "ka" in starts.union(WANTED):
        made += [] if GIVEN["ka"] else [rules.extraction, rules.difficult_knowledge]
        made += [rules.rewriting, rules.knowledge_augmentation]
    if starts:
        made += [] if GIVEN["kc"] else [rules.extraction]
        made += [rules.disturbance]
    if set(WANTED).intersection(BASELINES):
        made += [rules.baselines, rules.disturbance, rules.extraction]
    files = [expand(rule.output, recipe=RECIPE.name, seed=SEEDS) for rule in made]
    trained = [arm for arm in WANTED if ARMS[arm].start]
    files += [expand(rules.knowledge_comparison.output, recipe=RECIPE.name, seed=SEEDS, arm=trained)]
    files += [expand(rules.evaluation.output, recipe=RECIPE.name, seed=SEEDS, arm=WANTED)]
    if lab_of(RECIPE.base):
        files += [expand(rules.base_model.output, recipe=RECIPE.base)]
    return files


if SHARDS > 1:

    include: "shards.smk"


rule all:
    default_target: True
    input:
        everything(),
