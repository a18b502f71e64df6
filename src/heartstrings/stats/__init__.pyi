from .betting import bounded_change as bounded_change
from .betting import upper_bound as upper_bound
from .importance import Discoveries as Discoveries
from .importance import Drawn as Drawn
from .importance import Opposite as Opposite
from .importance import draw as draw
from .importance import family_strata as family_strata
from .importance import hierarchical_fdr as hierarchical_fdr
from .importance import strata as strata
from .importance import weighted_max_t as weighted_max_t
from .importance import weighted_p as weighted_p
from .intervals import Interval as Interval
from .intervals import average as average
from .intervals import clopper_pearson as clopper_pearson
from .intervals import difference as difference
from .intervals import mean_interval as mean_interval
from .intervals import newcombe_paired as newcombe_paired
from .intervals import paired_change as paired_change
from .intervals import wilson as wilson
from .nulls import LEAST_CONTROLS as LEAST_CONTROLS
from .nulls import holm as holm
from .nulls import holm_groups as holm_groups
from .nulls import least_controls as least_controls
from .nulls import max_t as max_t
from .nulls import p_value as p_value
from .nulls import sign_flip as sign_flip
from .power import Power as Power
from .power import binary_spread as binary_spread
from .power import detectable as detectable
from .power import more_scenarios as more_scenarios
from .power import needed as needed
from .power import power_of as power_of
from .power import sampled_spread as sampled_spread
from .power import summarise as summarise
from .ppi import Bounds as Bounds
from .ppi import Corrected as Corrected
from .ppi import bounds as bounds
from .ppi import ppi_change as ppi_change
from .ppi import ppi_contrast as ppi_contrast
from .ppi import ppi_mean as ppi_mean
from .sequential import confidence_bounds as confidence_bounds
from .sequential import confidence_sequence as confidence_sequence
from .slopes import effect as effect
from .slopes import logistic_slope as logistic_slope
from .slopes import logistic_slope_value as logistic_slope_value
from .slopes import logistic_slopes as logistic_slopes
from .slopes import slopes_by_group as slopes_by_group

__all__ = [
    "LEAST_CONTROLS",
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
