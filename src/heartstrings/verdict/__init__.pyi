from ._hand_graded import agreements as agreements
from ._own import own_encodings as own_encodings
from ._own import read_own as read_own
from .answer import decide as decide
from .pool_results import FILE as FILE
from .stopping import Open as Open
