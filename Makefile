# Two commands do everything on a machine with python3 and a C++ compiler: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# Also for the tools of the build, which pip installs into an environment of its own.
export PIP_CONSTRAINT = $(CURDIR)/constraints.txt
# The CUDA kernels: built when nvcc is there (AUTO), always (ON) or never (OFF), for data-centre cards only, which is
# what development needs; a plain `pip install .` builds them for every card. What nvcc does not know of these is left
# out; of NRC_FAST_CUDA_ARCHS it is an error.
NRC_FAST_CUDA ?= AUTO
NRC_FAST_CUDA_DEFAULT_ARCHS ?= 80;90a
NRC_FAST_CUDA_ARCHS ?=
# The fibers of the emulated device are contexts of POSIX, which macOS no longer offers.
NRC_FAST_CUDA_EMULATION ?= $(if $(filter Darwin,$(shell uname)),OFF,ON)
# CI takes warnings of the compiler for errors.
NRC_FAST_WERROR ?= OFF
CUDA_SETTINGS = --config-settings=cmake.define.NRC_FAST_CUDA='$(NRC_FAST_CUDA)' \
                --config-settings=cmake.define.NRC_FAST_CUDA_DEFAULT_ARCHS='$(NRC_FAST_CUDA_DEFAULT_ARCHS)' \
                --config-settings=cmake.define.NRC_FAST_CUDA_ARCHS='$(NRC_FAST_CUDA_ARCHS)' \
                --config-settings=cmake.define.NRC_FAST_CUDA_EMULATION='$(NRC_FAST_CUDA_EMULATION)' \
                --config-settings=cmake.define.NRC_FAST_BFLOAT16_EMULATION=ON \
                --config-settings=cmake.define.NRC_FAST_WERROR='$(NRC_FAST_WERROR)' \
                --config-settings=install.strip=false # the emulated device names lines
# Each environment has a build of its own, which knows what it has compiled.
BUILD_FOLDER = --config-settings=build-dir=$(VENV)/build
# --no-build-isolation where the tools of the build are installed already, as workflows have them from a lock.
PIP_OPTIONS ?=
SOURCES = pyproject.toml CMakeLists.txt constraints.txt README.md bench/data/reacher.npz \
          $(shell find cmake csrc nrc_fast -type f ! -name '*.pyc' ! -name '*.so')

.PHONY: demo reproduce test test-long test-all test-endurance docs lint bench bench-report wheels clean

# What a development has installed serves the demonstration too; alone it needs neither CUDA nor the tests' packages.
demo: $(or $(wildcard $(VENV)/installed),$(VENV)/installed-demo)
	$(BIN)/nrc-fast demo

# What is left of the papers' trainings (all: half an hour on two free cores, an estimate), then every figure and table of
# docs/papers.md.
reproduce: $(or $(wildcard $(VENV)/installed),$(VENV)/installed-demo)
	$(BIN)/python bench/reproduce/run.py
	$(BIN)/python bench/reproduce/figures.py

# As many processes as there are cores. PYTEST="-k gram" chooses.
test: $(VENV)/installed
	$(BIN)/pytest --numprocesses auto --dist worksteal -m "not long and not endurance" $(PYTEST)

# What takes minutes: another compiler, the ends of the CUDA architectures, wide grids on the emulated device.
test-long: $(VENV)/installed
	$(BIN)/pytest --numprocesses auto --dist worksteal -m "long and not endurance" $(PYTEST)

test-all: test test-long

# What takes up to hours: thousands of damaged files, runs killed at fifty moments, ten thousand updates, the core built
# with each sanitizer under the tests of the kernels, and every CUDA architecture. Not part of CI.
test-endurance: $(VENV)/installed
	$(BIN)/pytest --numprocesses auto --dist worksteal -m endurance $(PYTEST)

# The site, into build/site: a warning is an error, and nothing comes from the network but the packages.
docs: $(VENV)/installed-docs
	$(BIN)/sphinx-build --builder html --fail-on-warning --keep-going --fresh-env --quiet docs build/site

lint: $(VENV)/installed
	$(BIN)/pip install --quiet ruff clang-format clang-tidy mypy codespell validate-pyproject check-jsonschema zizmor pybind11
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $$(git ls-files 'csrc/*.h' 'csrc/*.cpp' 'csrc/*.cu' 'csrc/*.cuh' 'tests/*.cpp' 'bench/*.c')
	# The build's own compiler may know warnings that clang does not, and its pybind11 was in an environment that is gone.
	$(BIN)/clang-tidy --quiet --extra-arg=-Wno-unknown-warning-option \
	  --extra-arg=-isystem"$$($(BIN)/python -c 'import pybind11; print(pybind11.get_include())')" \
	  -p $(VENV)/build $$(git ls-files 'csrc/cpu/*.cpp' | grep -v /neon) # which this build may not know how to compile
	$(BIN)/mypy
	$(BIN)/codespell $$(git ls-files)
	$(BIN)/validate-pyproject pyproject.toml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff
	$(BIN)/zizmor --offline --quiet --strict-collection .github

# All rivals, README's table, the page of all rows and the roofline, on a machine that does nothing else.
# BENCH="--suite full" measures every shape.
BENCH ?= --suite short
bench: $(VENV)/rivals
	$(BIN)/python bench/run.py --routine all $(BENCH) --refcheck --out bench/results/cpu.json
	$(MAKE) bench-report

# The same files from results that are there.
bench-report: $(VENV)/rivals
	$(BIN)/python bench/report.py --readme README.md --summary bench/results/summary.md --page bench/results/cpu.md \
	  --plot bench/results/roofline.png
	$(BIN)/python bench/report.py bench/results/cpu_wide.json --page bench/results/cpu_wide.md
	$(BIN)/python bench/report.py bench/results/cpu_reports.json --page bench/results/cpu_reports.md

# The wheels that this machine can build, tried in empty environments: WHEELS="native aarch64" builds for Arm as well,
# and macos-compile compiles and links for macOS.
WHEELS ?= native
wheels:
	PYTHON=$(PYTHON) bash packaging/wheels.sh dist $(WHEELS)

$(VENV)/installed: $(SOURCES)
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install $(PIP_OPTIONS) $(BUILD_FOLDER) $(CUDA_SETTINGS) '.[demo,test]'
	touch $@

$(VENV)/installed-demo: $(SOURCES)
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	# Compiling all of torch's modules takes longer than installing it; the few that are imported are compiled on the way.
	$(BIN)/pip install --no-compile --config-settings=cmake.define.NRC_FAST_CUDA=OFF '.[demo]'
	touch $@

$(VENV)/installed-docs: $(VENV)/installed
	$(BIN)/pip install --quiet sphinx furo myst-nb numpydoc sphinx-copybutton latex2mathml
	touch $@

$(VENV)/rivals: $(VENV)/installed bench/requirements.txt
	$(BIN)/pip install -r bench/requirements.txt
	touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
