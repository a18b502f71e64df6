from .activations import WORK as WORK
from .bundle import main_bundle as main_bundle
from .bundle import read_header as read_header
from .emotion_vectors import EmotionVectors as EmotionVectors
from .extraction import extract as extract
from .story_rounds import used_stories as used_stories

__all__ = ["WORK", "EmotionVectors", "extract", "main_bundle", "read_header", "used_stories"]
