from .atlas import SELF as SELF
from .atlas import AtlasSettings as AtlasSettings
from .atlas import analyse_bundle as analyse_bundle
from .atlas import chosen_ratings as chosen_ratings
from .atlas import compare_bundles as compare_bundles
from .atlas import material as material
from .atlas import open_model as open_model
from .atlas import run_atlas as run_atlas
from .atlas import run_atlases as run_atlases
from .pool import run_pool as run_pool
from .run import LEDGER as LEDGER
from .run import estimate as estimate
from .run import evaluate as evaluate
from .run import plans_for as plans_for
from .run import run_model as run_model
from .run import run_models as run_models
from .run import weigh_again as weigh_again
from .side_by_side import steered_texts as steered_texts

__all__ = [
    "LEDGER",
    "SELF",
    "AtlasSettings",
    "analyse_bundle",
    "chosen_ratings",
    "compare_bundles",
    "estimate",
    "evaluate",
    "material",
    "open_model",
    "plans_for",
    "run_atlas",
    "run_atlases",
    "run_model",
    "run_models",
    "run_pool",
    "steered_texts",
    "weigh_again",
]
