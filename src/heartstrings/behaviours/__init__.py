"""Behaviours: what is asked of a model, how, and how the answer is graded. One behaviour a file."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
