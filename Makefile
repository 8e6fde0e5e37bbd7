# `make quickstart` and `make test` each set up everything on a machine that has python3 (3.11+), pip, venv and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
FUZZ_SECONDS ?= 20

# The real S3 server of the tests: what tests/ceph.py starts.
CEPH_PROGRAMS := ceph ceph-mon ceph-osd monmaptool radosgw radosgw-admin
CEPH_PACKAGES := radosgw ceph-mon ceph-osd
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

# Tests that a processor's instruction set can change, and the caps that make this one a processor with AVX2 and no more.
NUMERICAL := $(addprefix tests/,csc space attacks models defenses) \
  $(addprefix --ignore=tests/,csc/test_fused.py models/test_checkpoint.py models/test_registry.py models/test_weights.py)
AVX2 := ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 OPENBLAS_CORETYPE=Haswell \
  STL_RAY_MAX_CPU_ISA=avx2

.PHONY: quickstart test test-faults test-avx2 test-s3 test-slow ceph chromium check format native-test clean

quickstart: $(STAMP)
	$(BIN)/stl-ray quickstart $(ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --no-loadscope-reorder $(ARGS)

test-faults: $(STAMP)
	$(BIN)/python -m pytest -n 2 --no-loadscope-reorder -m "faults and not slow and not gpu" $(ARGS)

test-avx2: $(STAMP)
	env $(AVX2) $(BIN)/python -m pytest -n 2 --no-loadscope-reorder $(NUMERICAL) $(ARGS)

test-s3: $(STAMP) ceph
	$(BIN)/python -m pytest -m s3 $(ARGS)

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow $(ARGS)

# Installs Ceph, unless it is there.
ceph:
	@missing=""; for program in $(CEPH_PROGRAMS); do command -v $$program >/dev/null || missing="$$missing $$program"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if ! command -v apt-get >/dev/null; then \
	  echo "The tests of S3 need$$missing, which this installs only where there is apt-get (Debian, Ubuntu). Install Ceph's monitor, OSD and gateway by hand."; exit 1; \
	fi; \
	$(SUDO) apt-get update -qq; $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(CEPH_PACKAGES)

# Installs the browser in which the tests look at the report, unless it is there.
chromium:
	@if command -v chromium >/dev/null; then exit 0; fi; \
	if ! command -v apt-get >/dev/null; then echo "The tests of the report need chromium, which this installs only where there is apt-get."; exit 1; fi; \
	$(SUDO) apt-get update -qq; $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium

check: $(STAMP)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

# The native core by itself, fuzzed under sanitizers for FUZZ_SECONDS; needs a C++ compiler.
native-test: $(STAMP)
	$(BIN)/cmake -S . -B build/fuzz -G "Unix Makefiles" -DSTL_RAY_FUZZ=ON
	$(BIN)/cmake --build build/fuzz --parallel
	build/fuzz/fuzz $(FUZZ_SECONDS)

$(STAMP): pyproject.toml CMakeLists.txt deploy/install.py $(filter-out native/fuzz.cpp,$(wildcard native/*))
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "python3 is older than 3.11; name another with PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python deploy/install.py dev
	@$(BIN)/python -c 'import stl_ray.csc._native' 2>/dev/null || echo "The native core was not built: projections on the CPU will be slow. docs/installing.md says what it needs."
	@touch $(STAMP)

clean:
	rm -rf $(VENV) build runs
