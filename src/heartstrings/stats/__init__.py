"""Statistics of the verdict: intervals, slopes, nulls, power and confidence sequences (docs/statistics.md).

Plain functions on plain numbers; nothing here knows a model, a plan or a ledger.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
