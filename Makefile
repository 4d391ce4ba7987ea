# For users: `make run` serves the default driver, `make test` runs the tests.
# Both make the environment (.venv) first, and make it anew when pyproject.toml has changed. What only
# developers need is added by the first target that needs it.

PYTHON ?= python3
VENV   := .venv
SERVES := $(VENV)/.serves
PACKS  := $(VENV)/.packs
READY  := $(VENV)/.ready
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

.PHONY: help run test test-long records lint docs fuzz soak dist deb release-check clean

help:
	@echo 'make run [ARGS="vfs -v"]         serve a driver (the best one for this machine) to a Docker daemon'
	@echo 'make test [ARGS="tests/layer"]   run the tests'
	@echo 'make test-long [ARGS=...]        run all tests with more repetitions, and those marked long'
	@echo 'make records                     run what the compatibility table is made of, and make it'
	@echo 'make lint                        check style and types'
	@echo 'make docs                        build the documentation site in build/site'
	@echo 'make fuzz [SECONDS=3600]         fuzz the reader of tar headers'
	@echo 'make soak [SECONDS=3600]         real engines while much goes wrong'
	@echo 'make dist                        make the wheel, the sdist and the list of components in dist/'
	@echo 'make deb                         make the Debian package in dist/, for this Debian'
	@echo 'make release-check               check that this commit can be released'
	@echo 'make clean                       remove the environment and all caches'
	@echo 'PYTHON=python3.12 chooses another interpreter for the environment.'

run: $(SERVES)
	$(VENV)/bin/graphdriver serve $(ARGS)

test: $(READY)
	$(VENV)/bin/pytest $(ARGS)

# Other Pythons run what needs no container engine.
NO_ENGINE := $(addprefix tests/,cli docker drivers files layer linux serving \
	test_locks.py test_naive.py test_returned.py)

test-long: $(READY)
	GRAPHDRIVER_LONG=1 $(VENV)/bin/pytest -m "" --timeout 7200 $(ARGS)
	$(if $(ARGS),,GRAPHDRIVER_LONG=1 tests/on_debian sid -m "" --timeout 7200 tests/newer)
	$(if $(ARGS),,GRAPHDRIVER_LONG=1 tests/on_debian trixie -m "" --timeout 7200 tests/e2e/test_migrate.py)
	$(if $(ARGS),,tests/with_python_of trixie $(NO_ENGINE))
	$(if $(ARGS),,tests/with_python_of sid $(NO_ENGINE))

# What docs/compatibility.md tells is made of the records of these runs.
RECORDS  := tests/release/records
RECORDED := --numprocesses 2 --dist loadfile
NEWER    := tests/newer tests/containerd/test_containerd.py

records: $(READY)
	$(VENV)/bin/pytest $(RECORDED) --record=$(RECORDS)/debian-12-docker.json tests/e2e
	$(VENV)/bin/pytest $(RECORDED) --record=$(RECORDS)/debian-12-containerd.json tests/containerd
	tests/on_debian trixie $(RECORDED) --record=$(RECORDS)/debian-13-engines.json $(NEWER) tests/e2e/test_overlay2.py
	tests/on_debian sid $(RECORDED) --record=$(RECORDS)/debian-unstable-engines.json $(NEWER)
	$(VENV)/bin/pytest $(RECORDED) --record=$(RECORDS)/debian-12-python.json $(NO_ENGINE)
	tests/with_python_of trixie $(RECORDED) --record=$(RECORDS)/debian-13-python.json $(NO_ENGINE)
	tests/with_python_of sid $(RECORDED) --record=$(RECORDS)/debian-unstable-python.json $(NO_ENGINE)
	$(VENV)/bin/python -m tests.release.compatibility

lint: $(READY)
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

# A warning, such as one about a link that leads nowhere, is an error. The variable is for an advertisement.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build

# The input that caused a failure is written here, to a file called crash-…, timeout-… or oom-….
fuzz: SECONDS ?= 600
fuzz: $(READY)
	directory=$$(mktemp -d) && trap 'rm -rf "$$directory"' EXIT && \
		$(VENV)/bin/python -m tests.layer.fuzz "$$directory" -max_total_time=$(SECONDS)

soak: SECONDS ?= 600
soak: $(READY)
	GRAPHDRIVER_SOAK_SECONDS=$(SECONDS) $(VENV)/bin/pytest -m "" -s tests/soak/test_engines.py $(ARGS)

dist: $(PACKS)
	release/dist

deb: $(PACKS)
	release/deb

# The tests of tests/release install what `make dist` makes and compare the tables with the records.
release-check: $(READY) lint docs dist
	$(VENV)/bin/python -m tests.release.check
	$(VENV)/bin/pytest -m "" tests/release tests/project

# Debian keeps ensurepip in a package of its own, without which venv fails half-way.
$(SERVES): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'graphdriver needs Python 3.11 or later; choose one with PYTHON=...' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get update && \
			DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3-venv; \
		else \
			echo 'Python has no venv module here. Install it first: apt install python3-venv' >&2; exit 1; \
		fi
	$(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(PACKS): $(SERVES)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --editable '.[dist]'
	touch $@

$(READY): $(SERVES)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist src/*.egg-info
