"""The parts of a model along its residual stream: blocks, sublayers, final norm and unembedding, found by structure.

The text model is the innermost pretrained model that has the text configuration and runs the one `ModuleList` of
`n_layers` blocks. Nothing is looked up by model name. Families differ in whether a norm is applied to a sublayer's
output before it is added, which is visible in the children of the block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from heartstrings.core.errors import ModelError
from heartstrings.core.types import Site

# Children of a block, tried in this order. A post-norm comes first where one exists: with it, the sublayer's
# contribution to the residual stream is the norm's output, not the projection's.
_ATTENTION = ("self_attn", "linear_attn", "attn", "attention", "self_attention")
_MLP = ("mlp", "feed_forward", "ffn", "block_sparse_moe", "moe")
_NORM_NAMES = ("norm", "ln_f", "final_layer_norm", "final_layernorm", "final_norm")


@dataclass(frozen=True, eq=False)
class Architecture:
    """The parts of a loaded model that the engine touches."""

    text_model: PreTrainedModel
    """Called with `input_ids`; runs embedding, blocks and final norm, and no unembedding."""
    config: Any
    """The text configuration."""
    blocks: nn.ModuleList
    width: int
    final_norm: nn.Module | None
    project_out: nn.Module | None
    head: nn.Module | None
    """The unembedding; None for encoders and for checkpoints without one."""
    is_encoder: bool
    vocabulary: int
    """Rows of the token embedding: every token id must be below."""
    position_limit: int | None
    """Longest sequence that learned absolute positions allow; None where positions are computed."""

    @property
    def n_layers(self) -> int:
        return len(self.blocks)

    @property
    def device(self) -> torch.device:
        """The device of the token embedding, where token ids have to be."""
        device: torch.device = self.text_model.get_input_embeddings().weight.device
        return device

    @property
    def attends(self) -> bool:
        """Whether any block has attention; a state-space model has none."""
        return any(_attention(dict(block.named_children())) is not None for block in self.blocks)

    @property
    def logit_cap(self) -> float | None:
        cap = getattr(self.config, "final_logit_softcapping", None)
        return None if cap is None else float(cap)

    @property
    def logit_scale(self) -> float:
        """What some families multiply (or divide) their logits by."""
        scale = getattr(self.config, "logit_scale", None)
        divisor = getattr(self.config, "logits_scaling", None)
        return (1.0 if scale is None else float(scale)) / (1.0 if divisor is None else float(divisor))

    def site(self, layer: int, site: Site) -> nn.Module:
        """The module whose output is `site` at `layer`. Raises ModelError where the block has no such part."""
        block = self.blocks[layer]
        if site == "block":
            return block
        children = dict(block.named_children())
        sublayer = _attention(children) if site == "attention" else _mlp(children)
        if sublayer is None:
            raise ModelError(
                f"block {layer} of {type(self.text_model).__name__} has no {site} sublayer among its parts "
                f"{', '.join(children)}",
                f"one of {', '.join(_ATTENTION if site == 'attention' else _MLP)}",
                'Use site="block"',
            )
        return sublayer


def _attention(children: dict[str, nn.Module]) -> nn.Module | None:
    if "post_feedforward_layernorm" in children and "post_attention_layernorm" in children:
        return children["post_attention_layernorm"]  # norms after both sublayers: Gemma 2 to 4, OLMo 2 and 3
    for name in _ATTENTION:
        if name in children:
            return _before_skip(children[name])
    return None


def _mlp(children: dict[str, nn.Module]) -> nn.Module | None:
    if "post_feedforward_layernorm" in children:
        return children["post_feedforward_layernorm"]
    for name in _MLP:
        if name in children:
            return children[name]
    if "fc2" in children:  # OPT has no module around its two projections
        return children["fc2"]
    if "intermediate" in children and "output" in children:
        return _before_skip(children["output"], inner=False)
    return None


def _before_skip(module: nn.Module, *, inner: bool = True) -> nn.Module:
    """BERT-like models add the skip connection inside the sublayer's `output`; its `dense` comes before that."""
    output = getattr(module, "output", None) if inner else module
    dense = getattr(output, "dense", None)
    adds_skip = output is not None and hasattr(output, "LayerNorm") and isinstance(dense, nn.Module)
    return dense if adds_skip and isinstance(dense, nn.Module) else module


def take_apart(model: PreTrainedModel) -> Architecture:
    """Find the parts of `model`. Raises ModelError saying what was looked for when they are not there."""
    config = model.config.get_text_config()
    name = type(model).__name__
    if getattr(model.config, "is_encoder_decoder", False):
        raise ModelError(
            f"{name} is an encoder-decoder",
            "a decoder-only language model or an encoder",
            "Choose a model with a single stack of blocks",
        )
    n_layers, width = getattr(config, "num_hidden_layers", None), getattr(config, "hidden_size", None)
    if not isinstance(n_layers, int) or not isinstance(width, int):
        raise ModelError(
            f"the configuration of {name} has no num_hidden_layers or no hidden_size",
            "a transformer with both",
            "Choose another model",
        )
    text_model, blocks = _stack(model, config, n_layers, width)
    norms = _final_norms(text_model, width)
    embedding = text_model.get_input_embeddings()
    vocabulary = getattr(embedding, "num_embeddings", None)
    if not isinstance(vocabulary, int):
        raise ModelError(f"{name} has no token embedding of a known size", "an nn.Embedding of tokens")
    is_encoder = _is_encoder(text_model, config, blocks)
    head = None if is_encoder or model is text_model else model.get_output_embeddings()
    return Architecture(
        text_model=text_model,
        config=config,
        blocks=blocks,
        width=width,
        final_norm=norms,
        project_out=getattr(text_model, "project_out", None),
        head=head,
        is_encoder=is_encoder,
        vocabulary=vocabulary,
        position_limit=_position_limit(text_model, blocks),
    )


def _stack(model: PreTrainedModel, config: Any, n_layers: int, width: int) -> tuple[PreTrainedModel, nn.ModuleList]:
    """The text model and its blocks. Vision and audio towers have another configuration."""
    modules = dict(model.named_modules())
    candidates: list[tuple[str, PreTrainedModel, nn.ModuleList]] = []
    seen: list[str] = []
    for path, module in modules.items():
        if not isinstance(module, nn.ModuleList):
            continue
        seen.append(f"{path or '(root)'} of {len(module)}")
        owner = _owner(modules, path)
        same_text = owner is not None and owner.config.get_text_config().model_type == config.model_type
        if owner is not None and same_text and len(module) == n_layers and _carries(module[0], width):
            candidates.append((path, owner, module))
    # A list inside a block (experts, say) can have as many members by chance: the outermost is the stack.
    outermost = [c for c in candidates if not any(c[0].startswith(o[0] + ".") for o in candidates if o is not c)]
    if len(outermost) != 1:
        stacks = ", ".join(path for path, _, _ in outermost) or f"none; its lists are {', '.join(seen) or 'none'}"
        raise ModelError(
            f"cannot find the blocks of {type(model).__name__} ({config.model_type}): {stacks}",
            f"exactly one ModuleList of {n_layers} blocks of width {width} inside the text model",
            "Report the architecture, or choose one of the supported families",
        )
    _, owner, blocks = outermost[0]
    return owner, blocks


def _owner(modules: dict[str, nn.Module], path: str) -> PreTrainedModel | None:
    """The nearest enclosing pretrained model."""
    while path:
        path = path.rpartition(".")[0]
        if isinstance(modules[path], PreTrainedModel):
            owner = modules[path]
            return owner if isinstance(owner, PreTrainedModel) else None
    return None


def _carries(block: nn.Module, width: int) -> bool:
    """Whether the block can have a residual stream of this width, by its norms, or else by its matrices."""
    norms = [_norm_width(child) for child in block.children() if "norm" in type(child).__name__.lower()]
    known = [norm_width for norm_width in norms if norm_width is not None]
    if known:
        return width in known
    return any(width in parameter.shape for parameter in block.parameters())


def _final_norms(text_model: PreTrainedModel, width: int) -> nn.Module | None:
    norms = {
        name: child
        for name, child in text_model.named_children()
        if "norm" in type(child).__name__.lower() and _norm_width(child) in (width, None)
    }
    if len(norms) > 1:
        norms = {name: child for name, child in norms.items() if name in _NORM_NAMES}
    if len(norms) > 1:
        raise ModelError(
            f"{type(text_model).__name__} has {len(norms)} norms that could be the final one: {', '.join(norms)}",
            f"one, named {' or '.join(_NORM_NAMES)}",
        )
    return next(iter(norms.values()), None)


def _norm_width(norm: nn.Module) -> int | None:
    weight = getattr(norm, "weight", None)
    return int(weight.shape[0]) if isinstance(weight, torch.Tensor) else None


def _is_encoder(text_model: PreTrainedModel, config: Any, blocks: nn.ModuleList) -> bool:
    """Whether attention is bidirectional, as the attention modules declare. A state-space model has none."""
    for module in blocks[-1].modules():
        causal = getattr(module, "is_causal", None)
        if isinstance(causal, bool):
            return not causal
    if _attention(dict(blocks[-1].named_children())) is None:
        return False
    is_decoder = getattr(config, "is_decoder", False)
    return "embeddings" in dict(text_model.named_children()) and not is_decoder


def _position_limit(text_model: PreTrainedModel, blocks: nn.ModuleList) -> int | None:
    inside = {id(module) for module in blocks.modules()}
    for name, module in text_model.named_modules():
        leaf = name.rpartition(".")[2]
        if id(module) in inside or not isinstance(module, nn.Embedding):
            continue
        if leaf in ("wpe", "embed_positions") or "position_embedding" in leaf:
            # OPT and RoBERTa start counting after a few reserved rows.
            reserved = int(getattr(module, "offset", 0))
            if module.padding_idx is not None:
                reserved = module.padding_idx + 1
            return module.num_embeddings - reserved
    return None
