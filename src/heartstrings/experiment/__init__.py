"""The experiment: a plan, its cells and controls, and the ledger of samples."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
