from .hf._gguf_copy import made_copy as made_copy
from .hf._gradient import gradient as gradient
from .hf.checkpoint_folder import describe as describe
from .hf.checkpoint_folder import of_text as of_text
from .hf.loading import load as load
from .hf.named import gguf_file as gguf_file
from .hf.named import local_folder as local_folder
from .hf.precision import fast_dtype as fast_dtype
from .hf.precision import gains_from_bfloat16 as gains_from_bfloat16
from .hf.precision import in_bfloat16 as in_bfloat16

__all__ = [
    "describe",
    "fast_dtype",
    "gains_from_bfloat16",
    "gguf_file",
    "gradient",
    "in_bfloat16",
    "load",
    "local_folder",
    "made_copy",
    "of_text",
]
