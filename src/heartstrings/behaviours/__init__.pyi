from ._prompting import prompted as prompted
from .roles import CHOSEN as CHOSEN
from .roles import LANGUAGE_MODEL as LANGUAGE_MODEL
from .suites import SUITES as SUITES
from .suites import every_behaviour as every_behaviour
from .suites import suite as suite
from .suites import suite_of as suite_of

__all__ = ["CHOSEN", "LANGUAGE_MODEL", "SUITES", "every_behaviour", "prompted", "suite", "suite_of"]
