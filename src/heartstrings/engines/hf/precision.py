"""bfloat16 on hardware that is fast at it: whether there is any, and a model's weights rounded in place and back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from heartstrings.engines.hf.engine import TorchEngine

SMALL = 20_000_000
"""Numbers in the blocks of a model that is too small to gain: its matrices are so narrow that other operations, which
are no faster in bfloat16, take most of the time."""
_UNITS = ("avx512_bf16", "amx_bf16")


def has_fast_bfloat16(device: str) -> bool:
    """Whether a device multiplies matrices of bfloat16 in hardware: an NVIDIA GPU from compute capability 8.0 on, or an
    x86 processor with AVX512_BF16 or AMX. Elsewhere bfloat16 is converted, and slower than float32."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.get_device_capability(torch.device(device)) >= (8, 0)
    return kind == "cpu" and any(_processor().get(unit) for unit in _UNITS)


def fast_dtype(device: str | None = None) -> str:
    """What `dtype="fast"` means on a device: bfloat16 where it is multiplied in hardware, else `auto`.

    Args:
        device: as for `load`; None: the one that it takes.
    """
    if device in (None, "auto"):
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return "bfloat16" if has_fast_bfloat16(str(device)) else "auto"
    except (RuntimeError, AssertionError):  # no such device here: loading says so
        return "auto"


def _processor() -> dict[str, Any]:
    ask = getattr(torch.cpu, "get_capabilities", None)
    return {} if ask is None else dict(ask())


def gains_from_bfloat16(engine: object) -> bool:
    """Whether a model is faster in bfloat16 than as it is: a model of transformers, with all weights in float32 and not
    quantised, on one device that is fast at bfloat16, with room for a second copy of the weights in bfloat16, and not
    `SMALL`."""
    if not isinstance(engine, TorchEngine):
        return False
    model = engine.model
    weights = [parameter for parameter in model.parameters() if parameter.is_floating_point()]
    devices = {str(parameter.device) for parameter in model.parameters()}
    return (
        all(weight.dtype == torch.float32 for weight in weights)
        and getattr(model.config, "quantization_config", None) is None
        and not getattr(model, "_keep_in_fp32_modules_strict", None)
        and len(devices) == 1
        and has_fast_bfloat16(engine.info.device)
        and sum(parameter.numel() for block in engine.parts.blocks for parameter in block.parameters()) >= SMALL
        and _has_room(engine.info.device, sum(2 * weight.numel() for weight in weights))
    )


def _has_room(device: str, n_bytes: int) -> bool:
    """Whether so much memory is free. True where the system does not tell."""
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(torch.device(device))[0] > n_bytes
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            facts = dict(line.split(":", 1) for line in file)
        return int(facts["MemAvailable"].split()[0]) * 1024 > n_bytes
    except (OSError, KeyError, ValueError):
        return True


@contextlib.contextmanager
def in_bfloat16(engine: TorchEngine) -> Iterator[TorchEngine]:
    """The same model with its weights rounded to bfloat16, as `load(..., dtype="bfloat16")` would load them.

    They are rounded in place, and the float32 tensors are put back at the end, also after an exception. So inside the
    `with` the given engine must not be used, and a second copy of the weights, half as large, is in memory.
    """
    model, config = engine.model, engine.model.config
    before = [(holder, name, tensor.data) for holder, name, tensor in _stored(model)]
    dtype = config.dtype
    try:
        for holder, name, tensor in before:
            getattr(holder, name).data = tensor.to(torch.bfloat16)
        config.dtype = torch.bfloat16
        info = engine.info.model_copy(update={"dtype": "bfloat16"})
        yield TorchEngine(model, engine.tokenizer, engine.parts, info)
    finally:
        for holder, name, tensor in before:
            getattr(holder, name).data = tensor
        config.dtype = dtype


def _stored(model: nn.Module) -> Iterator[tuple[nn.Module, str, torch.Tensor]]:
    """Parameters and buffers of a checkpoint, tied ones once. Other buffers, such as the frequencies of rotary
    embeddings, are computed in float32 and stay so."""
    seen: set[int] = set()
    for holder in model.modules():
        buffers = {
            name: buffer for name, buffer in holder._buffers.items() if name not in holder._non_persistent_buffers_set
        }
        for name, tensor in (*holder._parameters.items(), *buffers.items()):
            if tensor is not None and tensor.is_floating_point() and id(tensor) not in seen:
                seen.add(id(tensor))
                yield holder, name, tensor
