"""Steering as a value: what it refuses, equals, survives as JSON, and says of itself; `steer` from a bundle."""

from __future__ import annotations

import doctest
import json
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from heartstrings import Intervention, Steering, make_steering
from heartstrings.core.errors import HeartstringsError, InputError, NumericalError
from heartstrings.core.steering import Characters, Positions, Span
from interop_support import bundle

ROW = np.array([3.0, 4.0], np.float32)


def one(**changes: object) -> Intervention:
    values: dict[str, object] = {"layer": 14, "direction": ROW, "dose": 0.1, "norm": 20.0, "label": "calm"}
    return Intervention(**(values | changes))  # type: ignore[arg-type]


def test_equal_by_content_and_usable_as_keys() -> None:
    first = Steering((one(),), "prompt")
    again = Steering((one(direction=ROW.copy()),), "prompt")
    assert first == again
    assert hash(first) == hash(again)
    assert {first: "kept"}[again] == "kept"
    assert pickle.loads(pickle.dumps(first)) == first
    assert first != "calm"
    others = [
        Steering((one(direction=np.array([3.0, np.nextafter(np.float32(4), np.float32(5))], np.float32)),), "prompt"),
        Steering((one(dose=0.2),), "prompt"),
        Steering((one(norm=21.0),), "prompt"),
        Steering((one(layer=13),), "prompt"),
        Steering((one(operation="clamp"),), "prompt"),
        Steering((one(site="mlp"),), "prompt"),
        Steering((one(label="sad"),), "prompt"),
        Steering((one(), one()), "prompt"),
        Steering((one(),), "all"),
        Steering((one(),), Span(0, 3)),
    ]
    assert len({first, *others}) == len(others) + 1


def test_frozen_and_safe_from_the_caller_s_array() -> None:
    row = ROW.copy()
    made = one(direction=row)
    row[0] = 100.0
    np.testing.assert_array_equal(made.direction, ROW)
    with pytest.raises(ValueError, match="read-only"):
        made.direction[0] = 1.0
    with pytest.raises(FrozenInstanceError):
        made.dose = 2.0  # type: ignore[misc]


POSITIONS = st.sampled_from(["all", "prompt", "generated", Span(2), Span(0, 1), Characters(3, 9)])


@settings(max_examples=50)
@given(
    rows=st.lists(
        arrays.arrays(np.float32, 5, elements=st.floats(-(2.0**99), 2.0**99, width=32, allow_subnormal=False)).filter(
            lambda row: row.any()
        ),
        min_size=1,
        max_size=3,
    ),
    dose=st.floats(-10, 10),
    norm=st.floats(1e-6, 1e6),
    operation=st.sampled_from(["add", "clamp", "ablate"]),
    site=st.sampled_from(["block", "attention", "mlp"]),
    positions=POSITIONS,
)
def test_json_loses_nothing(rows, dose, norm, operation, site, positions) -> None:
    steering = Steering(
        tuple(
            Intervention(layer, row, dose, norm, operation, site, "grief-stricken é") for layer, row in enumerate(rows)
        ),
        positions,
    )
    back = Steering.from_json(steering.to_json())
    assert back == steering
    assert hash(back) == hash(steering)
    assert back.describe() == steering.describe()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"layer": -1}, "layer -1"),
        ({"direction": np.zeros(3, np.float32)}, "all zeros"),
        ({"direction": np.array([1.0, np.nan], np.float32)}, "NaN"),
        ({"direction": np.array([1.0, np.inf], np.float32)}, "NaN or Inf"),
        ({"direction": np.zeros(0, np.float32)}, "shape"),
        ({"dose": float("nan")}, "dose nan"),
        ({"norm": float("inf")}, "norm inf"),
        ({"norm": 0.0}, "norm of 0"),
        ({"norm": -3.0}, "norm of -3"),
    ],
)
def test_an_intervention_refuses(changes: dict[str, object], says: str) -> None:
    with pytest.raises(HeartstringsError, match=says) as caught:
        one(**changes)
    assert caught.value.found
    assert caught.value.expected


def test_steering_and_spans_refuse() -> None:
    with pytest.raises(InputError, match="without an intervention"):
        Steering(())
    with pytest.raises(InputError, match=r"widths \[2, 3\]"):
        Steering((one(), one(direction=np.ones(3, np.float32))))
    with pytest.raises(InputError, match="holds none"):
        Span(4, 4)
    with pytest.raises(InputError, match="tokens from -1"):
        Span(-1)
    with pytest.raises(InputError, match="characters 4 to 2"):
        Characters(4, 2)


def test_wrong_kinds_are_refused_without_type_checks() -> None:
    """In the tests beartype is first to object; a user has none."""
    code = """
import numpy as np
from heartstrings import HeartstringsError, Intervention, Steering
good = dict(layer=1, direction=np.ones(2), dose=np.float32(0.1), norm=np.int64(2))
fine = Intervention(**good)
assert fine.direction.dtype == np.float32 and type(fine.dose) is float and type(fine.norm) is float
for bad in (dict(direction=np.ones((2, 2))), dict(operation="subtract"), dict(site="head"), dict(layer=1.5)):
    try:
        Intervention(**{**good, **bad})
    except HeartstringsError as error:
        assert error.expected, error
        print(error.found)
for positions in ("last", ["all"]):
    try:
        Steering((fine,), positions)
    except HeartstringsError as error:
        print(error.found)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "the direction at layer 1 has shape (2, 2)",
        "operation 'subtract'",
        "site 'head'",
        "steering at layer 1.5",
        "positions 'last'",
        "positions ['all']",
    ]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"schema_version": 1}', '{"schema_version": 2, "interventions": [], "positions": "all"}'],
)
def test_json_that_is_none_of_ours_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        Steering.from_json(text)


def test_damaged_json_is_refused() -> None:
    good = json.loads(Steering((one(),)).to_json())
    for damage in ({"layer": -2}, {"direction": "%%"}, {"direction": "AAAA"}, {"extra": 1}, {"dose": "x"}):
        bad = {**good, "interventions": [{**good["interventions"][0], **damage}]}
        with pytest.raises(HeartstringsError):
            Steering.from_json(json.dumps(bad))
    with pytest.raises(InputError):
        Steering.from_json(json.dumps(good | {"positions": {"tokens": [1, 2], "characters": [0, 1]}}))


WORDS: list[tuple[Positions, str]] = [
    ("all", "at every position"),
    ("prompt", "at the tokens of the prompt"),
    ("generated", "at the tokens after the prompt"),
    (Span(3, 7), "at tokens 3 to 6"),
    (Span(3, 4), "at token 3"),
    (Span(3), "from token 3 on"),
    (Characters(0, 10), "at the tokens of characters 0 to 9 of the prompt"),
]


@pytest.mark.parametrize(("positions", "words"), WORDS)
def test_it_says_where(positions: Positions, words: str) -> None:
    said = Steering((one(),), positions).describe()
    assert said == f"adds 0.10 of the mean residual norm along `calm` at layer 14 (block), {words}"


def test_it_says_what() -> None:
    layers = tuple(one(layer=layer, dose=0.02) for layer in (12, 14, 16, 18, 20))
    assert str(Steering(layers)) == (
        "adds 0.10 of the mean residual norm along `calm` in all, 0.02 at each of layers 12, 14, 16, 18, 20 (block), "
        "at every position"
    )
    mixed = Steering((one(dose=-1 / 3, label=""), one(operation="clamp", site="mlp"), one(operation="ablate")))
    assert mixed.describe() == (
        "adds -0.333 of the mean residual norm along an unnamed direction at layer 14 (block); "
        "sets the component along `calm` to 0.10 of the mean residual norm at layer 14 (mlp); "
        "removes the component along `calm` at layer 14 (block), at every position"
    )


def test_steer_takes_direction_and_norm_from_the_bundle() -> None:
    vectors = bundle((0, 1, 3))
    made = make_steering(vectors, "0.5*joyful - sad", dose=0.3, layers=[3, 1], positions="generated")
    assert made.positions == "generated"
    assert [i.layer for i in made.interventions] == [1, 3]
    for one_of, norm in zip(made.interventions, (20.0, 40.0), strict=True):
        assert one_of.dose == pytest.approx(0.15)
        assert (one_of.norm, one_of.operation, one_of.site) == (norm, "add", "block")
        assert one_of.label == "0.5*joyful - sad"
        expected = vectors.direction("0.5*joyful - sad", layer=one_of.layer, variant="denoised").at()
        np.testing.assert_allclose(one_of.direction, expected / np.linalg.norm(expected), rtol=1e-5)


def test_one_layer_a_direction_object_and_the_size_of_a_blend() -> None:
    vectors = bundle((0, 1, 3))
    by_name = make_steering(vectors, "joyful", dose=0.1, layers=1, variant="raw")
    by_object = make_steering(vectors, vectors["joyful"], dose=0.1, layers=1)
    assert by_name == by_object
    doubled = make_steering(vectors, 2.0 * vectors["joyful"], dose=0.1, layers=1)
    np.testing.assert_array_equal(doubled.interventions[0].direction, by_object.interventions[0].direction)
    denoised = make_steering(vectors, "joyful", dose=0.1, layers=1)
    assert denoised == make_steering(bundle((0, 1, 3)), "joyful", dose=0.1, layers=1, variant="denoised")
    assert make_steering(bundle((1,), denoised=False), "joyful", dose=0.0, layers=1).interventions[0].dose == 0


def test_a_value_that_is_set_is_not_shared_among_layers() -> None:
    vectors = bundle((0, 1, 3))
    for operation in ("clamp", "ablate"):
        made = make_steering(vectors, "sad", dose=0.3, layers=(0, 1), operation=operation)
        assert [i.dose for i in made.interventions] == [0.3, 0.3]


def test_the_exported_share_is_the_steered_share() -> None:
    """What an export writes as absolute vectors is dose * norm * unit(direction) of each intervention."""
    from heartstrings.formats.writing import _arrow

    vectors = bundle((0, 1, 3))
    for one_of in make_steering(vectors, "joyful - sad", dose=0.3, layers=(0, 1, 3), variant="raw").interventions:
        exported = _arrow(vectors, "joyful - sad", one_of.layer, "raw", 0.3 / 3)
        np.testing.assert_allclose(one_of.dose * one_of.norm * one_of.direction, exported, rtol=1e-5)


def test_steer_refuses() -> None:
    vectors = bundle((0, 1, 3))
    with pytest.raises(InputError, match="Did you mean joyful"):
        make_steering(vectors, "joyfull", dose=0.1, layers=1)
    for layers in (2, [0, 2], [], [1, 1]):
        with pytest.raises(InputError, match="some of 0, 1, 3"):
            make_steering(vectors, "sad", dose=0.1, layers=layers)
    with pytest.raises(InputError, match="has no norms"):
        make_steering(bundle(norms=False), "sad", dose=0.1, layers=1)
    with pytest.raises(InputError, match="cancels at layer 1"):
        make_steering(vectors, "0.1*(3*sad) - 0.3*sad", dose=0.1, layers=1)
    with pytest.raises(InputError, match="no denoised"):
        make_steering(bundle(denoised=False), "sad", dose=0.1, layers=1, variant="denoised")
    with pytest.raises(InputError, match="only with an expression"):
        make_steering(vectors, vectors["sad"], dose=0.1, layers=1, variant="raw")
    with pytest.raises(NumericalError, match="dose nan"):
        make_steering(vectors, "sad", dose=float("nan"), layers=1)
    narrow = replace(vectors["sad"], values=np.ones((3, 4)))
    with pytest.raises(InputError, match="width 4"):
        make_steering(vectors, narrow, dose=0.1, layers=1)


def test_no_torch_is_needed() -> None:
    code = "import sys, heartstrings; heartstrings.make_steering; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_document_s_examples() -> None:
    document = Path(__file__).resolve().parents[2] / "docs" / "steering.md"
    found = doctest.testfile(str(document), module_relative=False)
    assert found.failed == 0
    assert found.attempted == 9
