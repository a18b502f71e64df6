"""The browser that reports are looked at with."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from report_browser import Browser, find_chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = find_chromium()
    if executable is None:
        if os.environ.get("CI") == "true":
            pytest.fail("Chromium is not installed, and CI needs it (Debian: apt-get install chromium)")
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    with Browser(executable, timeout=20) as opened:
        yield opened
