from .answer import decide as decide
from .hand_graded import agreements as agreements
from .own import own_encodings as own_encodings
from .own import read_own as read_own
from .pool_results import FILE as FILE
