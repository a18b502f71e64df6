"""Engines: what runs a model. Each does four things: pool, read, score and generate."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
