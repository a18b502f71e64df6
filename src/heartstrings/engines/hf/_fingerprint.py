"""Fingerprints that identify a model without reading all of its weights.

They are the same for a folder that was renamed or copied, and differ for other weights, another tokenizer or template.
`checkpoint_folder` has those that need no framework.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from heartstrings.engines.hf.checkpoint_folder import config_bytes, of_folder, of_text
from heartstrings.engines.hf.text import chat_template

__all__ = ["non_finite", "of_folder", "of_module", "of_template", "of_tokenizer"]


def of_module(model: nn.Module, config: Mapping[str, Any]) -> str:
    """Hash of a model that is only in memory: its configuration, and values sampled from every parameter."""
    digest = hashlib.sha256(config_bytes(config))
    for name, value in sorted(model.state_dict(keep_vars=False).items()):
        flat = value.detach().reshape(-1)
        step = max(1, flat.numel() // 256)
        sample = flat[::step][:256].float().cpu().numpy().astype("<f4")
        total = np.float64(flat.double().sum().item()) if flat.device.type != "mps" else np.float64(0)
        digest.update(f"{name} {tuple(value.shape)}".encode())
        digest.update(sample.tobytes())
        digest.update(f"{total:.9e}".encode())
    return "memory-sha256:" + digest.hexdigest()


def of_tokenizer(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash of the vocabulary, the special tokens, and how a probe text with odd characters is split."""
    digest = hashlib.sha256()
    for token, index in sorted(tokenizer.get_vocab().items()):
        digest.update(f"{index} {token}\n".encode("utf-8", "surrogatepass"))
    digest.update(json.dumps({k: str(v) for k, v in sorted(tokenizer.special_tokens_map.items())}).encode())
    probe = "A probe: naïve 12 345 words — don't, «quoted»\n\tand 你好."
    digest.update(str(tokenizer(probe, verbose=False)["input_ids"]).encode())
    return "sha256:" + digest.hexdigest()


def of_template(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Hash of the chat template; None without one."""
    return of_text(chat_template(tokenizer))


def non_finite(model: nn.Module) -> str | None:
    """Name of the first parameter that holds NaN or Inf. The sum is checked first, as it needs no memory."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.is_meta or not parameter.is_floating_point():
                continue
            if not bool(torch.isfinite(parameter.sum(dtype=torch.float32))) and not bool(
                torch.isfinite(parameter).all()
            ):
                return name
    return None
