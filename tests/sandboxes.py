"""Whether this machine can run the sandbox."""

from __future__ import annotations

import os
import shutil

import pytest

from heartstrings.core.errors import InputError
from heartstrings.sandbox import Sandbox, open_sandbox


def needed() -> Sandbox:
    """The sandbox; else the test is skipped, or in CI fails for want of a package.

    A machine that allows no namespaces (a container without rights) is no fault of a checkout: skipped, with the
    reason that a user would see.
    """
    if shutil.which("bwrap") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("bubblewrap is not installed, and CI needs it (Debian: apt-get install bubblewrap)")
        pytest.skip("bubblewrap is not installed (Debian: apt-get install bubblewrap)")
    try:
        return open_sandbox()
    except InputError as error:
        pytest.skip(f"this machine runs no sandbox: {error}")
