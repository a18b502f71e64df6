from ._splits import halves as halves
from ._splits import topic_folds as topic_folds
from ._splits import unsplit as unsplit
from ._story_facts import StoryFacts as StoryFacts
from ._story_facts import facts as facts
from ._writers import EngineWriter as EngineWriter
from ._writers import Writer as Writer
from .endpoint import EndpointWriter as EndpointWriter
from .filters import clean as clean
from .generate import StoryPlan as StoryPlan
from .generate import generate_neutral as generate_neutral
from .generate import generate_stories as generate_stories
from .lexicon import built_in_ratings as built_in_ratings
from .lexicon import emotions as emotions
from .readers import read_neutral as read_neutral
from .readers import read_stories as read_stories
from .readers import write_stories as write_stories
from .shipped import calibration_texts as calibration_texts
from .shipped import shipped_neutral as shipped_neutral
from .shipped import shipped_stories as shipped_stories
from .shipped import topics as topics
from .stories import Corpus as Corpus
from .stories import Dropped as Dropped
from .stories import NeutralTexts as NeutralTexts
from .stories import Story as Story

__all__ = [
    "Corpus",
    "Dropped",
    "EndpointWriter",
    "EngineWriter",
    "NeutralTexts",
    "Story",
    "StoryFacts",
    "StoryPlan",
    "Writer",
    "built_in_ratings",
    "calibration_texts",
    "clean",
    "emotions",
    "facts",
    "generate_neutral",
    "generate_stories",
    "halves",
    "read_neutral",
    "read_stories",
    "shipped_neutral",
    "shipped_stories",
    "topic_folds",
    "topics",
    "unsplit",
    "write_stories",
]
