# make demo     one photo becomes demo_out/avatar.glb
# make check    before each commit: lint, format, types, unit tests (no ComfyUI, no browser); a few minutes on two cores
# make test     everything: `make check`, slow tests, a real ComfyUI server, a real browser
# make tools    a head's files in assimp, Blender, Godot, three.js and others, and what each says
# make archive  what the registry's archive would hold
#
# PIP_ARGS reaches every pip call, e.g. PIP_ARGS="--index-url ..." for a mirror or a CPU-only torch.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: demo check test lint types unit soak tools archive install install-test host workflows previews clean

PIP_ARGS ?=
PYTHON ?= $(shell for p in python3.12 python3.11 python3.13 python3; do \
	"$$p" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' >/dev/null 2>&1 && command -v "$$p" && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP = $(BIN)/python -m pip install -q --disable-pip-version-check $(PIP_ARGS) -c constraints/dev.txt

demo: $(VENV)/.installed
	$(BIN)/python -m fitdiff_core samples/eileen_collins.jpg --out demo_out

check: lint types unit

test: $(VENV)/.installed-test host lint types
	$(UNIT) -m "not comfy and not browser"
	$(BIN)/python -m pytest -m "comfy or browser"

# the unit tier; two processes of one thread each, each file in one of them
UNIT = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile
WORKERS ?= 2
unit: $(VENV)/.installed-test
	$(UNIT) -m "not slow and not comfy and not browser"

# 100 prompts in a row with an interrupt in every tenth, however long they take; prints the server's memory
soak: host
	FITDIFF_SOAK=1 $(BIN)/python -m pytest tests/comfy/test_reliability.py -k "in_a_row" -s

# a head's files in the programs they are meant for; prints a table of what each said
tools: host
	@$(BIN)/python -m tests.host.install_tools
	$(BIN)/python -m tests.host.tools

lint: $(VENV)/.installed-test
	$(BIN)/python -m ruff check -q .
	$(BIN)/python -m ruff format -q --check .

# The checker wants a folder whose name is a Python name, because nodes import the core relatively; a clone may have any.
types: $(VENV)/.installed-test
	@mkdir -p .mypy_cache && ln -sfn ../ .mypy_cache/fitdiff_pack
	cd .mypy_cache && $(abspath $(BIN))/python -m mypy --config-file ../pyproject.toml --cache-dir .

archive: $(VENV)/.installed-test
	@$(BIN)/python -m tests.support.archive

install: $(VENV)/.installed
install-test: $(VENV)/.installed-test

# ComfyUI, Chromium and Khronos' glTF validator, for the tests only
host: $(VENV)/.installed-test
	@$(BIN)/python tests/host/install.py

# the shipped UI workflows from their headless twins; their pictures, and one of each node
workflows: host
	$(BIN)/python -m tests.host.layout
previews: host
	$(BIN)/python -m tests.host.previews
	$(BIN)/python -m tests.host.node_pictures

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer (with venv) is needed: install it, or say make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -m venv $(VENV)

# a stamp is written last, so a broken install is taken up again
$(VENV)/.installed: pyproject.toml constraints/dev.txt | $(BIN)/python
	@echo "installing into $(VENV) ..."
	@$(PIP) -e .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed constraints/test.txt
	@echo "installing the test tools ..."
	@$(PIP) -e '.[test]' -r constraints/test.txt
	@touch $@

clean:
	rm -rf $(VENV) .comfy-host demo_out tests/output
