# Verbs of the project; `make` lists them. All of them make .venv from the lock when there is none.
PYTHON ?= python3
CORES ?= 2
SEEDS ?= 0
ARMS ?= sft,ka,knowtuning
ROWS ?= 200
RECIPE ?= lab
SEED ?= 0
VENV := .venv
FACTORY := .venv-llamafactory
PEER := .venv-peer
KUBERNETES := .venv-kubernetes
RUN := $(VENV)/bin/python -m knowtuning
STUDY := $(VENV)/bin/python -m study

.DEFAULT_GOAL := help
.PHONY: help lab dolly errors results solutions test lint jupyter book book-test notebooks bench model-bench teacher-bench faults growth interchange slurm-test kubernetes-test clean

help: ## list the verbs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F'\t' '{ \
	  line = sprintf("  make %-15s", $$1); words = split($$2, word, " "); \
	  for (i = 1; i <= words; i++) { \
	    if (length(line " " word[i]) > 79) { print line; line = sprintf("%22s", "") } \
	    line = line " " word[i] } \
	  print line }'

$(VENV)/installed: pyproject.toml constraints.txt
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (some minutes the first time)"
	@PYTHONWARNINGS=ignore $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,test]'
	@touch $@

lab: $(VENV)/installed ## the whole method in the lab: notebooks 00 to 09, then the table (SEEDS, ARMS, CORES)
	@$(RUN) walk --recipe lab --seeds $(SEEDS) --arms $(ARMS) --cores $(CORES)

dolly: $(VENV)/installed ## every stage on real text without a key: make dolly DATA=file.json ROWS=200
	@test -n "$(DATA)" || { echo "make dolly needs DATA=path of an alpaca or JSONL file"; exit 2; }
	@$(RUN) walk --recipe dolly-offline --data $(DATA) --rows $(ROWS) --cores $(CORES)

errors: lab ## walks with a teacher that errs in 10 and 30 % of the facts, and the appendix A1 about them
	@for recipe in lab-errors-10 lab-errors-30; do \
	  $(RUN) walk --recipe $$recipe --seeds $(SEEDS) --arms $(ARMS) --cores $(CORES) || exit 1; done
	@$(RUN) execute A1_teacher_errors runs/lab/seed-0/notebooks/A1_teacher_errors.ipynb

results: lab ## all arms on all seeds and bases: the tables and figures of the paper (hours; goes on where it was)
	@$(STUDY) results --cores $(CORES)
	@for notebook in 10_baselines 11_results 12_human_evaluation; do \
	  $(RUN) execute $$notebook runs/lab/seed-0/notebooks/$$notebook.ipynb || exit 1; done

solutions: lab ## the solutions of the exercises, over the lab's run
	@for notebook in notebooks/solutions/*.ipynb; do name=$$(basename $$notebook .ipynb); \
	  $(RUN) execute solutions/$$name runs/lab/seed-0/solutions/$$name.ipynb || exit 1; done

test: $(VENV)/installed ## unit tests, the notebooks' contract, and all notebooks at recipe smoke
	$(VENV)/bin/python -m pytest

lint: $(VENV)/installed ## style of the code
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .

jupyter: $(VENV)/installed ## open the notebooks in JupyterLab
	cd notebooks && ../$(VENV)/bin/jupyter lab

book: $(VENV)/installed ## the book: a site in build/book, from the committed notebooks, to be read without a network
	@rm -rf build/book
	@$(VENV)/bin/sphinx-build -c docs -b html -W --keep-going -n -q . build/book
	@echo "Open build/book/index.html"

book-test: book ## open every page of the book in headless Chromium: links, pictures, widths, keyboard, contrast
	@$(VENV)/bin/python docs/book_test.py

bench: $(VENV)/installed $(FACTORY)/installed $(PEER)/installed lab ## all comparisons with the peers on the CPU, and their table (half an hour)
	@$(VENV)/bin/python benchmarks/bench.py

model-bench: $(VENV)/installed ## seconds and losses on any causal LM beside TRL: make model-bench MODEL=folder DATA=file
	@test -n "$(MODEL)" -a -n "$(DATA)" || { echo "make model-bench needs MODEL=folder DATA=file"; exit 2; }
	@$(VENV)/bin/python benchmarks/training/steps.py $(MODEL) $(DATA)

teacher-bench: $(VENV)/installed $(PEER)/installed ## throughput, CPU and memory of the teacher's client beside a peer
	@$(VENV)/bin/python benchmarks/teacher/throughput.py

faults: $(VENV)/installed ## a failing endpoint, a run killed 50 times: is anything lost or paid twice?
	@$(VENV)/bin/python benchmarks/teacher/faults.py

growth: $(VENV)/installed ## a million rows through the stages as shards do them: time and memory (a quarter of an hour, 15 GB)
	@$(VENV)/bin/python benchmarks/growth/run.py

interchange: $(VENV)/installed $(FACTORY)/installed ## LLaMA-Factory trains on a run's files as they are (RECIPE, SEED)
	@$(VENV)/bin/python benchmarks/interchange/run.py --recipe $(RECIPE) --seed $(SEED)

slurm-test: $(VENV)/installed ## the walk on a real two-node Slurm, started here, whose node dies (root; installs Slurm)
	@$(VENV)/bin/python cluster/slurm_test.py

kubernetes-test: $(VENV)/installed $(KUBERNETES)/installed ## manifests against Kubernetes' schema, the walk against a stand-in
	@PYTHONPATH=$(KUBERNETES) $(VENV)/bin/python cluster/kubernetes_test.py

# a folder beside the environment, in which the plugin would slow down every start of Snakemake
$(KUBERNETES)/installed: cluster/kubernetes/constraints.txt constraints.txt
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade --target $(KUBERNETES) \
	  -c constraints.txt -c $< snakemake-executor-plugin-kubernetes kubernetes-validate
	@touch $@

$(FACTORY)/installed: benchmarks/interchange/constraints.txt
	@test -d $(FACTORY) || $(PYTHON) -m venv $(FACTORY)
	@echo "Installing LLaMA-Factory into $(FACTORY) (some minutes and 6 GB the first time)"
	@$(FACTORY)/bin/python -m pip install --quiet --disable-pip-version-check -c $< \
	  llamafactory torch torchaudio torchvision
	@touch $@

$(PEER)/installed: benchmarks/teacher/constraints.txt
	@test -d $(PEER) || $(PYTHON) -m venv $(PEER)
	@$(PEER)/bin/python -m pip install --quiet --disable-pip-version-check -c $< bespokelabs-curator
	@touch $@

notebooks: errors solutions ## put the lab's outputs into the committed notebooks and figures
	$(RUN) execute A2_explorer runs/lab/seed-0/notebooks/A2_explorer.ipynb
	$(STUDY) publish

clean: ## remove runs/ (the lab's base takes minutes to train again)
	rm -rf runs
