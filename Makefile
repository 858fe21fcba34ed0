# `make demo` and `make test` are all a newcomer needs; both make their own virtual environment.

PYTHON ?= python3
VENV ?= .venv
DIST ?= dist
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-all lint format docs proto lock audit sbom dist clean coverage mutation

demo: $(VENV)/.demo
	$(BIN)/maskmend demo --output demo-output

# One process per core: threads of PyTorch within each would only wait for one another.
test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

# With those that take a quarter of a minute and more each.
test-all: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile -m ''

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

# Known vulnerabilities of what the lock names; skipped, with the reason, where no advisory service can be asked: STRICT=1
# fails then.
audit: $(VENV)/.dev
	$(BIN)/python .ci/audit.py $(if $(STRICT),--strict)

# What the lock names, as CycloneDX. The same lock gives the same file.
sbom: $(VENV)/.dev
	mkdir -p $(DIST)
	$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --mc-type library --output-reproducible --spec-version 1.6 \
		--output-format JSON --output-file $(DIST)/sbom.json requirements.lock

# A wheel made of a source archive made of this checkout.
dist: $(VENV)/.dev
	$(BIN)/python -m build --no-isolation --outdir $(DIST) .

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

# Kernels as plain Python for the patcher, which numba would hide; servers are processes of their own, and are measured too.
# A test that fails is the business of `make test`: the lines are counted all the same.
COVERAGE := OMP_NUM_THREADS=1 $(BIN)/python -m coverage
coverage: $(VENV)/.dev
	rm -rf build/coverage && mkdir -p build/coverage
	-NUMBA_DISABLE_JIT=1 COVERAGE_FILE=build/coverage/patcher $(COVERAGE) run -m pytest -q tests/patcher
	-COVERAGE_FILE=build/coverage/service $(COVERAGE) run -m pytest -q tests/service
	for part in patcher service; do export COVERAGE_FILE=build/coverage/$$part; $(COVERAGE) combine -q && \
		$(COVERAGE) report --include="*/maskmend/$$part/*" --fail-under=90 || exit 1; done

mutation: $(VENV)/.mutation
	$(VENV)/mutation/bin/python benchmarks/mutation.py --jobs 2

# In an environment of its own, which sees that of the tests: what Cosmic Ray brings along is needed by nothing else.
$(VENV)/.mutation: $(VENV)/.dev
	$(PYTHON) -m venv $(VENV)/mutation
	echo $(abspath $(VENV))/lib/python3.*/site-packages > $(VENV)/mutation/tests.pth
	mv $(VENV)/mutation/tests.pth $(VENV)/mutation/lib/python3.*/site-packages/
	$(VENV)/mutation/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt 'cosmic-ray>=8.4,<9'
	touch $@
