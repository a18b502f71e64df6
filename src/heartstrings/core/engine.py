"""The interface of an engine: frozen requests and results, and the Protocol with its methods.

No framework is imported here. Positions are absolute, 0-based and count real tokens only (BOS included, padding not).
Layers count from 0 and mean the residual stream after that block, before any final norm.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Int64

from heartstrings.core.steering import Steering
from heartstrings.core.types import ModelInfo, Pooling, Site

Finish = Literal["eos", "stop", "length"]
Thinking = Literal["off", "not in template", "no template"]


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call, described to it by its chat template."""

    name: str
    description: str
    parameters: str
    """JSON schema of the arguments, as text."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call that a model made."""

    name: str
    arguments: str
    """A JSON object, as text."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat. `role` is one that the model's template knows: `system`, `user`, `assistant`, `tool`."""

    role: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    """The calls of an assistant's turn; the turns of role `tool` after it are their results, in order."""


Chat: TypeAlias = tuple[Message, ...]
Prompt: TypeAlias = str | Chat
"""Plain text is used as it is; a chat is rendered by the model's own template, once."""


@dataclass(frozen=True, eq=False)
class ScoreRequest:
    """A request for the log-probability of each continuation after the prompt.

    Prompt and continuation are tokenised separately and their ids joined, so that the boundary is where the request
    has it. A continuation after a space should begin with that space: `" yes"`.
    """

    prompt: Prompt
    continuations: tuple[str, ...]
    steering: Steering | None = None
    divergence: bool = False
    """Also return how far steering moves the next-token distribution at each token of the continuations."""


@dataclass(frozen=True, eq=False)
class Score:
    """Natural-log probabilities, one entry a continuation, in the request's order."""

    logprobs: tuple[float, ...]
    """Sum over the continuation's tokens."""
    token_logprobs: tuple[Float32[np.ndarray, "_"], ...]
    token_ids: tuple[tuple[int, ...], ...]
    n_prompt_tokens: int
    divergences: tuple[Float32[np.ndarray, "_"], ...] | None = None
    """If asked for: at each token, the Kullback-Leibler divergence KL(unsteered || steered) of the whole next-token
    distribution, in nats. 0 for a request without steering."""


@dataclass(frozen=True, eq=False)
class GenerateRequest:
    """A request for one completion. The same request and seed give the same text in any batch, up to rounding."""

    prompt: Prompt
    max_new_tokens: int = 256
    temperature: float | int = 1.0
    """0 takes the most likely token at each step, and ignores the seed."""
    top_p: float | int = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    """The text ends before the first of these."""
    steering: Steering | None = None
    tools: tuple[Tool, ...] = ()
    """Functions it may call; the prompt is then a chat."""


@dataclass(frozen=True, eq=False)
class Completion:
    """The reply that was generated after one prompt."""

    text: str
    """Without special tokens, without the stop string, and without tool calls."""
    token_ids: tuple[int, ...]
    """All sampled tokens, the end-of-text token included."""
    finish: Finish
    n_prompt_tokens: int
    seed: int
    thinking: Thinking = "no template"
    tool_calls: tuple[ToolCall, ...] = ()
    """In order; only where the request had tools."""
    malformed_calls: int = 0
    """Calls that could not be parsed."""


@dataclass(frozen=True, eq=False)
class Trace:
    """Every token of one prompt projected on every direction."""

    text: str
    """The prompt as the model saw it; for a chat, after the template."""
    token_ids: Int64[np.ndarray, "token"]
    tokens: tuple[str, ...]
    offsets: Int64[np.ndarray, "token 2"]
    """Start and end of each token in `text`, in characters; (0, 0) for tokens that are not in it (a BOS)."""
    layers: tuple[int, ...]
    projections: Float32[np.ndarray, "layer token direction"]
    """Dot products (h - centre) . direction with the directions as given, in units of the residual stream."""
    norms: Float32[np.ndarray, "layer token"]
    """L2 norm of each token's residual, before the centre is subtracted."""
    sinks: Bool[np.ndarray, "layer token"]
    """Attention sinks: the norm is over SINK_RATIO times the prompt's median. Ignore their projections."""
    thinking: Thinking = "no template"


@dataclass(frozen=True, eq=False)
class PooledBatch:
    """One batch of texts reduced to a mean vector a rule, text and layer. Sums were taken in float32.

    Batches follow a deterministic plan (texts by length, longest first, within the token budget), so that an
    interrupted run can continue with the first missing batch.
    """

    number: int
    """Position of this batch in the plan."""
    n_batches: int
    indices: Int64[np.ndarray, "text"]
    """Rows of the input texts."""
    n_tokens: Int64[np.ndarray, "text"]
    """Real tokens, BOS included, after truncation."""
    truncated: Bool[np.ndarray, "text"]
    n_pooled: Int64[np.ndarray, "rule text"]
    """Tokens in the rule's span before sinks are left out; 0: the text is too short and set aside."""
    means: Float32[np.ndarray, "rule text layer width"]
    """NaN for texts set aside, and at a layer where every token of the span is a sink. For the rule `centred` this is
    the mean of `from`; the means at each position are subtracted later, when all batches are known."""
    norms: Float32[np.ndarray, "text layer"]
    """Mean L2 norm over all real tokens that are no sinks; NaN for a text without tokens."""
    sinks: Int64[np.ndarray, "sink 3"]
    """(row in this batch, index into the layers asked for, position of the token)."""
    position_sums: Float32[np.ndarray, "layer position width"] | None = None
    """Sum over the batch's real non-sink tokens at each position; only when a rule is `centred`."""
    position_counts: Int64[np.ndarray, "layer position"] | None = None


def default_token_budget(device: str, dtype: str) -> int:
    """Tokens in a batch of texts, padding included, where a caller names none (docs/measured.md).

    On a CPU the activations of a larger batch leave the processor's caches. Those of 16 bits take half the room.
    """
    if not device.startswith("cpu"):
        return 8192
    return 1024 if dtype == "float32" else 2048


@runtime_checkable
class Pooler(Protocol):
    """The part of an engine that extraction needs."""

    @property
    def info(self) -> ModelInfo: ...

    def pool(
        self,
        texts: Sequence[str],
        *,
        layers: Sequence[int] | None = None,
        poolings: Sequence[Pooling] = (Pooling(),),
        site: Site = "block",
        token_budget: int | None = None,
        max_tokens: int = 512,
        done: Collection[int] = (),
    ) -> Iterator[PooledBatch]:
        """Mean residuals of each text at each layer; batches whose number is in `done` are not run."""
        ...


class Engine(Pooler, Protocol):
    """A model that can be read, scored and sampled. No method changes its weights."""

    def read(
        self,
        prompts: Sequence[Prompt],
        directions: Float32[np.ndarray, "layer direction width"],
        *,
        layers: Sequence[int],
        centre: Float32[np.ndarray, "layer width"] | None = None,
        site: Site = "block",
    ) -> list[Trace]:
        """Projection of every token on every direction; `directions[i]` belongs to `layers[i]`."""
        ...

    def score(self, requests: Sequence[ScoreRequest]) -> list[Score]:
        """Log-probabilities of given continuations."""
        ...

    def generate(self, requests: Sequence[GenerateRequest]) -> list[Completion]:
        """Completions, in the requests' order."""
        ...

    def count_tokens(self, texts: Sequence[str], *, max_tokens: int = 512) -> Int64[np.ndarray, "text"]:
        """Tokens of each text as `pool` counts them."""
        ...

    def unembed(self, states: Float32[np.ndarray, "state width"]) -> Float32[np.ndarray, "state vocab"]:
        """Logits of residual states through the final norm and the unembedding; ModelError for encoders."""
        ...

    def token_strings(self, ids: Sequence[int]) -> list[str]:
        """Each token as readable text."""
        ...
