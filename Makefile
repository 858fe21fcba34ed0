# `make demo` and `make test` are all a newcomer needs; both make their own virtual environment.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test lint format docs proto lock clean

demo: $(VENV)/.demo
	$(BIN)/maskmend demo --output demo-output

# One process per core: threads of PyTorch within each would only wait for one another.
test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

proto: $(VENV)/.dev
	cd service && $(abspath $(BIN))/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. \
		maskmend/service/proto/maskmend.proto

# Hashes of what the image and most of the tests need: all but torch, whose CPU build constraints.txt names, and these extras, which no
# image needs: bench (takes a compiler), docs (not every package comes as a wheel), ray, remote and adapters-test. What export asks for
# is in train.
EXTRAS := cpu onnx evaluate serve grpc triton tracing train dev
lock: $(VENV)/.dev
	$(PIP) pip-tools
	$(BIN)/pip-compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --strip-extras \
		--unsafe-package torch --constraint constraints.txt $(EXTRAS:%=--extra %) \
		--output-file requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) demo-output dist build

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -e '.[cpu,evaluate]'
	touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -e '.[cpu,onnx,evaluate,serve,grpc,triton,ray,remote,tracing,train,docs,dev]'
	touch $@

$(VENV)/.docs: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -e '.[cpu,docs]'
	touch $@
