"""Geometry: where valence and arousal lie among emotion vectors (docs/geometry.md)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
