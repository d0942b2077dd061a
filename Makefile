# poolwise: every target works as the first command after a clone. `make help` lists them.
#
#   PYTHON=python3.12   another interpreter (with VENV=, BUILD= of its own)
#   JOBS=1              test processes at once
#   TESTS=tests/pools   a part of the tests
#   DEV='pytest numpy'  what the tests need, where the whole set has no wheels

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
BUILD ?= build/dev
JOBS ?= 2
TESTS ?= tests
DEV ?= --group dev
CORE_TESTS := $(wildcard tests/core) tests/pools tests/profile
DEMO := .venv-demo
ASAN := .venv-asan

PYTEST := -m pytest -n $(JOBS) --dist loadfile
# What builds the core: cmake and ninja of the system, or else from the package index.
TOOLS := scikit-build-core $(if $(shell command -v cmake 2>/dev/null),,cmake) \
	$(if $(shell command -v ninja 2>/dev/null),,ninja)
SOURCES := pyproject.toml CMakeLists.txt $(wildcard src/poolwise/_core/* src/poolwise/*.c)
MODULES := $(shell find src -name '*.py' -o -name '*.pyi' -o -name py.typed -o -path '*/report/parts/*')
C_FILES := $(wildcard src/poolwise/*.c src/poolwise/_core/*.[ch] tests/core/*.[ch] benchmarks/*.c)

# $(call install,VENV,PACKAGES): by uv, ten times faster, or by pip where uv cannot be had.
define install
	if [ -x $(1)/bin/uv ]; then $(1)/bin/uv pip install -q --python $(1)/bin/python $(2); \
	else $(1)/bin/python -m pip install -q $(2); fi
endef

# $(call own,VENV,OPTIONS): build poolwise itself. By pip: uv would take an old build of a
# changed C file out of its cache.
define own
	$(1)/bin/python -m pip install -q --no-build-isolation --no-deps $(2)
endef

.PHONY: help
help: ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | \
		while IFS=: read -r name rest; do printf '  make %-10s %s\n' "$$name" "$${rest##*## }"; done

# ---- environments -------------------------------------------------------------------------

.PHONY: checked
checked:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "make: $(PYTHON) is $$($(PYTHON) -V 2>&1), poolwise needs 3.11 or newer:" \
		"make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -c 'import os, sys, sysconfig; \
		sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' || { \
		echo "make: $(PYTHON) has no Python.h to build the C core with:" \
		"on Debian, apt-get install python3-dev" >&2; exit 1; }

%/.made:
	@$(MAKE) checked
	@echo "== $*: a virtual environment"
	@rm -rf $*
	@$(PYTHON) -m venv $* || { \
		echo "make: $(PYTHON) -m venv failed: on Debian, apt-get install python3-venv" >&2; exit 1; }
	@$*/bin/python -m pip install -q --disable-pip-version-check --upgrade 'pip>=25.1'
	@$*/bin/python -m pip install -q uv || true
	@$(call install,$*,$(TOOLS) rich)
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml
	@echo "== $(VENV): what the tests and checks need"
	@$(call install,$(VENV),$(DEV))
	@touch $@

# The tests of the report's page want playwright and a Chromium. Where these cannot be had they are
# skipped, in a line that says so.
$(VENV)/.browser: $(VENV)/.made pyproject.toml
	@echo "== $(VENV): a browser for the tests of the report's page"
	@$(call install,$(VENV),--group browser) && .ci/browser || \
		echo "make: the tests of the report's page in a browser will be skipped" >&2
	@touch $@

$(VENV)/.built: $(VENV)/.made $(SOURCES) $(MODULES)
	@echo "== $(VENV): the C core, in $(BUILD)"
	@$(call own,$(VENV),-C editable.rebuild=false -C build-dir=$(BUILD) -e .)
	@touch $@

$(VENV)/.docs: $(VENV)/.made pyproject.toml
	@echo "== $(VENV): what the documentation needs"
	@$(call install,$(VENV),--group docs)
	@touch $@

$(DEMO)/.built: $(DEMO)/.made $(SOURCES) $(MODULES)
	@echo "== $(DEMO): poolwise, installed as a user would"
	@$(call install,$(DEMO),'numpy>=2.0')
	@$(call own,$(DEMO),-C build-dir=build/demo .)
	@touch $@

$(DEMO)/.bench: $(DEMO)/.built examples/requirements.txt
	@echo "== $(DEMO): the example programs' packages, and the peers"
	@$(call install,$(DEMO),--group bench 'matplotlib>=3.9' -r examples/requirements.txt)
	@$(call install,$(DEMO),object-pool pondpond) || \
		echo "make: not all peers of benchmarks/loads.py installed: they are left out" >&2
	@touch $@

$(ASAN)/.built: $(ASAN)/.made $(SOURCES) $(MODULES)
	@echo "== $(ASAN): the C core with AddressSanitizer and UndefinedBehaviorSanitizer"
	@$(call install,$(ASAN),--group dev)
	@$(call own,$(ASAN),-C build-dir=build/asan -C cmake.build-type=Debug \
		-C cmake.define.SANITIZE=ON .)
	@touch $@

# ---- what people type ---------------------------------------------------------------------

SPECTRA := examples/spectra/spectra.py --megabytes 80
HANDBOOK := examples/handbook/handbook.py --docstrings 2500

# $(call show,COMMAND): print it as a user would type it, and run it.
define show
	@echo; echo '$$ $(1)'
	@$(DEMO)/bin/$(1)
endef

.PHONY: demo
demo: $(DEMO)/.built ## two real programs: their verdicts, then predicted beside measured gain
	@mkdir -p out
	$(call show,poolwise advise --json out/spectra.json $(SPECTRA) > out/spectra.txt)
	$(call show,poolwise try --with settings --predicted out/spectra.json --pairs 4 $(SPECTRA))
	$(call show,poolwise advise --json out/handbook.json --patch out/handbook.patch $(HANDBOOK) > out/handbook.txt)
	$(call show,poolwise try --against out/handbook.patch --predicted out/handbook.json --pairs 5 $(HANDBOOK))

.PHONY: build
build: $(VENV)/.built ## the package into .venv, editable; Python changes need no new build

.PHONY: test
test: $(VENV)/.dev $(if $(filter --group,$(DEV)),$(VENV)/.browser) $(VENV)/.built ## all tests
	$(VENV)/bin/python $(PYTEST) $(TESTS)

.PHONY: bench
bench: $(DEMO)/.bench ## every table that the documentation quotes, into out/: an hour or more
	@mkdir -p out
	$(DEMO)/bin/poolwise bench paradox --json out/paradox.json --plot out/paradox.svg | tee out/paradox.txt
	for bench in sizes paths trims sharing; do \
		$(DEMO)/bin/poolwise bench $$bench --json out/$$bench.json --plot out/$$bench.svg | tee out/$$bench.txt; \
	done
	$(DEMO)/bin/python benchmarks/pairs.py --json out/pairs.json | tee out/pairs.txt
	$(DEMO)/bin/python benchmarks/loads.py --json out/loads.json | tee out/loads.txt
	$(DEMO)/bin/python benchmarks/overhead.py --json out/overhead.json | tee out/overhead.txt
	$(DEMO)/bin/python benchmarks/predictions.py --json out/predictions.json | tee out/predictions.txt

.PHONY: lint
lint: $(VENV)/.dev $(VENV)/.built ## style, spelling, types, stubs, C format, C checks
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy --strict
	$(VENV)/bin/python -m mypy.stubtest poolwise._core poolwise._sharing \
		--allowlist tests/stubtest-allowlist.txt --ignore-unused-allowlist
	$(VENV)/bin/codespell src tests docs examples benchmarks README.md CHANGELOG.md Makefile
	$(VENV)/bin/clang-format --dry-run -Werror $(C_FILES)
	@if command -v cppcheck > /dev/null; then \
		echo cppcheck src/poolwise/_core; \
		cppcheck --quiet --std=c11 --error-exitcode=1 --enable=warning,portability \
			--inline-suppr --suppress=missingReturn src/poolwise/_core; \
	else echo "lint: cppcheck is not here and was left out: apt-get install cppcheck"; fi

# What exercises the C core under the sanitizers, once with malloc below every object and once with
# CPython's own allocator, which the sampler also wraps. Not here: what measures (the calibration
# wants glibc's malloc, which the sanitizer replaces) and what is Python alone. tests/leaks.awk
# tells our leaks from the interpreter's. libstdc++ comes first too, or an extension that throws
# (matplotlib's) stops the process; SIGSEGV stays what it is for the tests of programs that die of it.
SANITIZED = LD_PRELOAD="$$(gcc -print-file-name=libasan.so) libstdc++.so.6" LSAN_OPTIONS=exitcode=0 \
	ASAN_OPTIONS=handle_segv=0:allocator_may_return_null=1:log_path=$(CURDIR)/build/asan/logs/log

.PHONY: sanitize
sanitize: $(ASAN)/.built ## the tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@rm -rf build/asan/logs; mkdir -p build/asan/logs
	$(SANITIZED) PYTHONMALLOC=malloc $(ASAN)/bin/python $(PYTEST) $(CORE_TESTS)
	$(SANITIZED) $(ASAN)/bin/python $(PYTEST) $(CORE_TESTS)
	@cat build/asan/logs/log.* 2>/dev/null | awk -f tests/leaks.awk

.PHONY: test-all
test-all: ## all tests on each of Python 3.11, 3.12 and 3.13 that is here
	@for version in 3.11 3.12 3.13; do \
		python=; \
		for candidate in python$$version "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/$$version.*/bin/python; do \
			if "$$candidate" -c '' 2> /dev/null; then python="$$candidate"; fi; \
		done; \
		if [ -z "$$python" ]; then echo "== Python $$version is not here: left out"; continue; fi; \
		echo "== Python $$version: $$python"; \
		$(MAKE) test PYTHON="$$python" VENV=.venv-$$version BUILD=build/$$version; \
	done

# Of the core, the pools and the sampler, and what only 3.14 and newer can do: attach. Left out: the
# sampler refuses to run without the GIL, and with it all that stands on it. What has no wheel for such
# a Python is not compiled, but taken older or left out.
test-ft test-sid: TESTS = tests/core tests/pools tests/test_free_threaded.py tests/profile/test_running.py
test-sid: TESTS += $(foreach name,attach children coexistence domains kill objects programs recording \
	truth,tests/profile/test_$(name).py)
test-ft test-sid: DEV = --only-binary=:all: pytest pytest-timeout pytest-xdist hypothesis numpy
test-sid: DEV += greenlet

.PHONY: test-ft
test-ft: ## the tests of the core and the pools on a free-threaded Python
	@python="$$(.ci/ft-python)" || { status=$$?; [ $$status = 75 ] && exit 0; exit $$status; }; \
	version="$$("$$python" -c 'import sys; print("%d.%dt" % sys.version_info[:2])')"; \
	echo "== Python $$version: $$python; left out: all that samples, which needs the GIL"; \
	$(MAKE) test PYTHON="$$python" VENV=.venv-$$version BUILD=build/$$version TESTS="$(TESTS)" \
		DEV="$(DEV)"

.PHONY: ft-python
ft-python: ## a free-threaded Python: found, or built from Debian's source into the user's cache
	@.ci/ft-python

.PHONY: test-sid
test-sid: ## the tests of the core, the pools, the sampler and attach on 3.14 and 3.15, in a Debian sid tree (root)
	@.ci/sid JOBS=$(JOBS) TESTS="$(TESTS)" DEV="$(DEV)" || [ $$? = 75 ]

.PHONY: stress
stress: $(VENV)/.built ## 10^8 operations of threads on one pool, with GIL and without: half an hour
	$(VENV)/bin/python tests/threads/stress.py --operations 100000000
	if [ -x .venv-3.13t/bin/python ]; then \
		.venv-3.13t/bin/python tests/threads/stress.py --operations 100000000; fi

.PHONY: docs
docs: $(VENV)/.docs $(VENV)/.built ## the documentation, into docs/_build/html
	$(VENV)/bin/sphinx-build -q -W -E -b html docs docs/_build/html
	@echo docs/_build/html/index.html

.PHONY: lowest
lowest: ## all tests with the oldest versions of the dependencies that are allowed
	@$(MAKE) .venv-lowest/.made
	@.venv-lowest/bin/uv pip install -q --python .venv-lowest/bin/python \
		--resolution lowest-direct --only-binary=:all: --group dev rich==14.0.0 numpy==2.0.0
	@touch .venv-lowest/.dev
	@$(MAKE) test VENV=.venv-lowest BUILD=build/lowest

.PHONY: clean
clean: ## remove everything that was made here
	rm -rf build dist out docs/_build .venv .venv-* .hypothesis .mypy_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
