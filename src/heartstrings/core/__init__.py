"""What every room builds on: types, errors, storage, steering values, the protocol of an engine."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
