"""Judges: models that score free text, blind, cached, on a budget, and only after they have been calibrated."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
