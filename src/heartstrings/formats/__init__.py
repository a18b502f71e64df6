"""Vectors from and for other tools: repeng, llama.cpp, steering-vectors, lm-eval, vllm-lens, plain arrays."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
