"""The gradient of an outcome against really steered outcomes at tiny doses, and the first-order screen made of it.

Finite differences are central, of engines in float32: a log-probability is rounded by about 1e-6 nats, so a step of
1e-3 leaves 1e-3 of noise; larger steps leave curvature. Each difference may take the best of a few steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

import experiment_world as world
import models
from heartstrings import Intervention, Steering, organisms
from heartstrings.behaviours.base import Behaviour, Compared, Grade, Scenario
from heartstrings.behaviours.suites import suite
from heartstrings.core.engine import Score, ScoreRequest
from heartstrings.core.errors import InputError, ModelError, NumericalError
from heartstrings.core.steering import Positions, Span
from heartstrings.core.types import Pooling, Site
from heartstrings.corpus import Corpus
from heartstrings.engines.hf._gradient import gradient
from heartstrings.engines.hf._session import calibration_norms
from heartstrings.engines.hf.engine import TorchEngine
from heartstrings.experiment.controls import DirectionSet, direction_set, read_story_activations
from heartstrings.experiment.ledger import Cell
from heartstrings.experiment.plan import Plan
from heartstrings.experiment.screen import first_order, outcome_gradient
from heartstrings.vectors.bundle import load as load_bundle
from heartstrings.vectors.extraction import extract
from steered_reference import assert_untouched, state_of

PROMPTS = ("The rain had stopped before she reached the harbour.", "A train", "He counted the coins twice. " * 3)
TAILS = (" yes", " the cups on the shelf", "?")
STEPS = (0.01, 0.002)
"""Of the residual stream, whose norm is about 1 to 10 in the random models."""
ROUTED = ("gemma4_moe", "gpt_oss", "mixtral")
"""Families that choose experts: where a step changes the choice, the outcome jumps and no gradient tells."""
KINKED = ("opt", "opt_post_norm")
"""ReLU: a step over a kink, where it matters, is a few percent off (in float64, with steps of 1e-6, it is not)."""


def drawn_slopes(scores: Sequence[Score], seed: int) -> list[list[np.ndarray]]:
    """An outcome that is a random weighted sum of all token log-probabilities."""
    draw = np.random.default_rng(seed)
    return [[draw.standard_normal(len(tokens)) for tokens in score.token_logprobs] for score in scores]


def unit(draw: np.random.Generator, width: int) -> np.ndarray:
    row = draw.standard_normal(width).astype(np.float32)
    return row / np.float32(np.linalg.norm(row))


def errors(
    engine: TorchEngine, sites: Sequence[Site], kinds: Sequence[Positions], layers: tuple[int, ...]
) -> np.ndarray:
    """|finite difference - gradient|, relative to the largest over prompts (0.1 at least), at the best of the steps."""
    draw, found = np.random.default_rng(0), []
    for site in sites:
        for positions in kinds:
            # A single token is predicted and not fed, so it cannot be steered as generated.
            tails = TAILS[1:2] if positions == "generated" else TAILS
            requests = [ScoreRequest(prompt, tails) for prompt in PROMPTS]
            slopes = drawn_slopes(engine.score(requests), seed=1)
            values = gradient(engine, requests, slopes, layers=layers, positions=positions, site=site)
            rows = [unit(draw, engine.info.width) for _ in layers]
            steered = [
                ScoreRequest(prompt, tails, Steering((Intervention(layer, row, size, 1.0, "add", site),), positions))
                for layer, row in zip(layers, rows, strict=True) for step in STEPS for size in (step, -step)
                for prompt in PROMPTS
            ]  # fmt: skip
            sums = [
                sum(float(a @ b) for a, b in zip(own, score.token_logprobs, strict=True))
                for own, score in zip(slopes * (len(steered) // len(PROMPTS)), engine.score(steered), strict=True)
            ]
            up, down = np.moveaxis(np.reshape(sums, (len(layers), len(STEPS), 2, len(PROMPTS))), 2, 0)
            differences = (up - down) / (2 * np.array(STEPS)[:, None])
            for column, row in enumerate(rows):
                expected = values[:, column] @ row
                best = np.abs(differences[column] - expected).min(axis=0)
                found.append(best / max(0.1, float(np.abs(expected).max())))
    return np.array(found)


def test_every_site_and_position_of_a_llama() -> None:
    engine = models.engine("llama")
    before = state_of(engine.model)
    frozen = next(engine.model.parameters())
    frozen.requires_grad_(False)
    worst = errors(
        engine, ("block", "attention", "mlp"), ("all", "prompt", "generated", Span(1, 4), Span(2)), (0, 2, 3)
    )
    assert worst.max() < 2e-3
    assert_untouched(engine.model, before)
    assert not frozen.requires_grad
    assert all(one.requires_grad and one.grad is None for one in list(engine.model.parameters())[1:])


@pytest.mark.parametrize("family", ["gpt2", "gemma4", "opt"])
def test_other_families(family: str) -> None:
    assert errors(models.engine(family), ("block",), ("all", "prompt"), (0, 2)).max() < 0.03  # OPT has kinks: ReLU


@pytest.mark.slow
@pytest.mark.parametrize("family", models.DECODERS)
def test_every_family(family: str) -> None:
    found = errors(models.engine(family), ("block", "attention", "mlp"), ("all", "prompt", "generated"), (0, 2, 3))
    least = 0.9 if family in ROUTED else 0.95 if family in KINKED else 1.0
    assert (found < 0.03).mean() >= least, np.sort(found.ravel())[-5:]


@pytest.mark.parametrize("family", ["gpt2", "opt_post_norm"])  # RMS norms compute in float32 whatever the dtype
def test_in_double_precision(family: str) -> None:
    """Steps of 1e-6 in a float64 model, with a hook and a forward pass of our own: equal to 5 digits."""
    model = models.model(family).double()
    engine = TorchEngine.from_model(model, models.tokenizer())
    start, end = (
        engine.tokenizer(text, add_special_tokens=not at)["input_ids"] for at, text in enumerate((PROMPTS[0], TAILS[1]))
    )
    draw = np.random.default_rng(0)
    slopes = draw.standard_normal(len(end))
    found = gradient(engine, [ScoreRequest(PROMPTS[0], TAILS[1:2])], [[slopes]], layers=(0, 2))[0]
    for column, layer in enumerate((0, 2)):
        row, sums = draw.standard_normal(engine.info.width), []
        for step in (1e-6, -1e-6):
            add = torch.from_numpy(step * row)
            handle = engine.parts.blocks[layer].register_forward_hook(
                lambda _m, _i, out, add=add: (out[0] + add, *out[1:]) if isinstance(out, tuple) else out + add
            )
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([start + end[:-1]])).logits[0].log_softmax(-1)
            handle.remove()
            places = range(len(start) - 1, len(start) + len(end) - 1)
            sums.append(float(logits[list(places), end].numpy() @ slopes))
        assert (sums[0] - sums[1]) / 2e-6 == pytest.approx(found[column] @ row, rel=1e-5, abs=1e-6)


def test_batches_change_nothing() -> None:
    """Alone or padded, in slabs or whole."""
    from heartstrings.engines.hf import _gradient as torch_gradient

    engine = models.engine("qwen2")
    requests = [ScoreRequest(text, TAILS) for text in (*PROMPTS, *models.stories(3))]
    slopes = drawn_slopes(engine.score(requests), seed=2)
    together = gradient(engine, requests, slopes, layers=(1, 3))
    alone = np.concatenate(
        [
            gradient(engine, [one], [own], layers=(1, 3), token_budget=1)
            for one, own in zip(requests, slopes, strict=True)
        ]
    )
    assert np.abs(together - alone).max() < 1e-4 * np.abs(alone).max()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_gradient, "_SLAB", 3)
        assert np.abs(gradient(engine, requests, slopes, layers=(1, 3)) - together).max() < 1e-4 * np.abs(alone).max()
    swapped = gradient(engine, requests, slopes, layers=(3, 1))
    assert np.abs(swapped[:, ::-1] - together).max() < 1e-4 * np.abs(alone).max()


# Outcomes


def outcomes(engine: Any, behaviour: Behaviour, scenarios: Sequence[Scenario], steering: Steering | None) -> np.ndarray:
    answers = engine.score([cast(ScoreRequest, behaviour.request(one, steering=steering, seed=0)) for one in scenarios])
    seconds: list[Any] = [None] * len(answers)
    if isinstance(behaviour, Compared):
        seconds = engine.score([behaviour.against(one, steering=steering) for one in scenarios])
    return np.array(
        [
            behaviour.grade(one, answer, second).outcome
            for one, answer, second in zip(scenarios, answers, seconds, strict=True)
        ]
    )


@pytest.fixture(scope="module")
def engine() -> TorchEngine:
    return cast(TorchEngine, world.engine())


@pytest.mark.parametrize("positions", ["all", "prompt"])
def test_outcomes_of_the_organism(engine: TorchEngine, positions: Positions) -> None:
    """Dose 0.01 of the residual norm; outcomes are probabilities. 1% of the largest change is allowed."""
    behaviour, layers = suite("organism").behaviour("choice"), (0, 3, engine.info.n_layers - 1)
    scenarios = behaviour.scenarios(n=6, seed=0)
    found = outcome_gradient(engine, behaviour, scenarios, layers=layers, positions=positions)
    assert found.outcomes == pytest.approx(outcomes(engine, behaviour, scenarios, None), abs=1e-6)
    norms, draw = calibration_norms(engine, engine.parts, "block"), np.random.default_rng(1)
    for column, layer in enumerate(layers):
        row, norm = unit(draw, engine.info.width), float(norms[layer])
        up, down = (
            outcomes(engine, behaviour, scenarios, Steering((Intervention(layer, row, dose, norm),), positions))
            for dose in (0.01, -0.01)
        )
        expected = 0.02 * norm * (found.values[:, column] @ row)
        assert np.abs(up - down - expected).max() < 0.01 * np.abs(expected).max() + 2e-6
        assert found.mean[column] @ row * 0.02 * norm == pytest.approx(expected.mean())


def test_outcomes_that_are_held_against_a_premise() -> None:
    """Options of several tokens, and a second request whose steering counts too."""
    engine = models.engine("llama")
    behaviour = suite("text").behaviour("vignette-honesty")
    assert isinstance(behaviour, Compared)
    scenarios = behaviour.scenarios(n=3, seed=0)
    found = outcome_gradient(engine, behaviour, scenarios, layers=(1, 3))
    draw = np.random.default_rng(2)
    for column, layer in enumerate((1, 3)):
        row = unit(draw, engine.info.width)
        expected, best = found.values[:, column] @ row, np.full(len(scenarios), np.inf)
        for step in (0.03, 0.01):
            up, down = (
                outcomes(engine, behaviour, scenarios, Steering((Intervention(layer, row, size, 1.0),)))
                for size in (step, -step)
            )
            best = np.minimum(best, np.abs((up - down) / (2 * step) - expected))
        assert (best < 0.02 * np.abs(expected).max() + 1e-5).all()


def test_an_outcome_that_is_missing_or_a_step(engine: TorchEngine) -> None:
    behaviour = suite("organism").behaviour("choice")
    scenarios = behaviour.scenarios(n=4, seed=0)

    class Some(type(behaviour)):  # type: ignore[misc]
        """Grades one scenario only."""

        def grade(self, scenario: Scenario, answer: Any, follow_up: Score | None = None) -> Grade:
            graded = behaviour.grade(scenario, answer)
            return graded if scenario.id == scenarios[2].id else replace(graded, outcome=None)

    found = outcome_gradient(engine, Some(), scenarios, layers=(2,))
    whole = outcome_gradient(engine, behaviour, scenarios[2:3], layers=(2,))
    assert np.isnan(found.outcomes).tolist() == [True, True, False, True]
    assert np.isnan(found.values).all(axis=(1, 2)).tolist() == [True, True, False, True]
    assert found.mean == pytest.approx(whole.mean, rel=1e-3, abs=1e-9)
    with pytest.raises(InputError, match="no scenario with an outcome"):
        _ = outcome_gradient(engine, Some(), scenarios[:2], layers=(2,)).mean
    capability = next(one for one in suite("organism").all if one.role == "capability" and one.ask == "choice")
    flat = outcome_gradient(engine, capability, capability.scenarios(n=3, seed=0), layers=(2,))
    assert not flat.values.any(), "right or wrong is a step"


# What cannot be done


def test_refused(engine: TorchEngine) -> None:
    behaviour = suite("organism").behaviour("choice")
    scenarios = behaviour.scenarios(n=2, seed=0)
    request = cast(ScoreRequest, behaviour.request(scenarios[0], steering=None, seed=0))
    slopes = drawn_slopes(engine.score([request]), seed=0)
    verbs = ("info", "pool", "read", "score", "generate", "count_tokens", "unembed", "token_strings")
    other: Any = SimpleNamespace(**{verb: getattr(engine, verb) for verb in verbs})
    with pytest.raises(InputError, match=r"gradient of SimpleNamespace.*transformers engine"):
        outcome_gradient(other, behaviour, scenarios, layers=(0,))
    with pytest.raises(InputError, match="layers from 0 to 5"):
        gradient(engine, [request], [slopes[0]], layers=(6,))
    with pytest.raises(InputError, match="slopes of"):
        gradient(engine, [request], [slopes[0][:1]], layers=(0,))
    with pytest.raises(InputError, match="steers no token"):
        gradient(engine, [request], [slopes[0]], layers=(0,), positions="generated")
    steered = ScoreRequest("a", (" b",), Steering((Intervention(0, np.ones(engine.info.width, np.float32), 1, 1),)))
    with pytest.raises(InputError, match="is steered"):
        gradient(engine, [steered], [[np.ones(1)]], layers=(0,))
    writing = next(one for one in suite("organism").all if one.ask == "text")
    with pytest.raises(InputError, match="sampled text"):
        outcome_gradient(engine, writing, writing.scenarios(n=1, seed=0), layers=(0,))
    with pytest.raises(ModelError, match="no next token"):
        gradient(models.engine("bert"), [ScoreRequest("a", ("b",))], [[np.ones(1)]], layers=(0,))


def test_a_model_that_autograd_cannot_go_through() -> None:
    engine = models.engine("llama")
    request = ScoreRequest(PROMPTS[0], TAILS[:1])
    slopes = drawn_slopes(engine.score([request]), seed=0)

    class OneWay(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, state: torch.Tensor) -> torch.Tensor:
            return state.clone()

    cut = engine.parts.blocks[2].register_forward_hook(lambda _m, _i, out: OneWay.apply(out))
    with pytest.raises(InputError, match="autograd cannot go through LlamaModel"):
        gradient(engine, [request], slopes, layers=(1,))
    cut.remove()
    lost = engine.parts.blocks[2].register_forward_hook(lambda _m, _i, out: out.detach())
    with pytest.raises(InputError, match="autograd cannot go through LlamaModel"):
        gradient(engine, [request], slopes, layers=(1,))
    lost.remove()
    broken = engine.parts.blocks[2].register_forward_hook(lambda _m, _i, out: out * float("inf"))
    with pytest.raises(NumericalError, match="request 0"):
        gradient(engine, [request], slopes, layers=(1,))
    broken.remove()
    assert np.isfinite(gradient(engine, [request], slopes, layers=(1,))).all()


# The screen


@pytest.fixture(scope="module")
def directions(engine: TorchEngine, tmp_path_factory: pytest.TempPathFactory) -> DirectionSet:
    """Of eight emotions told of five topics each, at two layers, with 40 topic and 40 natural controls."""
    out = tmp_path_factory.mktemp("crossed") / "out"
    every = organisms.stories(per_emotion=5)
    some = tuple(story for story in every.stories if story.emotion in world.EMOTIONS)
    extract(
        engine, Corpus(some, author=every.author, source=every.source), out=out, neutral=organisms.neutral(n=40),
        poolings=(Pooling(start=50),), layers=(2, 3), keep_activations=True,
    )  # fmt: skip
    vectors = load_bundle(out)
    return direction_set(plan(), vectors, layers=(2, 3), stories=read_story_activations(out, vectors))


def plan(**changes: Any) -> Plan:
    controls = {"general": 0, "span": 0, "topic": 40, "natural": 40, "shuffled": 0}
    return world.plan(controls=controls, doses=(-0.1, 0.0, 0.1), slope_within=0.1, **changes)


def exact(
    engine: TorchEngine, of: DirectionSet, layers: Mapping[str, int], scenarios: Sequence[Scenario]
) -> np.ndarray:
    """The change that the experiment measures, from the lowest to the highest dose, of controls at their layers."""
    behaviour, requests = suite("organism").behaviour("choice"), []
    for name, layer in layers.items():
        for dose in (-0.1, 0.1):
            kind = cast(Any, name.partition("/")[0])
            cell = Cell(phase="test", behaviour="choice", kind=kind, direction=name, layer=layer, dose=dose)
            steering = of.steering(cell, of.plan)
            requests += [cast(ScoreRequest, behaviour.request(one, steering=steering, seed=0)) for one in scenarios]
    graded = [
        behaviour.grade(scenarios[at % len(scenarios)], score).outcome
        for at, score in enumerate(engine.score(requests))
    ]
    low, high = np.array(graded, dtype=np.float64).reshape(len(layers), 2, -1).mean(axis=2).T
    found: np.ndarray = high - low
    return found


def test_scores_go_with_exact_effects(engine: TorchEngine, directions: DirectionSet) -> None:
    """40 controls of each kind at the layer where each scores most, scenarios of the other half."""
    behaviour = suite("organism").behaviour("choice")
    asked = behaviour.scenarios(n=14, seed=0)
    screen = first_order(engine, plan(), behaviour, asked[:8], directions, (2, 3))
    assert screen.n_scenarios == 8
    assert list(screen.by_layer) == ["desperate", *(f"{kind}/{n}" for kind in ("topic", "natural") for n in range(40))]
    for kind in ("topic", "natural"):
        names = directions.controls(cast(Any, kind), "desperate")
        layers = {name: screen.layers[int(np.abs(screen.by_layer[name]).argmax())] for name in names}
        true = exact(engine, directions, layers, asked[8:])
        scores = screen.pool("desperate", names)[1:]
        r, rank = float(np.corrcoef(scores, true)[0, 1]), float(spearmanr(abs(scores), abs(true)).statistic)
        print(f"{kind}: correlation {r:.2f}, of sizes (ranks) {rank:.2f}, exact sd {true.std():.4f}")
        assert r > 0.6
        assert rank > 0.3


def test_scores_by_hand(engine: TorchEngine, directions: DirectionSet) -> None:
    behaviour = suite("organism").behaviour("choice")
    scenarios = behaviour.scenarios(n=3, seed=0)
    screen = first_order(engine, plan(), behaviour, scenarios, directions, (3, 2))
    slope = outcome_gradient(engine, behaviour, scenarios, layers=(3, 2)).mean
    norms = directions.vectors.norms
    assert norms is not None
    for kind, name in (("direction", "desperate"), ("natural", "natural/7"), ("topic", "topic/0")):
        by_layer = [
            0.2
            * norms[directions.vectors.layers.index(layer)]
            * directions.vector(cast(Any, kind), name, layer)[0]
            @ row
            for layer, row in zip((3, 2), slope, strict=True)
        ]
        assert screen.by_layer[name] == pytest.approx(by_layer, rel=1e-4)
        assert screen.scores[name] == pytest.approx(max(by_layer, key=abs), rel=1e-4)
    again = first_order(engine, plan(), behaviour, scenarios, directions, (3, 2))
    assert again.by_layer == screen.by_layer
    assert screen.pool("desperate", ["natural/3"]).tolist() == [screen.scores["desperate"], screen.scores["natural/3"]]
    with pytest.raises(InputError, match="no score of natural/99"):
        screen.pool("desperate", ["natural/99"])
    with pytest.raises(InputError, match="operation 'clamp'"):
        first_order(engine, plan(operation="clamp"), behaviour, scenarios, directions, (2,))
