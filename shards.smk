# The stages over slices of the training rows, as many at once as there are cores or nodes: knowtuning walk --shards N.
# The notebooks then find what they would ask or compute on record.
from knowtuning.shards.shard import OUTPUT, method

SLICE = f"{RUN}/shards/{{number}}-of-{SHARDS}"
SCORE = (
    f"OMP_NUM_THREADS={{threads}} {sys.executable} -m knowtuning shard {{params.stage}} {{wildcards.number}}/{SHARDS} "
    "--recipe {wildcards.recipe} --seed {wildcards.seed} "
    f"--progress {RUNS}/{{wildcards.recipe}}/progress/{{params.stage}}_{{wildcards.number}}-of-{SHARDS}.json"
)
ASK_SHARD = SCORE + (f" --teacher {config['model']}" if config.get("model") else "") + " ${{KNOWTUNING_SHARD_PAY:-}}"


def stage(name):
    """A stage, with what must run it again when it changes."""
    return {"stage": name, "method": repr(method(name)), "settings": lambda w: repr(get_recipe(w.recipe))}


wildcard_constraints:
    number=r"\d+",
    stage="extract|rewrite|disturb",


localrules:
    gather,


rule shard_extract:
    input:
        rules.questions_and_answers.output.train,
    output:
        facts=f"{SLICE}/facts.jsonl",
        account=f"{SLICE}/facts.json",
    params:
        **stage("extract"),
    shell:
        ASK_SHARD


rule shard_score:
    input:
        base,
        adapter("sft"),
        rules.questions_and_answers.output.train,
        rules.shard_extract.output.facts,
    output:
        difficulty=f"{SLICE}/difficulty.jsonl",
        account=f"{SLICE}/difficulty.json",
    params:
        **stage("score"),
    resources:
        **model(),
    shell:
        SCORE


rule shard_rewrite:
    input:
        rules.questions_and_answers.output.train,
        rules.shard_score.output.difficulty,
    output:
        rewritten=f"{SLICE}/rewritten.jsonl",
        account=f"{SLICE}/rewritten.json",
    params:
        **stage("rewrite"),
    shell:
        ASK_SHARD


rule shard_disturb:
    input:
        rules.questions_and_answers.output.train,
        rules.shard_extract.output.facts,
    output:
        pairs=f"{SLICE}/pairs.jsonl",
        account=f"{SLICE}/pairs.json",
    params:
        **stage("disturb"),
    shell:
        ASK_SHARD


rule gather:
    input:
        lambda w: expand(f"{SLICE}/{OUTPUT[w.stage]}.jsonl", number=range(1, SHARDS + 1), **w),
    output:
        touch(f"{RUN}/shards/{{stage}}-of-{SHARDS}.gathered"),
    shell:
        f"{sys.executable} -m knowtuning gather --recipe {{wildcards.recipe}} --seed {{wildcards.seed}} "
        f"--shards {SHARDS}"
