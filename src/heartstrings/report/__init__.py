"""Reports: one self-contained HTML file from an atlas or a verdict, or from several side by side."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
