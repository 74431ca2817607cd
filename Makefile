PYTHON  ?= python3
PROFILE ?= digits
CHAPTER ?= resnet_forking
MINUTES ?= 8
DEVICE  ?= cpu
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export VIRTUAL_ENV := $(CURDIR)/.venv
READY := .venv/.ready

.PHONY: help book pdf test lab paper campaign paper-tables bench faults lock clean
help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

book: $(READY) ## run the chapters that changed and build the site (PROFILE=smoke, digits or paper)
	@python -m lmclib build --profile $(PROFILE)

pdf: $(READY) ## the same as one PDF, _build/book.pdf; needs Chromium
	@python -m lmclib build --profile $(PROFILE) --pdf

test: $(READY) ## every test, as many at once as there are cores
	@python -m pytest -n auto --dist worksteal

lab: $(READY) ## JupyterLab on the chapters
	@# one thread a kernel, as when the book is built, so that a run gives the same bits
	@OMP_NUM_THREADS=1 jupyter lab --ServerApp.root_dir=$(CURDIR) book/preface.ipynb

paper: $(READY) ## a slice of a chapter at paper scale: make paper CHAPTER=resnet_forking, again and again until it is finished
	@python -m lmclib measure $(CHAPTER) --minutes $(MINUTES) || [ $$? = 3 ] # 3: time was up

campaign: $(READY) ## MINUTES of training and measuring on real images, at the lowest priority; again and again until it is finished
	@python -m lmclib measure --all --profile cifar --minutes $(MINUTES) $(if $(DATA),-p data "$(DATA)") || [ $$? = 3 ]

paper-tables: $(READY) ## put the tables of finished paper-scale chapters, with their provenance, into data/results
	@python -m lmclib results pack

bench: $(READY) ## benchmarks: ratios measured in one run on this machine (DEVICE=cpu or cuda); half an hour on four cores
	@for name in training layers energies floors sweeps checkpoints; do python benchmarks/$$name.py --device $(DEVICE) || exit 1; done
	@PYTHONPATH=tests python benchmarks/lab.py --device $(DEVICE)

faults: $(READY) ## kills, damaged files, dead workers and hostile bundles by the hundred, and a table of what came of them
	@OMP_NUM_THREADS=1 PYTHONPATH=tests python tests/faults.py --write

lock: .venv/.uv ## renew requirements.lock from pyproject.toml
	uv pip compile --quiet --universal --python-version 3.11 --all-extras --no-annotate --no-header --no-emit-index-url \
		--no-emit-find-links --upgrade pyproject.toml -o requirements.lock

clean: ## remove what was built; trained networks in data/runs stay
	rm -rf _build reports

.venv/.uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "PYTHON=$(PYTHON): must be Python 3.11 or newer" >&2; exit 1; }
	@$(PYTHON) -m venv .venv
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check uv
	@touch $@

# uv ignores pip's configuration, so that torch and torchvision always match
$(READY): .venv/.uv requirements.lock pyproject.toml
	@# compiled at once, as some machines keep Python from writing bytecode: else every process compiles PyTorch anew
	@uv pip sync --quiet --compile-bytecode requirements.lock
	@uv pip install --quiet --no-deps --editable .
	@touch $@
