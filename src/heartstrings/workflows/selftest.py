"""Equality checks on a user's own model: is it read and steered as the documentation says?

What the engine does in batches, with padding, a cache and shared work is compared with a reference that has none of
them: one text, one pass, and one hook that adds the vector by the formula. The idea is that of nnterp's tests at
loading (Dumas 2025, "nnterp", arXiv 2511.14465).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from heartstrings.core.engine import GenerateRequest, ScoreRequest
from heartstrings.core.errors import HeartstringsError, InputError, NumericalError
from heartstrings.core.steering import Intervention, Span, Steering
from heartstrings.corpus import calibration_texts
from heartstrings.engines.hf import run
from heartstrings.engines.hf.text import encode_continuation, encode_prompt
from heartstrings.workflows.atlas import opened
from heartstrings.workflows.values import Progress, silent

if TYPE_CHECKING:
    from heartstrings.engines.hf.engine import TorchEngine

STATES = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}
"""Allowed differences of residual states, as a share of the largest state, by dtype."""
LOGPROBS = {"float32": 2e-3, "float16": 5e-2, "bfloat16": 3e-1}
"""Allowed differences of log-probabilities in nats, by dtype."""
CLEAR = 5
"""Steering has to move the log-probabilities by this many times the allowed difference, or they show nothing."""
DOSES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Fractions of the mean residual norm, of which the first is taken that moves the log-probabilities that far."""
CONTINUATION = " and then it was over"
NEW_TOKENS = 5


@dataclass(frozen=True)
class SelfTestCheck:
    """One check."""

    name: str
    passed: bool
    measured: float | None
    """The largest difference found; None where the check could not be made."""
    allowed: float
    """The largest difference that passes; 0: the bits have to be equal."""
    unit: str
    note: str = ""
    """Why the check could not be made, or what was compared."""


@dataclass(frozen=True)
class SelfTest:
    """What the checks found on one model."""

    model: str
    dtype: str
    layer: int
    """The steered block."""
    dose: float
    checks: tuple[SelfTestCheck, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)


def check_model(
    model: Any,
    *,
    layer: int | None = None,
    revision: str | None = None,
    dtype: str = "auto",
    device: str | None = None,
    progress: Progress = silent,
) -> SelfTest:
    """See `heartstrings.selftest`."""
    engine = opened(model, revision=revision, dtype=dtype, device=device, progress=progress)
    if layer is None:
        layer = engine.info.n_layers // 2 - (engine.info.n_layers > 1)
    if not 0 <= layer < engine.info.n_layers:
        raise InputError(f"--layer {layer}", f"0 to {engine.info.n_layers - 1}")
    checks = []
    with _evaluated(engine):
        probe = _Probe(engine, layer)  # type: ignore[arg-type]
        plan = probe.checks()
        for number, (name, allowed, unit, check) in enumerate(plan):
            progress(f"checking {engine.info.model_id}", number, len(plan))
            checks.append(_made(name, allowed, unit, check))
    return SelfTest(engine.info.model_id, engine.info.dtype, layer, probe.dose, tuple(checks))


@contextlib.contextmanager
def _evaluated(engine: Any) -> Iterator[None]:
    """Without dropout, as the engine itself runs the model."""
    training = [module for module in engine.model.modules() if module.training]
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True


def _made(name: str, allowed: float, unit: str, check: Callable[[], float]) -> SelfTestCheck:
    try:
        measured = check()
    except HeartstringsError as error:  # the engine refuses to go on when it notices that steering went wrong
        return SelfTestCheck(name, False, None, allowed, unit, str(error))
    except Exception as error:  # whatever a user's own model raises is a finding, and the other checks are still made
        return SelfTestCheck(name, False, None, allowed, unit, f"{type(error).__name__}: {error}")
    if math.isnan(measured):
        return SelfTestCheck(name, False, None, allowed, unit, "NaN was found")
    return SelfTestCheck(name, measured <= allowed, measured, allowed, unit)


class _Probe:
    """A loaded model with texts, a random direction, and the reference."""

    def __init__(self, engine: TorchEngine, layer: int) -> None:
        self.engine, self.layer = engine, layer
        words = (30, 9, 17)  # texts of several lengths, so that batches are padded
        self.texts = [
            " ".join(text.split()[:length]) for text, length in zip(calibration_texts().texts, words, strict=False)
        ]
        vocabulary = engine.parts.vocabulary
        self.prompts = [
            encode_prompt(engine.tokenizer, text, vocabulary=vocabulary, reply=True).ids for text in self.texts
        ]
        self.tail = encode_continuation(engine.tokenizer, CONTINUATION, vocabulary=vocabulary)
        draws = np.random.default_rng(0).normal(size=engine.info.width)
        self.unit = (draws / np.linalg.norm(draws)).astype(np.float32)
        # The mean residual norm at the layer is enough of a unit here; the one of a bundle is over more texts.
        states = self.residual(self.prompts[0])
        self.norm = float(states.norm(dim=-1).median())
        self.dose = DOSES[0]
        with contextlib.suppress(Exception):  # the check of the hidden states tells what was raised
            self.hidden_states()  # transformers adds hooks of its own the first time that it is asked for these
        self.logits_before, self.hooks_before = self.logits(self.prompts[0]), self._hooks()
        self.predicts = not engine.info.is_encoder and engine.parts.head is not None

    def checks(self) -> list[tuple[str, float, str, Callable[[], float]]]:
        """Name, allowed difference, its unit, and the function that measures it."""
        states, logprobs = STATES.get(self.engine.info.dtype, 0.05), LOGPROBS.get(self.engine.info.dtype, 0.3)
        share, nats = "of the largest state", "nats"
        checks: list[tuple[str, float, str, Callable[[], float]]] = [
            ("blocks run once each, in order", 0, "blocks", self.blocks),
            ("states read at the blocks are transformers' hidden states", states, share, self.hidden_states),
        ]
        if self.predicts:
            checks.append(("steering moves the log-probabilities", 0, f"{nats} too little", self.choose_dose))
        checks += [
            ("model.steered: dose 0 changes no bit", 0, "logits", self.session_dose_0),
            ("model.steered: the residual moves by what was asked", states, "of what was asked", self.session_moves),
            ("model.steered: nothing moves at other tokens, or before", 0, "residual units", self.session_elsewhere),
        ]
        if self.predicts:
            checks += [
                ("model.steered: a KV cache changes nothing", logprobs, nats, self.session_cache),
                ("score: dose 0 changes no bit", 0, nats, self.score_dose_0),
                ("score: the residual moves by what was asked", states, "of what was asked", self.score_moves),
                ("score: nothing moves at other tokens, or before", 0, "residual units", self.score_elsewhere),
                ("score: every row of a batch is as the reference", logprobs, nats, self.score_reference),
                ("score: a text in a batch is as the text alone", logprobs, nats, self.score_composition),
                ("score: padding changes nothing", logprobs, nats, self.score_padding),
                ("generate: a KV cache changes nothing", logprobs, nats, self.generate_cache),
                ("generate: padding and other rows change nothing", logprobs, nats, self.generate_batch),
            ]
        return [*checks, ("afterwards the model is as before", 0, "logits", self.unchanged)]

    # The reference

    @property
    def size(self) -> float:
        """Length of the vector that is added."""
        return self.dose * self.norm

    def steering(self, sign: int = 1, positions: Any = "all") -> Steering:
        intervention = Intervention(self.layer, self.unit, sign * self.dose, self.norm, label="a random direction")
        return Steering((intervention,), positions)

    @contextlib.contextmanager
    def added(self, sign: int, start: int = 0, stop: int | None = None) -> Iterator[None]:
        """One hook of our own that adds the vector to tokens `start` to `stop - 1` of single texts."""
        change = sign * self.size * torch.from_numpy(self.unit).to(self.engine.info.device)

        def hook(_module: Any, _inputs: Any, output: Any) -> Any:
            state = (output[0] if isinstance(output, tuple) else output).clone()
            state[:, start:stop] = (state[:, start:stop].float() + change.to(state.device)).to(state.dtype)
            return (state, *output[1:]) if isinstance(output, tuple) else state

        handle = self.engine.parts.blocks[self.layer].register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()

    @property
    def without_cache(self) -> dict[str, Any]:
        return {} if self.engine.info.is_encoder else {"use_cache": False}

    def fed(self, ids: Any) -> torch.Tensor:
        """Token ids as a model takes them, [1, token]."""
        return torch.as_tensor(np.asarray(ids, np.int64), device=self.engine.info.device)[None]

    def logits(self, ids: Any) -> torch.Tensor:
        """[token, vocabulary] of one text: what the model gives in one pass, without a cache."""
        with torch.no_grad():
            output = self.engine.model(input_ids=self.fed(ids), **self.without_cache)
        logits: torch.Tensor = output.logits[0] if hasattr(output, "logits") else output.last_hidden_state[0]
        return logits.float()

    def reference(self, ids: Any, sign: int) -> torch.Tensor:
        """[token, vocabulary] log-probabilities of one text, steered by the formula at every token."""
        with self.added(sign) if sign else contextlib.nullcontext():
            return self.logits(ids).log_softmax(dim=-1)

    @contextlib.contextmanager
    def seen(self) -> Iterator[dict[int, torch.Tensor]]:
        """The state that arrives at the module after each block, by block."""
        parts, states, handles = self.engine.parts, {}, []

        def keep(block: int) -> Callable[..., None]:
            def hook(_module: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
                states[block] = (inputs[0] if inputs else named["hidden_states"]).detach().clone()

            return hook

        after = [*parts.blocks[1:], *([parts.final_norm] if parts.final_norm is not None else [])]
        try:
            for block, module in enumerate(after):
                handles.append(module.register_forward_pre_hook(keep(block), with_kwargs=True))
            yield states
        finally:
            for handle in handles:
                handle.remove()

    def residual(self, ids: Any) -> torch.Tensor:
        """[token, width]: the unsteered residual after the steered block."""
        with self.seen() as states:
            self.logits(ids)
        return states[self.layer][0].float()

    def choose_dose(self) -> float:
        """Takes the first dose that moves the log-probabilities of a text far enough for the later checks.

        Raises:
            NumericalError: no dose does, so that log-probabilities would agree with any steering.
        """
        least = CLEAR * LOGPROBS.get(self.engine.info.dtype, 0.3)
        before = self.reference(self.prompts[0], 0)
        for dose in DOSES:
            self.dose = dose
            moved = float((self.reference(self.prompts[0], 1) - before).abs().max())
            if math.isnan(moved):
                return moved
            if moved > least:
                return 0.0
        raise NumericalError(
            f"a dose of {DOSES[-1]:g} along a random direction moves the log-probabilities by {moved:.2g} nats",
            f"more than {least:.2g}",
            "Choose another --layer: here the checks of log-probabilities show nothing",
        )

    # Reading

    def blocks(self) -> float:
        order: list[int] = []
        handles = [
            block.register_forward_hook(lambda *_, number=number: order.append(number))
            for number, block in enumerate(self.engine.parts.blocks)
        ]
        try:
            self.logits(self.prompts[0])
        finally:
            for handle in handles:
                handle.remove()
        expected = list(range(self.engine.parts.config.num_hidden_layers))
        return float(abs(len(order) - len(expected)) or sum(a != b for a, b in zip(order, expected, strict=True)))

    def hidden_states(self) -> float:
        parts, ids = self.engine.parts, self.fed(self.prompts[0])
        read: dict[int, torch.Tensor] = {}
        with run.evaluating(parts.text_model):
            mask = torch.ones_like(ids, dtype=torch.bool)
            run.run_layers(parts, range(parts.n_layers), "block", lambda at, state: read.update({at: state}), ids, mask)
            theirs = parts.text_model(input_ids=ids, output_hidden_states=True, **self.without_cache).hidden_states
            if parts.final_norm is not None:  # theirs is after the norm
                read[parts.n_layers - 1] = parts.final_norm(read[parts.n_layers - 1])
        return max(_share(read[block], theirs[block + 1]) for block in range(parts.n_layers))

    # model.steered

    def session_dose_0(self) -> float:
        before = self.logits(self.prompts[0])
        with self.engine.steered(Steering((Intervention(self.layer, self.unit, 0.0, self.norm),))):
            return float((self.logits(self.prompts[0]) - before).abs().max())

    def _in_session(self) -> tuple[dict[int, torch.Tensor], dict[int, torch.Tensor]]:
        with self.seen() as before:
            self.logits(self.prompts[0])
        with self.engine.steered(self.steering(1, Span(2, 5))), self.seen() as after:
            self.logits(self.prompts[0])
        return before, after

    def session_moves(self) -> float:
        return self._moves(*self._in_session())

    def session_elsewhere(self) -> float:
        return self._elsewhere(*self._in_session())

    def session_cache(self) -> float:
        ids, n = np.concatenate([self.prompts[0], self.tail]), len(self.prompts[0])
        fed, steps, cache = self.fed(ids), [], None
        model, name = self.engine.model, run.cache_argument(self.engine.model)
        with self.engine.steered(self.steering()), torch.no_grad():
            for start, stop in [(0, n), *((at, at + 1) for at in range(n, len(ids)))]:
                output = model(input_ids=fed[:, start:stop], use_cache=True, **({} if cache is None else {name: cache}))
                cache = run.cache_of(output)
                steps.append(output.logits[0].float().log_softmax(dim=-1))
        return _apart(torch.cat(steps), self.reference(ids, 1))

    def _moves(self, before: dict[int, torch.Tensor], after: dict[int, torch.Tensor]) -> float:
        """How far the change of tokens 2 to 4 is from what was asked, as a share of it."""
        asked = self.size * torch.from_numpy(self.unit)
        moved = after[self.layer][0, 2:5].float().cpu() - before[self.layer][0, 2:5].float().cpu()
        rounding = float(before[self.layer].float().norm(dim=-1).max()) / self.size
        return float((moved - asked).norm(dim=-1).max()) / self.size / max(1.0, rounding)

    def _elsewhere(self, before: dict[int, torch.Tensor], after: dict[int, torch.Tensor]) -> float:
        """The largest change at other tokens of the steered block, and anywhere in the blocks before."""
        here = (after[self.layer] - before[self.layer])[0].float().abs()
        other = torch.cat([here[:2], here[5:]])
        earlier = [float((after[block] - before[block]).abs().max()) for block in range(self.layer)]
        return max([float(other.max()), *earlier])

    # score

    def request(self, text: int, sign: int, positions: Any = "all") -> ScoreRequest:
        steering = self.steering(sign, positions) if sign else None
        return ScoreRequest(self.texts[text], (CONTINUATION,), steering)

    def scored(self, requests: Sequence[ScoreRequest]) -> list[Any]:
        return [score.token_logprobs[0] for score in self.engine.score(requests)]

    def score_dose_0(self) -> float:
        none = Steering((Intervention(self.layer, self.unit, 0.0, self.norm),))
        (plain,), (zero,) = (
            self.scored([ScoreRequest(self.texts[0], (CONTINUATION,), steering)]) for steering in (None, none)
        )
        return _apart(plain, zero)

    def _in_score(self) -> tuple[dict[int, torch.Tensor], dict[int, torch.Tensor]]:
        per_sign = []
        for sign in (0, 1):
            with self.seen() as states:
                self.scored([self.request(0, sign, Span(2, 5))])
            per_sign.append(states)
        return per_sign[0], per_sign[1]

    def score_moves(self) -> float:
        return self._moves(*self._in_score())

    def score_elsewhere(self) -> float:
        return self._elsewhere(*self._in_score())

    def score_reference(self) -> float:
        pairs = [(text, sign) for text in range(len(self.texts)) for sign in (1, 0, -1)]
        scored = self.scored([self.request(*pair) for pair in pairs])
        return max(
            _apart(logprobs, self._tail_of(text, sign)) for logprobs, (text, sign) in zip(scored, pairs, strict=True)
        )

    def _tail_of(self, text: int, sign: int) -> Any:
        """The reference's log-probabilities of the continuation, a number a token."""
        n = len(self.prompts[text])
        logprobs = self.reference(np.concatenate([self.prompts[text], self.tail]), sign)
        return np.array([float(logprobs[n - 1 + at, token]) for at, token in enumerate(self.tail)])

    def score_composition(self) -> float:
        asked = [self.request(0, sign) for sign in (1, 0, -1)]
        alone = [self.scored([request])[0] for request in asked]
        return max(_apart(batched, single) for batched, single in zip(self.scored(asked), alone, strict=True))

    def score_padding(self) -> float:
        short = self.request(1, 1)
        (alone,), (padded, _) = self.scored([short]), self.scored([short, self.request(0, 1)])
        return _apart(alone, padded)

    # generate

    def generate_request(self, text: int, sign: int) -> GenerateRequest:
        return GenerateRequest(
            self.texts[text], max_new_tokens=NEW_TOKENS, temperature=0, steering=self.steering(sign) if sign else None
        )

    def generate_cache(self) -> float:
        """The logits of every step of one steered text against those of one pass over the whole of it."""
        head, steps = self.engine.parts.head, []
        assert head is not None
        handle = head.register_forward_hook(lambda *call: steps.append(call[2].detach().flatten(0, -2)[-1]))
        try:
            (made,) = self.engine.generate([self.generate_request(0, 1)])
            cached = torch.stack(steps[: len(made.token_ids)]).float()
            steps.clear()
            with self.added(1):
                for number in range(len(made.token_ids)):
                    self.logits([*self.prompts[0].tolist(), *made.token_ids[:number]])
        finally:
            handle.remove()
        return _apart(cached.log_softmax(dim=-1), torch.stack(steps).float().log_softmax(dim=-1))

    def generate_batch(self) -> float:
        """How far below the likeliest token of the reference the chosen ones are, over rows of several lengths."""
        pairs = [(text, sign) for text in range(len(self.texts)) for sign in (1, 0, -1)]
        worst = 0.0
        made = self.engine.generate([self.generate_request(*pair) for pair in pairs])
        for completion, (text, sign) in zip(made, pairs, strict=True):
            n, chosen = len(self.prompts[text]), list(completion.token_ids)
            logprobs = self.reference(self.prompts[text].tolist() + chosen, sign)[n - 1 : n - 1 + len(chosen)]
            taken = logprobs[list(range(len(chosen))), chosen]
            worst = max(worst, float((logprobs.max(dim=-1).values - taken).max()))
        return worst

    # Afterwards

    def unchanged(self) -> float:
        left = self._hooks() - self.hooks_before
        return float(left) or _apart(self.logits(self.prompts[0]), self.logits_before)

    def _hooks(self) -> int:
        kinds = ("_forward_hooks", "_forward_pre_hooks")
        return sum(len(getattr(module, kind)) for module in self.engine.model.modules() for kind in kinds)


def _share(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return float((actual.float() - expected.float()).abs().max()) / (float(expected.float().abs().max()) or 1.0)


def _apart(first: Any, second: Any) -> float:
    """The largest difference of two arrays; infinite where they cannot be compared."""
    if first.shape != second.shape:
        return math.inf
    return float(abs(first - second).max())
