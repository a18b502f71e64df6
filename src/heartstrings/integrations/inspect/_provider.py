"""A steered model as Inspect's `ModelAPI`.

`inspect eval TASK --model heartstrings/MODEL -M vectors=FOLDER -M direction=calm -M dose=0.1`. Models of one name share
one engine, whatever their steering, so that requests of evaluations that run at the same time are batched together.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageTool,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    StopReason,
)
from inspect_ai.tool import ToolCall as InspectCall
from inspect_ai.tool import ToolChoice, ToolInfo

from heartstrings import workflows
from heartstrings.core.engine import Completion, GenerateRequest, Message, Tool, ToolCall
from heartstrings.core.errors import InputError
from heartstrings.core.steering import Steering
from heartstrings.integrations.inspect._batcher import ROWS, Batcher

MAX_TOKENS = 1024
"""New tokens where a task sets no limit."""
_REFUSED = (
    "best_of",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "num_choices",
    "presence_penalty",
    "response_schema",
    "top_k",
)
_STOP: dict[str, StopReason] = {"eos": "stop", "stop": "stop", "length": "max_tokens"}

_engines: dict[tuple[Any, ...], Batcher] = {}
_lock = threading.Lock()


class HeartstringsAPI(ModelAPI):
    """One model under one steering.

    Args (Inspect's model args):
        vectors: a bundle, an atlas, or the folder of a run. Without it the model is unsteered.
        direction: an emotion or a blend; dose: a fraction of the mean residual norm; layer: one or several, default the
            one that the run chose or two thirds of the depth; operation, positions, variant: as for `make_steering`.
        plan: hash of the plan that this belongs to; it goes into every output's metadata, beside the steering.
        revision, dtype, device: of the model.
    Raises:
        InputError: an unknown argument, or a steering that cannot be made.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008 (Inspect's own signature)
        *,
        vectors: str | None = None,
        direction: str | None = None,
        dose: float | int = 0.0,
        layer: Any = None,
        operation: Any = "add",
        positions: Any = "all",
        variant: Any = None,
        plan: str | None = None,
        revision: str | None = None,
        dtype: str = "auto",
        device: str | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        if unknown:
            raise InputError(
                f"model arguments {', '.join(sorted(unknown))}",
                "some of vectors, direction, dose, layer, operation, positions, variant, plan, revision, dtype, device",
            )
        self.batcher = _shared(model_name, revision, dtype, device)
        self.steering = _steering(
            self.batcher,
            vectors,
            direction,
            dose=dose,
            layer=layer,
            operation=operation,
            positions=positions,
            variant=variant,
        )
        self.plan = plan
        self._asked: Counter[str] = Counter()

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """One reply. The request is batched with others that arrive at the same time."""
        request = self.request(input, tools, tool_choice, config)
        future = self.batcher.ask(request)
        # Each request has its own limiter: these threads only wait, and anyio's limit of 40 would keep batches small.
        wait = anyio.CapacityLimiter(1)
        answer = await anyio.to_thread.run_sync(future.result, abandon_on_cancel=True, limiter=wait)
        return self.output(answer)

    def request(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> GenerateRequest:
        """The request to the engine. Settings that the engine does not have are refused."""
        asked_for = [name for name in _REFUSED if getattr(config, name, None) not in (None, False)]
        if asked_for:
            raise InputError(f"{', '.join(asked_for)} asked of a steered model", "temperature, top_p, seed, stop_seqs")
        if tools and tool_choice not in ("auto", "none"):
            raise InputError(f"tool_choice {tool_choice!r}", "auto or none: no call can be forced")
        prompt = tuple(_message(message) for message in input)
        return GenerateRequest(
            prompt,
            max_new_tokens=config.max_tokens or MAX_TOKENS,
            temperature=1.0 if config.temperature is None else config.temperature,
            top_p=1.0 if config.top_p is None else config.top_p,
            seed=self._seed(prompt, config.seed or 0),
            stop=tuple(config.stop_seqs or ()),
            steering=self.steering,
            tools=() if tool_choice == "none" else tuple(_tool(tool) for tool in tools),
        )

    def _seed(self, prompt: tuple[Message, ...], seed: int) -> int:
        """A seed from the conversation and how often it was asked: epochs differ, and all doses use the same draws."""
        text = json.dumps([seed, [(m.role, m.content, [(c.name, c.arguments) for c in m.tool_calls]) for m in prompt]])
        self._asked[text] += 1
        return int.from_bytes(hashlib.sha256(f"{self._asked[text]} {text}".encode()).digest()[:4], "big")

    def output(self, answer: Completion) -> ModelOutput:
        """The completion in Inspect's form, with its steering in the metadata."""
        calls = [
            InspectCall(id=f"call{answer.seed:08x}{place}", function=call.name, arguments=json.loads(call.arguments))
            for place, call in enumerate(answer.tool_calls)
        ]
        message = ChatMessageAssistant(
            content=answer.text, model=self.model_name, source="generate", tool_calls=calls or None
        )
        used = len(answer.token_ids)
        return ModelOutput(
            model=self.model_name,
            choices=[
                ChatCompletionChoice(message=message, stop_reason="tool_calls" if calls else _STOP[answer.finish])
            ],
            usage=ModelUsage(
                input_tokens=answer.n_prompt_tokens, output_tokens=used, total_tokens=answer.n_prompt_tokens + used
            ),
            metadata={
                "steering": None if self.steering is None else self.steering.describe(),
                "plan": self.plan,
                "seed": answer.seed,
                "thinking": answer.thinking,
                "malformed_calls": answer.malformed_calls,
            },
        )

    def max_connections(self) -> int:
        """As many connections as a batch has requests."""
        return ROWS

    def connection_key(self) -> str:
        """Connections are limited for each steering by itself."""
        return f"{self.model_name} {self.steering.describe() if self.steering else 'unsteered'}"


def _shared(model: str, *how: Any) -> Batcher:
    with _lock:
        key = (model, *how)
        if key not in _engines:
            revision, dtype, device = how
            _engines[key] = Batcher(workflows.open_model(model, revision=revision, dtype=dtype, device=device))
        return _engines[key]


def _steering(
    batcher: Batcher,
    vectors: str | None,
    direction: str | None,
    *,
    dose: float | int,
    layer: Any,
    operation: Any,
    positions: Any,
    variant: Any,
) -> Steering | None:
    from heartstrings.vectors.bundle import main_bundle
    from heartstrings.vectors.emotion_vectors import EmotionVectors
    from heartstrings.vectors.steer import make_steering
    from heartstrings.workflows.side_by_side import reported_layers

    if vectors is None and direction is None and not dose:
        return None
    if vectors is None or direction is None:
        raise InputError(
            f"vectors {vectors!r} and direction {direction!r}",
            "both, or neither for the unsteered model",
            "Give -M vectors=FOLDER -M direction=EMOTION",
        )
    if dose == 0 and operation == "add":
        return None
    engine = batcher.engine
    loaded = EmotionVectors.load(main_bundle(Path(vectors)), for_model=engine.info)
    layers = reported_layers(Path(vectors), direction, loaded, engine.info.n_layers) if layer is None else layer
    return make_steering(
        loaded, direction, dose=dose, layers=layers, operation=operation, positions=positions, variant=variant
    )


def _message(message: ChatMessage) -> Message:
    if not isinstance(message.content, str) and any(part.type not in ("text", "reasoning") for part in message.content):
        raise InputError("a message with more than text in it", "text: no images or sounds are read")
    if isinstance(message, ChatMessageTool):
        text = message.text if message.error is None else f"Error: {message.error.message}"
        return Message("tool", text)
    calls: tuple[ToolCall, ...] = ()
    if isinstance(message, ChatMessageAssistant):
        calls = tuple(ToolCall(call.function, json.dumps(call.arguments)) for call in message.tool_calls or ())
    return Message(message.role, message.text, calls)


def _tool(tool: ToolInfo) -> Tool:
    return Tool(tool.name, tool.description, tool.parameters.model_dump_json(exclude_none=True))
