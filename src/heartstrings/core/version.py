"""The version, which artefacts record."""

__version__ = "0.1.0"
