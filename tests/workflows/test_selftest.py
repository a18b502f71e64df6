"""The self-test passes on models that are read and steered as documented, and fails where a fault is planted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

import heartstrings as hs
import models
from heartstrings.cli import _console as console
from heartstrings.cli import _summary as summary
from heartstrings.core.errors import InputError
from heartstrings.engines.hf import _generate as generate
from heartstrings.engines.hf import _score as score
from heartstrings.engines.hf import _session as session
from heartstrings.engines.hf import _steer as steer
from heartstrings.engines.hf import run
from heartstrings.engines.hf._architecture import Architecture
from heartstrings.workflows.selftest import LOGPROBS, STATES, SelfTest, _Probe

CHECKS = 16


def failed(found: SelfTest) -> set[str]:
    return {one.name for one in found.checks if not one.passed}


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_random_weights_pass(family: str) -> None:
    found = hs.selftest(models.engine(family))
    assert failed(found) == set()
    assert found.passed
    assert len(found.checks) == CHECKS


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_organism_passes(dtype: str) -> None:
    found = hs.selftest("organism:steerable", dtype=dtype, layer=3)
    assert failed(found) == set()
    assert (found.dtype, found.layer) == (dtype, 3)
    exact = [one for one in found.checks if one.allowed == 0]
    assert len(exact) == 7
    assert all(one.measured == 0 for one in exact), "these hold bit for bit, whatever the dtype"


def test_an_encoder_is_checked_as_far_as_it_goes() -> None:
    found = hs.selftest(models.engine("bert"))
    assert failed(found) == set()
    assert {one.name.partition(":")[0] for one in found.checks} & {"score", "generate"} == set()


@pytest.mark.slow
def test_smollm2_passes(smollm2: str) -> None:
    assert failed(hs.selftest(smollm2)) == set()


def nothing(patch: pytest.MonkeyPatch, module: Any) -> None:
    patch.setattr(module, "apply", lambda state, unit, size, sets=None: state)


def wrong_sign(patch: pytest.MonkeyPatch, module: Any) -> None:
    right = module.apply
    patch.setattr(module, "apply", lambda state, unit, size, sets=None: right(state, unit, -size, sets))


def wrong_size(patch: pytest.MonkeyPatch, module: Any) -> None:
    right = module.apply
    patch.setattr(module, "apply", lambda state, unit, size, sets=None: right(state, unit, 1.02 * size, sets))


def next_layer(patch: pytest.MonkeyPatch, module: Any) -> None:
    """Steering alone: reading is right."""
    right = Architecture.site

    def site(parts: Architecture, layer: int, site: Any) -> Any:
        return right(parts, layer + 1, site)

    if module is session:
        hook = session._Session.hook

        def hooked(self: Any) -> None:
            with pytest.MonkeyPatch.context() as inner:
                inner.setattr(Architecture, "site", site)
                hook(self)

        patch.setattr(session._Session, "hook", hooked)
        return

    def deeper(row: Any) -> Any:
        return replace(row, interventions=tuple(replace(one, layer=one.layer + 1) for one in row.interventions))

    placed(patch, deeper)


def placed(patch: pytest.MonkeyPatch, change: Callable[[Any], Any]) -> None:
    """Every row's interventions or tokens, changed."""
    right = steer.place

    def place(*args: Any, **named: Any) -> Any:
        row = right(*args, **named)
        return None if row is None else change(row)

    for module in (score, generate):
        patch.setattr(module, "place", place)


def one_row(patch: pytest.MonkeyPatch, module: Any) -> None:
    right = steer.Steered.__init__

    def init(self: Any, parts: Any, rows: Any) -> None:
        right(self, parts, [row if at == 0 else None for at, row in enumerate(rows)])

    patch.setattr(steer.Steered, "__init__", init)


def prompt_alone(patch: pytest.MonkeyPatch, module: Any) -> None:
    """Generated tokens are not steered."""
    right = steer.place

    def place(steering: Any, prompt: Any, **named: Any) -> Any:
        row = right(steering, prompt, **named)
        return None if row is None else replace(row, stop=min(row.stop, len(prompt.ids)))

    patch.setattr(generate, "place", place)


def a_token_late(patch: pytest.MonkeyPatch, module: Any) -> None:
    placed(patch, lambda row: replace(row, start=row.start + 1, stop=row.stop + 1))


def read_below(patch: pytest.MonkeyPatch, module: Any) -> None:
    """The block before is read in place of the one asked for; steering is right."""
    right = run.run_layers

    def run_layers(parts: Any, layers: Any, site: Any, on_layer: Any, *rest: Any, **more: Any) -> None:
        lower = {max(0, layer - 1): at for at, layer in enumerate(layers)}
        found: dict[int, torch.Tensor] = {}
        right(parts, sorted(lower), site, lambda at, state: found.update({at: state}), *rest, **more)
        for place, layer in enumerate(sorted(lower)):
            on_layer(lower[layer], found[place])
        for at in set(range(len(list(layers)))) - set(lower.values()):
            on_layer(at, found[0])

    patch.setattr(run, "run_layers", run_layers)


MOVES, ELSEWHERE = "the residual moves by what was asked", "nothing moves at other tokens, or before"
ROWS = {"score: every row of a batch is as the reference", "score: a text in a batch is as the text alone"}
REFERENCE = "score: every row of a batch is as the reference"
CACHE, BATCH = "generate: a KV cache changes nothing", "generate: padding and other rows change nothing"
SESSION_CACHE = "model.steered: a KV cache changes nothing"

FAULTS: dict[str, tuple[Callable[[pytest.MonkeyPatch, Any], None], Any, set[str]]] = {
    "a hook that does nothing, in batches": (nothing, steer, {f"score: {MOVES}", REFERENCE, CACHE, BATCH}),
    "a hook that does nothing, in a session": (nothing, session, {f"model.steered: {MOVES}", SESSION_CACHE}),
    "a wrong sign, in batches": (wrong_sign, steer, {f"score: {MOVES}", REFERENCE, CACHE, BATCH}),
    "a wrong sign, in a session": (wrong_sign, session, {f"model.steered: {MOVES}", SESSION_CACHE}),
    "two per cent too much, in batches": (wrong_size, steer, {f"score: {MOVES}"}),
    "two per cent too much, in a session": (wrong_size, session, {f"model.steered: {MOVES}"}),
    "a wrong layer, in batches": (next_layer, steer, {f"score: {MOVES}", REFERENCE, CACHE}),
    "a wrong layer, in a session": (next_layer, session, {f"model.steered: {MOVES}", SESSION_CACHE}),
    "only one row": (one_row, steer, {*ROWS, BATCH}),
    "only the prompt": (prompt_alone, generate, {CACHE}),
    "a token too late": (a_token_late, score, {f"score: {MOVES}", f"score: {ELSEWHERE}", REFERENCE}),
    "the block below is read": (read_below, run, {"states read at the blocks are transformers' hidden states"}),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, module, expected = FAULTS[fault]
    engine = hs.load("organism:steerable")
    plant(monkeypatch, module)
    found = hs.selftest(engine)
    assert not found.passed
    assert expected <= failed(found), failed(found)
    if fault.endswith("session"):
        assert not any(name.startswith(("score", "generate")) for name in failed(found)), "the other way is right"


def test_a_hook_that_stays_is_found() -> None:
    engine = models.engine("llama")
    handles: list[Any] = []

    class Leaves(type(engine)):  # type: ignore[misc]
        def score(self, requests: Any) -> Any:
            handles.append(self.parts.blocks[0].register_forward_hook(lambda *_: None))
            return super().score(requests)

    engine.__class__ = Leaves
    try:
        assert failed(hs.selftest(engine)) == {"afterwards the model is as before"}
    finally:
        for handle in handles:
            handle.remove()


def test_the_command(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from test_cli import run as command

    assert command("selftest", "organism:blank", "--json") == 0
    said = json.loads(capfd.readouterr().out)
    assert said["passed"] is True
    assert {"name", "passed", "measured", "allowed", "unit", "note"} <= said["checks"][0].keys()
    nothing(monkeypatch, steer)
    assert command("selftest", "organism:blank") == 1
    out, err = capfd.readouterr()
    assert out.count("FAILED") == int(err.split(" of ")[0].split()[-1]) > 0
    assert command("selftest", "organism:blank", "--layer", "6") == 2


def test_a_layer_that_is_not_there() -> None:
    with pytest.raises(InputError, match="0 to 3"):
        hs.selftest(models.engine("llama"), layer=4)


def test_every_dtype_has_a_tolerance() -> None:
    assert set(STATES) == set(LOGPROBS) == {"float32", "float16", "bfloat16"}


def test_an_engine_that_refuses_is_a_failed_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the engine itself notices is told in the table, and the other checks are still made."""

    def refuses(self: Any, place: Any, *_: object) -> None:
        raise self._no_move(place, "planted")

    monkeypatch.setattr(steer.Steered, "_compare", refuses)
    found = hs.selftest("organism:blank")
    assert len(found.checks) == CHECKS
    (one,) = [check for check in found.checks if check.name == f"score: {MOVES}"]
    assert not one.passed
    assert "did not move the residual" in one.note
    assert summary.selftest(found, {}, True) == 1


def test_any_error_is_a_failed_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's own model may raise anything, also where transformers' hidden states are read first."""

    def raises(*_: object) -> float:
        raise KeyError("planted")

    monkeypatch.setattr(_Probe, "hidden_states", raises)
    found = hs.selftest("organism:blank")
    assert [check.note for check in found.checks if not check.passed] == ["KeyError: 'planted'"]
    assert len(found.checks) == CHECKS


def test_steering_that_moves_nothing_is_a_failed_check() -> None:
    """Log-probabilities that no dose moves agree whatever is done to the model."""
    engine = models.engine("llama")
    with torch.no_grad():
        engine.model.get_output_embeddings().weight.zero_()
    found = hs.selftest(engine)
    assert failed(found) == {"steering moves the log-probabilities"}
    assert "moves the log-probabilities by 0 nats" in next(check.note for check in found.checks if not check.passed)
    assert isinstance(console.out.width, int)
