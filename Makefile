# make ablation: set up, then run the main job.   make test: everything CI runs.
# PYTHON picks the interpreter of the new environment; an activated environment is used as it is.

PYTHON ?= python3
STUDY ?= rpe_count
ifdef VIRTUAL_ENV
  BIN := $(VIRTUAL_ENV)/bin
else
  BIN := .venv/bin
endif
STAMPS := $(BIN)/../.attnlab
# A torch of the user's own (a CUDA build, say) is kept; otherwise the tested versions are installed.
OWN_TORCH := $(if $(VIRTUAL_ENV),$(shell $(BIN)/python -c "import torch" 2>/dev/null && echo yes))
# --no-compile: what is imported is compiled then, and most of these packages never is.
PIP := $(BIN)/python -m pip install --no-compile --quiet --disable-pip-version-check \
  $(if $(OWN_TORCH),,-c constraints.txt)

# One more than there are cores, for some tests wait for a cluster or a browser.
TEST_WORKERS := $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 8 ? n + 1 : 8)))

# Packages of the system and of Python are installed side by side.
MAKEFLAGS += --jobs=2

.PHONY: ablation test packages faults lint clean

ablation: $(STAMPS)/run
	$(BIN)/python run_ablation.py --study $(STUDY)

test: packages lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder

packages:
	scripts/system_packages.sh

# A hundred faults in a study of 42 short trainings: eight minutes on two cores.
faults: $(STAMPS)/test
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults --faults 100 --cells 42

lint: $(STAMPS)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

$(BIN)/python:
	$(PYTHON) -m venv .venv

# lightning-bolts comes without its outdated pins, see src/attnlab/optim/bolts.py.
# The stamps make a second call cheap: pip runs again only when a requirement changed.
$(STAMPS)/run: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e .
	$(PIP) --no-deps lightning-bolts==0.7.0
	mkdir -p $(@D) && touch $@

$(STAMPS)/test: $(STAMPS)/run
	$(PIP) -e .[test]
	mkdir -p $(@D) && touch $@

clean:
	rm -rf .venv runs .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
