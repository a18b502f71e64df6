"""Runs Python programs that a model wrote: no network, no disk, no home folder, and limits on everything else.

    ran = open_sandbox().run({"hello.py": "print(6 * 7)"}, ["hello.py"], limits=Limits(seconds=5))

There is one implementation, on bubblewrap. Where it does not work, `open_sandbox` raises InputError and runs nothing.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
