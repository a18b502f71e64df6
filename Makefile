.PHONY: demo test quick lint types setup clean

RUN = .venv/bin/python -m
# Two workers with a thread each beat one with two: most tests are too small to share.
PYTEST = OMP_NUM_THREADS=1 $(RUN) pytest -n 2 --dist worksteal

demo:  ## the four bundled organisms, from stories to verdict and report
	@scripts/setup.sh
	.venv/bin/heartstrings run --settings quick --out demo

test:  ## every test, the slow ones too
	@scripts/setup.sh dev
	$(PYTEST)

quick:  ## the tests to run while working: under three minutes on two cores
	@scripts/setup.sh dev
	$(PYTEST) -m "not slow"

lint:
	@scripts/setup.sh dev
	$(RUN) ruff check .
	$(RUN) ruff format --check .

types:
	@scripts/setup.sh dev
	$(RUN) mypy

clean:
	rm -rf demo dist build .pytest_cache .mypy_cache .ruff_cache
