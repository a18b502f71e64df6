"""Export: a bundle's directions in the formats that steering tools read.

Our dose is a fraction of the mean residual norm at a layer. The other tools have no such unit, so an export with a
dose writes the absolute vector `share * norm[l] * unit(v)` and says so in a note inside the file. Several layers share
one dose: each of n gets dose / n.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Float64

from heartstrings.core.errors import InputError
from heartstrings.core.storage import write_bytes
from heartstrings.core.types import Variant
from heartstrings.core.version import __version__
from heartstrings.formats._control import gguf_bytes
from heartstrings.formats._lens import lens_json
from heartstrings.formats._own import own_bytes
from heartstrings.vectors.emotion_vectors import EmotionVectors
from heartstrings.vectors.steer import layer_list, no_norms

ExportFormat = Literal["gguf", "lm-eval", "vllm-lens", "npz"]

_BY_SUFFIX: dict[str, ExportFormat] = {
    ".gguf": "gguf",
    ".pt": "lm-eval",
    ".pth": "lm-eval",
    ".json": "vllm-lens",
    ".npz": "npz",
}

HOOKPOINTS = {
    **dict.fromkeys(("gpt2", "bloom", "falcon", "gptj", "gpt_neo"), "h.{layer}"),
    **dict.fromkeys(("gemma3", "gemma4"), "language_model.layers.{layer}"),
    "mpt": "blocks.{layer}",
    "opt": "decoder.layers.{layer}",
}
"""Where lm-eval finds block l inside `model.base_model`; other decoders have `layers.{layer}`."""


def export_vectors(
    vectors: EmotionVectors,
    path: str | Path,
    *,
    format: str | None = None,
    direction: str | Sequence[str] | None = None,
    layers: Sequence[int] | None = None,
    variant: Variant = "raw",
    dose: float | None = None,
    hookpoint: str | None = None,
    model_hint: str | None = None,
) -> Path:
    """Write directions for another tool; the file appears whole or not at all.

    Args:
        vectors: the bundle.
        path: the file to write.
        format: None goes by the ending: .gguf, .pt (lm-eval), .json (vllm-lens), .npz.
        direction: an emotion, or a blend such as `0.5*joyful - sad`. Required, except that npz takes any
            number of them and, without one, the whole set.
        layers: block indices; None is all of the bundle (for GGUF without block 0, which llama.cpp cannot
            steer).
        variant: raw or denoised vectors.
        dose: fraction of the mean residual norm, shared by the layers; negative reverses the direction. None
            writes the contrast in the size it has in the bundle, in units of the residual stream.
        hookpoint: for lm-eval, the module that is block l inside `model.base_model`, with `{layer}` in it.
        model_hint: for GGUF, the architecture's name; None takes the bundle's.

    Raises:
        InputError: unknown format, emotion, layer or variant; a dose without norms; several directions in a
            format that holds one; a site that the target does not have.
        MissingExtra: GGUF without the `gguf` package.
    """
    target = Path(path)
    kind = _BY_SUFFIX.get(target.suffix.lower()) if format is None else format
    if kind not in _BY_SUFFIX.values():
        raise InputError(
            f"no export format for {target.name!r}" if format is None else f"no export format {format!r}",
            f"one of {', '.join(sorted(set(_BY_SUFFIX.values())))}",
            "Say which: format=",
        )
    if variant not in vectors.variants:
        raise InputError(f"the bundle has no {variant} vectors", f"one of {', '.join(vectors.variants)}")
    if not target.parent.is_dir():
        raise InputError(f"the folder of {target.name} does not exist", fix="Make it first")
    expressions = () if direction is None else (direction,) if isinstance(direction, str) else tuple(direction)
    if any(not text.strip() for text in expressions) or len(set(expressions)) != len(expressions):
        raise InputError("an empty or repeated direction", "emotions or blends, each once")
    known = (
        vectors.layers if layers is not None or kind != "gguf" else tuple(layer for layer in vectors.layers if layer)
    )
    if not known:
        raise InputError("the bundle has only layer 0", "a later one; llama.cpp cannot steer after the first block")
    chosen = layer_list(known if layers is None else layers, vectors.layers)
    if dose is not None and (not math.isfinite(dose) or dose == 0):
        raise InputError(f"dose {dose}", "a finite number other than 0")
    if dose is not None and vectors.norms is None:
        raise no_norms("Leave the dose out to write the vectors as they are, or extract the vectors from the model")
    share = None if dose is None else dose / len(chosen)

    if kind == "npz":
        write_bytes(target, _npz(vectors, expressions, chosen, variant, share))
        return target
    if len(expressions) != 1:
        raise InputError(
            f"{len(expressions)} directions for one {kind} file",
            "exactly one",
            "Name an emotion or a blend, such as '0.5*joyful - sad'; export others to files of their own",
        )
    arrow = {layer: _arrow(vectors, expressions[0], layer, variant, share) for layer in chosen}
    note = json.dumps(_note(vectors, expressions[0], chosen, variant, dose, share), sort_keys=True)
    if kind != "lm-eval" and vectors.provenance.site != "block":
        raise InputError(
            f"these vectors were read at site {vectors.provenance.site!r}", f"`block`, the only site that {kind} steers"
        )
    if kind == "gguf":
        model = vectors.provenance.model
        hint = model_hint or ("unknown" if model is None else model.architecture)
        write_bytes(target, gguf_bytes(arrow, model_hint=hint, note=note))
    elif kind == "vllm-lens":
        write_bytes(target, lens_json(arrow, note=note).encode())
    else:
        write_bytes(target, _lm_eval(arrow, _hookpoint(vectors, hookpoint), note))
    return target


def _arrow(
    vectors: EmotionVectors, expression: str, layer: int, variant: Variant, share: float | None
) -> Float32[np.ndarray, "width"]:
    """The vector to add at `layer`: the blend itself, or `share * norm * unit(blend)`."""
    blend: Float64[np.ndarray, "_"] = vectors.direction(expression, layer=layer, variant=variant).values[0]
    length = float(np.linalg.norm(blend))
    if length <= 1e-12:
        raise InputError(f"{expression!r} is a zero vector at layer {layer}", "a blend that does not cancel")
    factor = 1.0
    if share is not None and vectors.norms is not None:
        factor = share * float(vectors.norms[vectors.layers.index(layer)]) / length
    return np.asarray((blend * factor).astype(np.float32))


def _note(
    vectors: EmotionVectors,
    expression: str | None,
    layers: Sequence[int],
    variant: Variant,
    dose: float | None,
    share: float | None,
) -> dict[str, object]:
    """What a reader of the file must know to use its numbers."""
    model, norms = vectors.provenance.model, vectors.norms
    unit = "absolute vector to add as it is: dose_per_layer * mean residual norm * unit direction"
    if share is None:
        unit = "the contrast as it is in the bundle, in units of the residual stream"
    return {
        "tool": f"heartstrings {__version__}",
        "direction": expression,
        "variant": variant,
        "site": vectors.provenance.site,
        "layers": list(layers),
        "layer_convention": "0-based decoder blocks; the vector belongs to the block's output",
        "unit": unit,
        "dose": dose,
        "dose_per_layer": share,
        "mean_residual_norm": None
        if norms is None
        else {str(layer): float(norms[vectors.layers.index(layer)]) for layer in layers},
        "model": None if model is None else model.model_id,
        "revision": None if model is None else model.revision,
    }


def _npz(
    vectors: EmotionVectors, expressions: Sequence[str], layers: Sequence[int], variant: Variant, share: float | None
) -> bytes:
    names = expressions or vectors.emotions
    rows = [vectors.layers.index(layer) for layer in layers]
    dose = None if share is None else share * len(layers)
    note = _note(vectors, None, layers, variant, dose, share)
    note["provenance"] = vectors.provenance.model_dump(mode="json")
    settings: dict[str, Any] = {"emotions": names, "layers": layers, "note": json.dumps(note, sort_keys=True)}

    def at_layers(array: np.ndarray | None) -> np.ndarray | None:
        return None if array is None else array[rows]

    norms = at_layers(vectors.norms)
    if not expressions and share is None and variant == "raw":
        denoised, centre = at_layers(vectors.denoised), at_layers(vectors.centre)
        return own_bytes(vectors.raw[rows], **settings, denoised=denoised, centre=centre, norms=norms)
    blends = [[_arrow(vectors, name, layer, variant, share) for name in names] for layer in layers]
    return own_bytes(np.stack([np.stack(row) for row in blends]), **settings, norms=norms)


def _hookpoint(vectors: EmotionVectors, template: str | None) -> str:
    if template is not None:
        if "{layer}" not in template:
            raise InputError(f"hookpoint {template!r}", "a module name with {layer} in it, e.g. layers.{layer}")
        return template
    if vectors.provenance.site != "block":
        raise InputError(
            f"these vectors were read at site {vectors.provenance.site!r}",
            "a hook point that names that sublayer",
            "Give it, e.g. hookpoint='layers.{layer}.mlp'",
        )
    model = vectors.provenance.model
    return HOOKPOINTS.get("" if model is None else model.architecture, "layers.{layer}")


def _lm_eval(directions: Mapping[int, Float32[np.ndarray, "_"]], template: str, note: str) -> bytes:
    """lm-eval's steered file: hook point -> vector, coefficient 1, action `add`."""
    import torch

    steer = {
        template.replace("{layer}", str(layer)): {
            "steering_vector": torch.from_numpy(np.array(vector)),
            "steering_coefficient": 1.0,
            "action": "add",
            "bias": None,
            "head_index": None,
            "heartstrings": note,
        }
        for layer, vector in directions.items()
    }
    buffer = io.BytesIO()
    torch.save(steer, buffer)
    return buffer.getvalue()
