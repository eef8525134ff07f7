# One target per check; .ci/run calls the same ones. `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

BIN := .venv/bin
READY := .venv/.ready
# Two a core: half of what tests do is waiting for processes and servers that they started.
WORKERS ?= $(shell echo $$((2 * $$(nproc))))
PYTEST := $(BIN)/pytest
DEMO := .demo
SCHEDULES ?= 100000
# Tests start hundreds of programs: each would compile ours anew where the environment asks for no bytecode.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-10s %s\n", $$1, $$2}'

$(READY): requirements.lock requirements-setup.lock pyproject.toml scripts/setup.sh
	scripts/setup.sh
	@touch $@

.PHONY: setup
setup: $(READY) ## create .venv from the lock files

.PHONY: demo
demo: $(READY) ## generate a small data set, train TSP on it with 2 ranks, fetch the best checkpoint
	@BIN=$(BIN) scripts/demo.sh $(DEMO)

# Side by side: on a clean checkout mypy alone takes half a minute of one core, and tests leave a core idle at times.
.PHONY: test
test: $(READY) ## lint, types, import contracts, chart policy, and every test that needs no cluster
	@$(MAKE) --no-print-directory --jobs 5 lint types imports policy pytest

# Tests that call make are not to join the jobs of this one.
.PHONY: pytest
pytest: lint helm kubeconform browser $(READY) .venv/.collected
	env -u MAKEFLAGS -u MFLAGS $(PYTEST) -n $(WORKERS) --dist worksteal -m "not e2e"

# On a clean checkout each of pytest's workers would compile every test, at the same time as the others.
.venv/.collected: | $(READY)
	@$(PYTEST) --collect-only -qq >$@.log || { cat $@.log; exit 1; }
	@mv $@.log $@

.PHONY: quick
quick: lint types ## lint, types, and the fast tests of the packages touched since main
	@tests=$$($(BIN)/python scripts/touched_tests.py); \
	if [ -z "$$tests" ]; then echo "no package touched since main"; \
	else echo "pytest $$tests"; $(PYTEST) -q -x -n $(WORKERS) --dist worksteal -m "not e2e and not slow and not thorough" $$tests; fi

.PHONY: reference
reference: $(READY) ## regenerate docs/reference from the code
	$(BIN)/python -m scripts.reference

# Apart from .venv: only this target needs it, and none of its dependencies are ours.
MUTATION := .mutation/cosmic-ray-8.7.0
$(MUTATION): | $(READY)
	$(BIN)/uv pip install --quiet --target $@ cosmic-ray==8.7.0

.PHONY: mutants
mutants: $(MUTATION) ## make small changes to the core and check that tests detect them (an hour; ARGS="--number 20 tsp/store")
	PYTHONPATH=$(MUTATION) OMP_NUM_THREADS=1 nice $(BIN)/python -m scripts.mutants $(ARGS)

.PHONY: fuzz
fuzz: $(READY) ## read thousands of damaged files with every reader, and hundreds of random kinds beside ffmpeg
	FUZZ_INPUTS=$${FUZZ_INPUTS:-2600} $(PYTEST) tests/fuzz -s
	RANDOM_KINDS=$${RANDOM_KINDS:-500} $(PYTEST) -q -n $$(nproc) tests/data/video/test_random_kinds.py

.PHONY: lint
lint: $(READY) ## ruff, shellcheck, hadolint, actionlint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	git ls-files '*.sh' .ci/run | xargs $(BIN)/shellcheck
	git ls-files '*Dockerfile' | xargs -r $(BIN)/hadolint
	@if actionlint=$$(scripts/go_tool.sh actionlint); then PATH="$$PWD/$(BIN):$$PATH" "$$actionlint"; \
	else echo "the workflows were not checked"; fi

.PHONY: types
types: $(READY) ## mypy, strict
	$(BIN)/mypy

.PHONY: imports
imports: $(READY) ## check the import contracts
	$(BIN)/lint-imports

.PHONY: helm helm4
helm:
	-@scripts/go_tool.sh helm >/dev/null

helm4: ## build Helm 4, with which the chart's tests compare Helm 3 where it is there (CI; two minutes)
	scripts/go_tool.sh helm4 >/dev/null

.PHONY: kubeconform
kubeconform: $(READY)
	-@scripts/go_tool.sh kubeconform >/dev/null && $(BIN)/python -m scripts.chart_schemas >/dev/null

.PHONY: browser
browser:
	-@scripts/chromium.sh >/dev/null

.PHONY: chart
chart: $(READY) helm kubeconform ## run the chart's tests
	$(PYTEST) tests/chart

# Apart from .venv: its pins of boto3 and others are not ours.
CHECKOV := .checkov/3.3.30
$(CHECKOV): | $(READY)
	$(BIN)/uv pip install --quiet --target $@ checkov==$(notdir $@)

.PHONY: policy
policy: $(READY) $(CHECKOV) helm ## run checkov on everything that the chart can render
	PYTHONPATH=$(CHECKOV) $(BIN)/python -m scripts.chart_policy

# Apart from .venv, as checkov: only this target needs it.
TWINE := .twine/7.0.0
$(TWINE): | $(READY)
	$(BIN)/uv pip install --quiet --target $@ twine==$(notdir $@)

.PHONY: wheel
wheel: $(READY) $(TWINE) ## build wheel and source distribution into dist/ and check them for PyPI
	rm -f dist/*.whl dist/*.tar.gz && $(BIN)/uv build --quiet --no-build-isolation --python $(BIN)/python --out-dir dist
	PYTHONPATH=$(TWINE) $(BIN)/python -m twine check --strict dist/*

.PHONY: try-wheel
try-wheel: ## build the wheel, install it as users do, and run it; PYTHON_VERSION=3.14, TRAIN=1: also a short training
	TRAIN=$(TRAIN) scripts/try_wheel.sh $(PYTHON_VERSION)

.PHONY: oldest
oldest: $(READY) ## run the tests with the oldest versions that the wheel allows; ARGS=tests/store
	scripts/oldest.sh $(ARGS)

.PHONY: package
package: helm ## package the chart into dist/
	mkdir -p dist && "$$(scripts/go_tool.sh helm)" package charts/tsp --destination dist

.PHONY: image
image: ## build the image with docker or buildah; FLAVOUR=cpu|cu126|cu130, NAME=..., COMPILER=1
	image/build.sh $(if $(COMPILER),--compile) --flavour $(or $(FLAVOUR),cu130) $(NAME)

.PHONY: image-test
image-test: ## run the image's own tests inside it; IMAGE=..., COMPILER=1
	docker run --rm --read-only --tmpfs /tmp:exec $(if $(COMPILER),--env EXPECT_COMPILER=1) \
	  --volume "$$PWD/image/tests:/tests:ro" --entrypoint python "$(IMAGE)" /tests/test_inside.py

# Apart from .venv: the kubernetes client would load its grammars, which take seconds.
CYCLONEDX := .cyclonedx/7.5.0
$(CYCLONEDX): | $(READY)
	$(BIN)/uv pip install --quiet --target $@ cyclonedx-bom==$(notdir $@)

.PHONY: sbom
sbom: $(READY) $(CYCLONEDX) ## write the image's CycloneDX SBOM to dist/
	mkdir -p dist && PYTHONPATH=$(CYCLONEDX) $(BIN)/python -m cyclonedx_py requirements image/requirements.lock --output-format JSON -o dist/image.cdx.json

.PHONY: version-check
version-check: ## check that TAG=v1.2.3 is the version of this checkout
	@version="$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)"; \
	[ "$(TAG)" = "v$$version" ] || { echo "the tag is $(TAG), but pyproject.toml says $$version" >&2; exit 1; }

.PHONY: publish-chart
publish-chart: package ## push the chart to REGISTRY=ghcr.io/OWNER and sign it
	scripts/publish_chart.sh "$(REGISTRY)"

.PHONY: publish-image
publish-image: ## build an image and push it to REGISTRY=ghcr.io/OWNER; FLAVOUR=..., COMPILER=1
	scripts/publish_image.sh "$(REGISTRY)" --flavour $(or $(FLAVOUR),cu130) $(if $(COMPILER),--compile)

.PHONY: github-release
github-release: sbom ## create the GitHub release of TAG with the files in dist/
	gh release create "$(TAG)" dist/* --title "$(TAG)" --notes-file <(scripts/release_notes.sh)

.PHONY: docs
docs: $(READY) ## build the documentation into site/; broken links fail
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

.PHONY: pictures
pictures: $(READY) browser ## generate docs/pictures from the demo's run
	$(BIN)/python -m scripts.pictures

.PHONY: e2e
e2e: $(READY) ## the tests on a real cluster: the current KUBECONFIG's, else one brought up here
	$(PYTEST) tests/e2e -m "e2e and not e2e_all"

.PHONY: e2e-all
e2e-all: $(READY) ## all of them: also those that build or make more for themselves
	$(PYTEST) tests/e2e -m e2e

.PHONY: kind-cluster
kind-cluster: ## prepare the current kind cluster for the tests: operator and image
	tests/e2e/kind.sh

.PHONY: simulate
simulate: $(READY) ## simulate 100,000 schedules of runs that die on a failing store (SCHEDULES=5000 in CI)
	$(BIN)/python -m tests.simulation.many --schedules $(SCHEDULES) --workers $$(nproc)

.PHONY: bench
bench: $(READY) ## run the decode, step and accuracy benchmarks, each with its baseline
	$(BIN)/python -m benchmarks.bench_decode
	$(BIN)/python -m benchmarks.bench_extract
	$(BIN)/python -m benchmarks.bench_step
	$(BIN)/python -m benchmarks.bench_quality
	$(BIN)/python -m benchmarks.bench_store

.PHONY: lock
lock: $(READY) ## update the lock files
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	  --no-annotate --all-extras --upgrade pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	  --no-annotate requirements-setup.in -o requirements-setup.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	  --no-annotate --extra train -c requirements.lock pyproject.toml -o image/requirements.lock

.PHONY: clean
clean: ## remove the environment, the demo and caches
	rm -rf .venv .mutation .checkov .twine .cyclonedx dist site $(DEMO) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
