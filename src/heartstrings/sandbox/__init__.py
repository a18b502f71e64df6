"""Runs Python programs that nobody has read: no network, no disk, no home folder, and limits on everything else.

    with_limits = Limits(seconds=5, memory_mb=256)
    ran = open_sandbox().run({"hello.py": "print(6 * 7)"}, ["hello.py"], limits=with_limits)

There is one implementation, on bubblewrap. Where it cannot work, `open_sandbox` refuses: nothing is ever run bare.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
