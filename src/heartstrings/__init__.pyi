from . import organisms as organisms
from .core.errors import HeartstringsError as HeartstringsError
from .core.steering import Intervention as Intervention
from .core.steering import Steering as Steering
from .core.types import Pooling as Pooling
from .core.version import __version__ as __version__
from .corpus import clean as clean
from .corpus import read_neutral as read_neutral
from .corpus import read_stories as read_stories
from .corpus.lexicon import built_in_ratings as built_in_ratings
from .corpus.lexicon import read_ratings as read_ratings
from .engines.hf.loading import load as load
from .experiment.plan import Plan as Plan
from .integrations.commands import logs as logs
from .vectors.emotion_vectors import EmotionVectors as EmotionVectors
from .vectors.steer import make_steering as make_steering
from .verdict.results import Verdict as Verdict
from .workflows.commands import analyse as analyse
from .workflows.commands import atlas as atlas
from .workflows.commands import compare as compare
from .workflows.commands import decide as decide
from .workflows.commands import evaluate as evaluate
from .workflows.commands import export_vectors as export_vectors
from .workflows.commands import extract as extract
from .workflows.commands import generate_stories as generate_stories
from .workflows.commands import grade as grade
from .workflows.commands import import_vectors as import_vectors
from .workflows.commands import info as info
from .workflows.commands import plan as plan
from .workflows.commands import pool as pool
from .workflows.commands import run as run
from .workflows.commands import screen as screen
from .workflows.commands import selftest as selftest
from .workflows.commands import steer as steer
from .workflows.commands import stories as stories

__all__ = [
    "EmotionVectors",
    "HeartstringsError",
    "Intervention",
    "Plan",
    "Pooling",
    "Steering",
    "Verdict",
    "__version__",
    "analyse",
    "atlas",
    "built_in_ratings",
    "clean",
    "compare",
    "decide",
    "evaluate",
    "export_vectors",
    "extract",
    "generate_stories",
    "grade",
    "import_vectors",
    "info",
    "load",
    "logs",
    "make_steering",
    "organisms",
    "plan",
    "pool",
    "read_neutral",
    "read_ratings",
    "read_stories",
    "run",
    "screen",
    "selftest",
    "steer",
    "stories",
]
