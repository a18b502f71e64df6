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
from .formats import export_vectors as export_vectors
from .formats import import_vectors as import_vectors
from .geometry import analyse as analyse
from .geometry import compare as compare
from .vectors.emotion_vectors import EmotionVectors as EmotionVectors
from .vectors.extraction import extract as extract
from .vectors.steer import steer as steer

__all__ = [
    "EmotionVectors",
    "HeartstringsError",
    "Intervention",
    "Pooling",
    "Steering",
    "__version__",
    "analyse",
    "built_in_ratings",
    "clean",
    "compare",
    "export_vectors",
    "extract",
    "import_vectors",
    "load",
    "organisms",
    "read_neutral",
    "read_ratings",
    "read_stories",
    "steer",
]
