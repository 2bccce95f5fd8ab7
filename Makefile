# Verbs of the project; `make` lists them. All of them make .venv from the lock when there is none.
PYTHON ?= python3
CORES ?= 2
SEEDS ?= 0
ARMS ?= sft,ka,knowtuning
ROWS ?= 200
VENV := .venv
RUN := $(VENV)/bin/python -m knowtuning

.DEFAULT_GOAL := help
.PHONY: help lab dolly test lint jupyter notebooks clean

help: ## list the verbs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F'\t' '{printf "  make %-12s %s\n", $$1, $$2}'

$(VENV)/installed: pyproject.toml constraints.txt
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (some minutes the first time)"
	@PYTHONWARNINGS=ignore $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,test]'
	@touch $@

lab: $(VENV)/installed ## the whole method in the lab: notebooks 00 to 09, then the table (SEEDS, ARMS, CORES)
	@$(RUN) walk --profile lab --seeds $(SEEDS) --arms $(ARMS) --cores $(CORES)

dolly: $(VENV)/installed ## every stage on real text without a key: make dolly DATA=file.json ROWS=200
	@test -n "$(DATA)" || { echo "make dolly needs DATA=path of an alpaca or JSONL file"; exit 2; }
	@$(RUN) walk --profile dolly-offline --data $(DATA) --rows $(ROWS) --cores $(CORES)

test: $(VENV)/installed ## unit tests, the notebooks' contract, and all notebooks at profile smoke
	$(VENV)/bin/python -m pytest

lint: $(VENV)/installed ## style of the code
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .

jupyter: $(VENV)/installed ## open the notebooks in JupyterLab
	cd notebooks && ../$(VENV)/bin/jupyter lab

notebooks: lab ## put the lab's outputs into the committed notebooks and figures
	$(RUN) publish

clean: ## remove runs/ (the lab's base takes minutes to train again)
	rm -rf runs
