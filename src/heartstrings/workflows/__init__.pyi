from .atlas import SELF as SELF
from .atlas import Atlas as Atlas
from .atlas import Atlases as Atlases
from .atlas import AtlasSettings as AtlasSettings
from .atlas import analyse_bundle as analyse_bundle
from .atlas import check_loaded as check_loaded
from .atlas import compare_bundles as compare_bundles
from .atlas import layers_of as layers_of
from .atlas import material as material
from .atlas import name_of as name_of
from .atlas import open_model as open_model
from .atlas import opened as opened
from .atlas import run_atlas as run_atlas
from .atlas import run_atlases as run_atlases
from .atlas import stories_of as stories_of
from .atlas import vectors_of as vectors_of
from .grading import Grading as Grading
from .grading import grade_texts as grade_texts
from .info import ModelFacts as ModelFacts
from .info import describe as describe
from .pool import run_pool as run_pool
from .precision import reader as reader
from .precision import recorded as recorded
from .run import ATLAS as ATLAS
from .run import LEDGER as LEDGER
from .run import ORGANISMS as ORGANISMS
from .run import Run as Run
from .run import Runs as Runs
from .run import estimate as estimate
from .run import evaluate as evaluate
from .run import is_plan as is_plan
from .run import models_of as models_of
from .run import plans_for as plans_for
from .run import plans_of as plans_of
from .run import run_model as run_model
from .run import run_models as run_models
from .run import weigh_again as weigh_again
from .screen import ScreenSettings as ScreenSettings
from .screen import run_screen as run_screen
from .selftest import SelfTest as SelfTest
from .selftest import check_model as check_model
from .side_by_side import SideBySide as SideBySide
from .side_by_side import steered_texts as steered_texts

__all__ = [
    "ATLAS",
    "LEDGER",
    "ORGANISMS",
    "SELF",
    "Atlas",
    "AtlasSettings",
    "Atlases",
    "Grading",
    "ModelFacts",
    "Run",
    "Runs",
    "ScreenSettings",
    "SelfTest",
    "SideBySide",
    "analyse_bundle",
    "check_loaded",
    "check_model",
    "compare_bundles",
    "describe",
    "estimate",
    "evaluate",
    "grade_texts",
    "is_plan",
    "layers_of",
    "material",
    "models_of",
    "name_of",
    "open_model",
    "opened",
    "plans_for",
    "plans_of",
    "reader",
    "recorded",
    "run_atlas",
    "run_atlases",
    "run_model",
    "run_models",
    "run_pool",
    "run_screen",
    "steered_texts",
    "stories_of",
    "vectors_of",
    "weigh_again",
]
