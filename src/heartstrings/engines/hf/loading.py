"""`heartstrings.load`: from a folder, a hub id or a bundled organism to an engine.

Only safetensors are read and no code from a checkpoint is ever run.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from heartstrings.core.errors import MissingExtra, ModelError
from heartstrings.engines.hf._gguf_copy import GgufCopy, gguf_copy
from heartstrings.engines.hf.engine import TorchEngine
from heartstrings.engines.hf.named import ORGANISM, gguf_file, hub_reachable, organism_path
from heartstrings.engines.hf.precision import fast_dtype

DTYPES = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
}
_NOT_THERE = (
    "couldn't connect",
    "offline",
    "not a valid model identifier",
    "cannot find the requested files in the disk cache",
    "couldn't find them in the cached files",
)
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def load(
    model: str | os.PathLike[str], *, revision: str | None = None, dtype: str = "auto", device: str | None = None
) -> TorchEngine:
    """Load a model for reading, scoring and generating.

    Args:
        model: a checkpoint folder, a GGUF file, a Hugging Face id, `organism:KIND` for a bundled one, or `smollm2`.
            A GGUF file is dequantised once, into a copy in the cache (`engines.hf._gguf_copy`).
        revision: branch, tag or commit of a Hugging Face id.
        dtype: `auto` keeps what is stored; `fast` is bfloat16 where the device multiplies it in hardware, else what is
            stored; or `float32`, `bfloat16` or `float16`. A loaded model keeps its precision:
            only models that `extract`, `atlas` and `run` open by name are read in bfloat16 where that was checked.
        device: `cpu`, `cuda`, `cuda:1`, `mps`; None takes the first accelerator there is, else the CPU.
            `auto` spreads a large model over all devices and needs the accelerate extra.
    Raises:
        ModelError: nothing there, no safetensors, NaN weights, unknown architecture, dtype or device.
        MissingExtra: a GGUF file that was not opened before, without the `gguf` extra.
    """
    name = os.fspath(model)
    where = _device(device)
    if dtype == "fast":
        dtype = fast_dtype(where)
    torch_dtype: Any = "auto" if dtype == "auto" else DTYPES.get(dtype)
    if torch_dtype is None:
        raise ModelError(f"dtype {dtype!r}", f"auto, fast, {', '.join(DTYPES)}", "Choose one of these")
    file = gguf_file(name)
    copy = None if file is None else _copied(file)
    source, is_folder = _source(name) if copy is None else (str(copy.folder), True)
    if is_folder:
        _check_folder(Path(source), name)
    offline = is_folder or not hub_reachable()
    files = {"revision": revision, "local_files_only": offline}
    with _quiet():
        config = attempt(name, transformers.AutoConfig.from_pretrained, source, **files)
        commit = getattr(config, "_commit_hash", None)
        tokenizer = _tokenizer(name, source, files)
        loaded = _weights(name, source, config, files, dtype=torch_dtype, device=where)
    folder = Path(source) if is_folder else _snapshot(source, revision)
    return TorchEngine.from_model(
        loaded,
        tokenizer,
        model_id=name,
        revision=commit or revision,
        folder=folder,
        weights_hash=None if copy is None else f"gguf-sha256:{copy.sha256}",
        quantisation=None if copy is None else copy.quantisation,
    )


def _copied(file: Path) -> GgufCopy:
    with _quiet():
        return gguf_copy(file)


def _source(name: str) -> tuple[str, bool]:
    """What to load from, and whether it is a folder on this machine."""
    if name.startswith(ORGANISM):
        return str(organism_path(name.removeprefix(ORGANISM))), True
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        return str(folder), True
    if folder.is_file():
        raise ModelError(
            f"{name} is a file", "a folder with config.json and safetensors, or a .gguf file", "Name its folder"
        )
    looks_local = name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name or not name
    if looks_local:
        raise ModelError(f"there is no folder {name!r}", "a checkpoint folder", "Check the path")
    return name, False


def _check_folder(folder: Path, name: str) -> None:
    config = folder / "config.json"
    if not config.is_file():
        raise ModelError(
            f"{name} has no config.json", "a Hugging Face checkpoint folder", "Name the folder that holds it"
        )
    try:
        content = json.loads(config.read_text("utf-8"))
    except (ValueError, OSError) as error:
        raise ModelError(f"config.json of {name} cannot be read: {error}", "valid JSON") from error
    if not isinstance(content, dict) or "model_type" not in content:
        raise ModelError(f"config.json of {name} names no model_type", "a transformers configuration")
    if not any(folder.glob("*.safetensors")):
        pickled = sorted(file.name for pattern in _PICKLED for file in folder.glob(pattern))
        if pickled:
            raise ModelError(
                f"{name} has its weights only as {pickled[0]}, a pickle that can run code when it is opened",
                "safetensors",
                "If you trust the file, convert it: load it with transformers, save_pretrained to a new folder",
            )
        raise ModelError(f"{name} has no weights", "*.safetensors beside config.json", "Download it again")


def _device(device: str | None) -> str:
    if device is None:
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if device == "auto":
        from importlib.util import find_spec

        if find_spec("accelerate") is None:
            raise MissingExtra('device="auto"', "accelerate")
        return device
    try:
        kind = torch.device(device)
    except RuntimeError as error:
        raise ModelError(f"device {device!r}", "cpu, cuda, cuda:N, mps or auto") from error
    if kind.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(
            "CUDA was asked for and this machine or this build of torch has none",
            "an NVIDIA GPU with its driver, and a CUDA build of torch",
            'Leave `device` out, or use device="cpu"',
        )
    if kind.type == "cuda" and (kind.index or 0) >= torch.cuda.device_count():
        raise ModelError(f"device {device!r}", f"cuda:0 to cuda:{torch.cuda.device_count() - 1}")
    if kind.type == "mps" and not torch.backends.mps.is_available():
        raise ModelError("device 'mps' is not available here", "an Apple GPU", 'Use device="cpu"')
    return device


def attempt(name: str, load_it: Any, source: str, **options: Any) -> Any:
    """Call one of transformers' loaders; its many kinds of failure become one `ModelError`."""
    try:
        return load_it(source, trust_remote_code=False, **options)
    except Exception as error:  # OSError, ValueError, KeyError, ImportError, SafetensorError, RuntimeError, ...
        words = " ".join(str(error).split())
        if any(sign in words for sign in _NOT_THERE):
            raise ModelError(
                f"{name!r} is no folder here, is not in the local cache, and the hub cannot give it: {words[:200]}",
                "a folder, a cached model, or an id (and revision) that exists and may be read",
                "Check the spelling and the network; for a gated model run `hf auth login`",
            ) from error
        if "custom code" in words or "trust_remote_code" in words or "configuration file in that repo" in words:
            raise ModelError(
                f"{name} needs code from its own repository to load",
                "an architecture that the installed transformers knows",
                "Heartstrings runs no code from checkpoints; update transformers or choose another model",
            ) from error
        if "ignore_mismatched_sizes" in words or "size mismatch" in words:
            raise ModelError(
                f"the weights of {name} have other shapes than its config.json asks for",
                "a configuration and weights that belong together",
                "Download the model again, or restore its config.json",
            ) from error
        raise ModelError(
            f"{name} cannot be loaded: {type(error).__name__}: {words[:400]}",
            "a complete checkpoint of an architecture that the installed transformers knows",
            "Check the files, or update transformers",
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and load reports of transformers: relevant problems are raised as errors here."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _tokenizer(name: str, source: str, files: dict[str, Any]) -> PreTrainedTokenizerBase:
    tokenizer = attempt(f"the tokenizer of {name}", transformers.AutoTokenizer.from_pretrained, source, **files)
    if not isinstance(tokenizer, PreTrainedTokenizerBase) or len(tokenizer) == 0:
        raise ModelError(f"{name} has no tokenizer", "tokenizer.json beside config.json")
    return tokenizer


def auto_class(config: Any) -> Any:
    """The loader for a configuration: the language model's, wrapped in a multimodal class where it is stored
    in one, and the bare encoder for models that fill in masks."""
    kind = config.model_type
    architectures = getattr(config, "architectures", None) or []
    generative = any(
        name.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")) for name in architectures
    )
    if kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not generative and not getattr(config, "is_decoder", False):
        return transformers.AutoModel
    if kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES and hasattr(config, "text_config"):
        return transformers.AutoModelForImageTextToText
    if kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return transformers.AutoModelForCausalLM
    return transformers.AutoModel


def _weights(name: str, source: str, config: Any, files: dict[str, Any], *, dtype: Any, device: str) -> PreTrainedModel:
    options: dict[str, Any] = {
        **files,
        "config": config,
        "dtype": dtype,
        "use_safetensors": True,
        "output_loading_info": True,
    }
    if device == "auto":
        options["device_map"] = "auto"
    loader = auto_class(config)
    model, loading_info = attempt(name, loader.from_pretrained, source, **options)
    missing = missing_tensors(loading_info)
    head = {key for key in missing if key.split(".")[0] in ("lm_head", "embed_out", "score")}
    if missing and missing == head:
        # A checkpoint without an unembedding: readable, but without the random one that transformers adds.
        model, loading_info = attempt(name, transformers.AutoModel.from_pretrained, source, **options)
        missing = missing_tensors(loading_info)
    if missing:
        examples = ", ".join(sorted(missing)[:3])
        raise ModelError(
            f"the weights of {name} lack {len(missing)} tensors that its configuration asks for ({examples})",
            "a complete checkpoint",
            "Check that config.json belongs to these weights, and that no shard is missing",
        )
    model.eval()
    return model if device == "auto" else model.to(device)


def missing_tensors(loading_info: dict[str, Any]) -> set[str]:
    """Tensors that are missing in the checkpoint, and would be random. The pooler is not used and may be missing."""
    missing = {str(key) for key in loading_info.get("missing_keys", ())}
    missing |= {str(entry[0]) for entry in loading_info.get("mismatched_keys", ())}
    return {key for key in missing if "pooler" not in key}


def _snapshot(source: str, revision: str | None) -> Path | None:
    """The folder in the local cache that a hub id was loaded from."""
    from transformers.utils import cached_file

    file = cached_file(source, "config.json", revision=revision, local_files_only=True)
    return None if file is None else Path(file).parent
