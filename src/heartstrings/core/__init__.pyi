from .errors import ModelError as ModelError
from .types import ModelInfo as ModelInfo
from .types import Pooling as Pooling

__all__ = ["ModelError", "ModelInfo", "Pooling"]
