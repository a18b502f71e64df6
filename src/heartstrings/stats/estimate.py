"""A number with its interval, as it is written to files."""

from __future__ import annotations

from heartstrings.core.types import Frozen
from heartstrings.stats.intervals import Interval


class Estimate(Frozen):
    """A value with its 95% interval."""

    value: float | None
    low: float | None
    high: float | None

    def times(self, factor: float) -> Estimate:
        """The same estimate, multiplied by a positive number."""
        ends = (self.value, self.low, self.high)
        value, low, high = (None if end is None else end * factor for end in ends)
        return Estimate(value=value, low=low, high=high)


def estimate(interval: Interval) -> Estimate:
    """As it is written in `verdict.json` and beside judgements."""
    return Estimate(value=interval.value, low=interval.low, high=interval.high)
