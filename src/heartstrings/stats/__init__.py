"""Statistics of the verdict: intervals, slopes, nulls, power and confidence sequences (docs/statistics.md).

Plain functions on plain numbers; nothing here knows a model, a plan or a ledger.
"""

from __future__ import annotations

from heartstrings.stats.betting import bounded_change, upper_bound
from heartstrings.stats.importance import (
    Discoveries,
    Drawn,
    Opposite,
    draw,
    family_strata,
    hierarchical_fdr,
    strata,
    weighted_max_t,
    weighted_p,
)
from heartstrings.stats.intervals import (
    Interval,
    average,
    clopper_pearson,
    difference,
    mean_interval,
    newcombe_paired,
    paired_change,
    wilson,
)
from heartstrings.stats.nulls import holm, holm_groups, least_controls, max_t, p_value, sign_flip
from heartstrings.stats.power import (
    Power,
    binary_spread,
    detectable,
    more_scenarios,
    needed,
    power_of,
    sampled_spread,
    summarise,
)
from heartstrings.stats.ppi import Bounds, Corrected, bounds, ppi_change, ppi_contrast, ppi_mean
from heartstrings.stats.sequential import confidence_bounds, confidence_sequence
from heartstrings.stats.slopes import effect, logistic_slope, logistic_slope_value, logistic_slopes, slopes_by_group

__all__ = [
    "Bounds",
    "Corrected",
    "Discoveries",
    "Drawn",
    "Interval",
    "Opposite",
    "Power",
    "average",
    "binary_spread",
    "bounded_change",
    "bounds",
    "clopper_pearson",
    "confidence_bounds",
    "confidence_sequence",
    "detectable",
    "difference",
    "draw",
    "effect",
    "family_strata",
    "hierarchical_fdr",
    "holm",
    "holm_groups",
    "least_controls",
    "logistic_slope",
    "logistic_slope_value",
    "logistic_slopes",
    "max_t",
    "mean_interval",
    "more_scenarios",
    "needed",
    "newcombe_paired",
    "p_value",
    "paired_change",
    "power_of",
    "ppi_change",
    "ppi_contrast",
    "ppi_mean",
    "sampled_spread",
    "sign_flip",
    "slopes_by_group",
    "strata",
    "summarise",
    "upper_bound",
    "weighted_max_t",
    "weighted_p",
    "wilson",
]
