"""Runs Python programs that nobody has read: no network, no disk, no home folder, and limits on everything else.

    with_limits = Limits(seconds=5, memory_mb=256)
    ran = open_sandbox().run({"hello.py": "print(6 * 7)"}, ["hello.py"], limits=with_limits)

There is one implementation, on bubblewrap. Where it cannot work, `open_sandbox` refuses: nothing is ever run bare.
"""

from heartstrings.sandbox.base import Limits, Ran, Sandbox, Status
from heartstrings.sandbox.bubblewrap import open_sandbox

__all__ = ["Limits", "Ran", "Sandbox", "Status", "open_sandbox"]
