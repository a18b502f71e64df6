"""Write tests/over_a_second.txt: the tests that `make quick` leaves out because they take over a second.

    make test PYTEST_ADDOPTS="--durations=0 --durations-min=0.02" | tee durations.log
    python scripts/over_a_second.py durations.log

A file is listed as a whole where setting up a shared fixture takes over a second: without the first of its tests, the
next one would wait for the fixture.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

LIMIT = 1.0
"""Seconds."""
LISTED = Path(__file__).parents[1] / "tests" / "over_a_second.txt"


def over(log: str, limit: float = LIMIT) -> list[str]:
    """Files and test functions over the limit, from what pytest prints about durations."""
    setup: Counter[str] = Counter()
    call: Counter[str] = Counter()
    for seconds, phase, test in re.findall(r"^([\d.]+)s (setup|call|teardown)\s+(\S+::.*?)\s*$", log, re.MULTILINE):
        (setup if phase == "setup" else call)[test] += float(seconds)
    files = {test.partition("::")[0] for test, seconds in setup.items() if seconds > limit}
    tests = {test.partition("[")[0] for test, seconds in call.items() if seconds > limit}
    return sorted(files) + sorted(test for test in tests if test.partition("::")[0] not in files)


if __name__ == "__main__":
    LISTED.write_text("\n".join(over(Path(sys.argv[1]).read_text(encoding="utf-8"))) + "\n", encoding="utf-8")
