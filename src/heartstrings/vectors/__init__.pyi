from .activations import WORK as WORK
from .bundle import main_bundle as main_bundle
from .bundle import read_header as read_header
from .emotion_vectors import EmotionVectors as EmotionVectors
from .extraction import extract as extract
from .rounding import Sample as Sample
from .rounding import compared as compared
from .rounding import draw as draw
from .rounding import sampled_contrasts as sampled_contrasts
from .story_rounds import used_stories as used_stories

__all__ = [
    "WORK",
    "EmotionVectors",
    "Sample",
    "compared",
    "draw",
    "extract",
    "main_bundle",
    "read_header",
    "sampled_contrasts",
    "used_stories",
]
