"""Stories and neutral texts: read, generate, filter, split, hash."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
