"""Heartstrings: emotion directions in language models, and what pulling on them does.

The names are loaded when first used, so that `import heartstrings` stays light.
"""

import lazy_loader

from heartstrings.core.version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ = ["__version__", *__all__]
