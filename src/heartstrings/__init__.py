"""Heartstrings: emotion directions in language models, and what pulling on them does.

The names below are loaded when first used, so that `import heartstrings` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "load": "heartstrings.engines.loading",
    "extract": "heartstrings.extraction",
    "EmotionVectors": "heartstrings.vectors",
    "Pooling": "heartstrings.types",
    "read_stories": "heartstrings.corpus",
    "read_neutral": "heartstrings.corpus",
    "clean": "heartstrings.corpus",
    "read_ratings": "heartstrings.lexicon",
    "built_in_ratings": "heartstrings.lexicon",
    "analyse": "heartstrings.geometry",
    "compare": "heartstrings.geometry",
    "import_vectors": "heartstrings.interop",
    "export_vectors": "heartstrings.interop",
    "steer": "heartstrings.steering",
    "Steering": "heartstrings.steering",
    "Intervention": "heartstrings.steering",
    "HeartstringsError": "heartstrings.errors",
}
_MODULES = ("organisms",)
"""Submodules that are there without an import of their own."""

__all__ = ["__version__", *_HOMES, *_MODULES]

if TYPE_CHECKING:
    from heartstrings import organisms as organisms
    from heartstrings.corpus import clean as clean
    from heartstrings.corpus import read_neutral as read_neutral
    from heartstrings.corpus import read_stories as read_stories
    from heartstrings.engines.loading import load as load
    from heartstrings.errors import HeartstringsError as HeartstringsError
    from heartstrings.extraction import extract as extract
    from heartstrings.geometry import analyse as analyse
    from heartstrings.geometry import compare as compare
    from heartstrings.interop import export_vectors as export_vectors
    from heartstrings.interop import import_vectors as import_vectors
    from heartstrings.lexicon import built_in_ratings as built_in_ratings
    from heartstrings.lexicon import read_ratings as read_ratings
    from heartstrings.steering import Intervention as Intervention
    from heartstrings.steering import Steering as Steering
    from heartstrings.steering import steer as steer
    from heartstrings.types import Pooling as Pooling
    from heartstrings.vectors import EmotionVectors as EmotionVectors


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return import_module(f"heartstrings.{name}")
    raise AttributeError(f"module 'heartstrings' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
