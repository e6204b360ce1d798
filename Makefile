# The names that people and CI call. uv makes the environment and builds the extension.
.PHONY: setup build lint test test-environments bench bench-check bench-baseline docs torture wheel

setup:
	uv sync

build: setup

lint: setup
	cargo fmt --check
	python3 rust/check_imports.py
	cargo clippy --release --workspace --all-targets -- -D warnings
	uv run ruff format --check
	uv run ruff check
	uv run lint-imports
	uv run pyright
	uv run python -m mypy.stubtest catprune._core

test: setup
	cargo test --release --workspace
	uv run pytest --numprocesses auto --dist loadfile

# Kills, full disks, damage: every step, for 45 minutes.
torture: setup
	PYTHONPATH=tests uv run python -m torture --minutes 45

# COMET and LASER, in environments of their own: several gigabytes, and minutes, the first time.
test-environments: setup
	CATPRUNE_TEST_ENVIRONMENTS=1 uv run pytest tests/scoring/test_scorers_libraries.py tests/checkpoints/test_fairseq.py

bench: setup
	cargo bench --package catprune-core

# Instructions of every pass under valgrind, against benches/instructions.json.
bench-check:
	python3 benches/instructions.py check

bench-baseline:
	python3 benches/instructions.py baseline

# The site, into site/. Broken links, broken anchors and pages without a nav entry fail.
docs:
	NO_MKDOCS_2_WARNING=1 uv run --only-group docs mkdocs build --strict

# The wheel of this machine, from the source distribution, checked and used without a compiler or extras.
wheel:
	rm -rf dist
	uvx maturin sdist --out dist
	uv build --wheel dist/*.tar.gz --out-dir dist
	uvx twine check --strict dist/*
	uvx abi3audit --strict dist/*.whl
	uv run --no-project python tests/try_wheel.py dist
