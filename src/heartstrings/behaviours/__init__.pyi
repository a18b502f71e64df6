from ._prompting import prompted as prompted
from .agents.tool_dialogue import ToolDialogue as ToolDialogue
from .agents.tool_dialogue import World as World
from .choices.four_options import FourOptions as FourOptions
from .roles import CHOSEN as CHOSEN
from .roles import LANGUAGE_MODEL as LANGUAGE_MODEL
from .suites import SUITES as SUITES
from .suites import every_behaviour as every_behaviour
from .suites import suite as suite
from .suites import suite_of as suite_of
from .text.likelihood import InWords as InWords
from .writing.emotion_text import WithEmotion as WithEmotion
from .writing.emotion_text import classify as classify
from .writing.emotion_text import text_emotion as text_emotion

__all__ = [
    "CHOSEN",
    "LANGUAGE_MODEL",
    "SUITES",
    "FourOptions",
    "InWords",
    "ToolDialogue",
    "WithEmotion",
    "World",
    "classify",
    "every_behaviour",
    "prompted",
    "suite",
    "suite_of",
    "text_emotion",
]
