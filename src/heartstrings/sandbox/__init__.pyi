from ._bubblewrap import open_sandbox as open_sandbox
from .base import Limits as Limits
from .base import Ran as Ran
from .base import Sandbox as Sandbox
from .base import Status as Status

__all__ = ["Limits", "Ran", "Sandbox", "Status", "open_sandbox"]
