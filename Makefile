# One command for each thing to do. They need git, make and Python >= 3.11, and bring everything else themselves.
#   PYTHON=/path/to/python   the interpreter to make the virtual environment with
#   VENV=directory           where that is
#   ARGS="..."               more arguments for pytest

VENV ?= .venv
IN_VENV = $(VENV)/bin/python

# What talks to this machine only is never to ask a proxy for it.
LOOPBACK = 127.0.0.1,localhost,::1
export NO_PROXY := $(or $(NO_PROXY),$(no_proxy),localhost),$(LOOPBACK)
export no_proxy := $(NO_PROXY)

.PHONY: help run demo test faults fences soak bench bench-quick bench-scale bench-sockets lint clean environment

help:
	@echo "make run    the whole site on this machine: page, worker, Valkey, database (PORT= HOST= REDIS_URL= DATABASE_URL= VAR_DIR=)"
	@echo "make demo   the same without a browser, in a minute: deliveries fail, are retried, a worker is killed, nothing is lost"
	@echo "make test   all tests (ARGS=\"-k name\" for some of them)"
	@echo "make faults what is broken on purpose, item by item: takes a while and writes the table of docs/guarantees.md (ARGS=)"
	@echo "make fences breaks each fence once, in a copy, and demands that a test notices (some minutes)"
	@echo "make soak   a random mix of that, and what it did to memory and connections (SOAK_MINUTES=30)"
	@echo "make bench  this beside 15 other queues, in environments of their own: 25 minutes on a quiet machine (ARGS=--quick)"
	@echo "make bench-quick  whether a job costs more commands, round trips or processor time than committed (ARGS=--write)"
	@echo "make bench-scale  what a job costs as things grow: an hour on a quiet machine (ARGS='--rounds 1': a quarter of one)"
	@echo "make bench-sockets  sockets and fan-out beside bare consumers, in daphne and uvicorn: some minutes (ARGS=--write)"
	@echo "make lint   style and types"
	@echo "make clean  remove what these commands made, but not the site's data in var/"

# The supervisor goes when make goes, even by SIGKILL (15 is SIGTERM: in good order).
run: environment
	@exec $(IN_VENV) project/development/tether.py $$PPID 15 $(IN_VENV) -m project.development.run

demo: environment
	@exec $(IN_VENV) -m project.development.demo

test: environment
	@exec sh project/development/test.sh $(IN_VENV) $(ARGS)

faults: environment
	@sh project/development/browser.sh
	@WRITE_GUARANTEES=1 $(IN_VENV) -m tests.faults $(ARGS)

fences: environment
	@exec $(IN_VENV) -m tests.faults.fences $(ARGS)

soak: environment
	@exec $(IN_VENV) -m tests.faults.soak

bench: environment
	@exec $(IN_VENV) -m benchmarks $(ARGS)

bench-quick: environment
	@exec $(IN_VENV) -m benchmarks.quick $(ARGS)

bench-scale: environment
	@exec $(IN_VENV) -m benchmarks.scale $(ARGS)

bench-sockets: environment
	@exec $(IN_VENV) -W ignore -m benchmarks.sockets $(ARGS)

lint: environment
	$(IN_VENV) -m ruff check .
	$(IN_VENV) -m ruff format --check .
	$(IN_VENV) -m mypy

environment:
	@sh project/development/environment.sh "$(VENV)"

clean:
	rm -rf .venv .venv-* build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './var/*' -prune -exec rm -rf {} +
