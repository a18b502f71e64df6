"""Shared fixtures. Research data lives beside the checkout and is never shipped."""

from __future__ import annotations

import functools
import inspect
import os
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jaxtyping
import pytest
from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

if TYPE_CHECKING:
    from report_browser import Browser

SOURCE = Path(__file__).resolve().parents[1] / "src"

# Tests lie in the rooms that they test, and some share helpers.
sys.path[:0] = [str(path) for path in Path(__file__).parent.iterdir() if path.is_dir()]


def annotated() -> list[str]:
    """Modules whose annotations have tensor axes: these are checked while testing. mypy checks the rest; checking every
    call in every module too made the tests of blackmail five times as long, since a function within a function is
    compiled anew at each call."""
    files = [path for path in SOURCE.rglob("*.py") if "jaxtyping" in path.read_text(encoding="utf-8")]
    return [".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__") for path in files]


_jaxtyped = jaxtyping.jaxtyped


def checked(function: Any = None, *, typechecker: Any) -> Any:
    """What the import hook puts on every function: the same checks as jaxtyping's own decorator, which binds the
    arguments of every call and checks them twice, for its message. That was a third of the time of some tests."""
    if function is None:
        return functools.partial(checked, typechecker=typechecker)
    if not isinstance(function, types.FunctionType) or inspect.isgeneratorfunction(function):
        return _jaxtyped(function, typechecker=typechecker)
    for name, hint in function.__annotations__.items():
        function.__annotations__[name] = resolved(hint, function.__globals__)
    with_types = beartype(conf=BeartypeConf(violation_type=jaxtyping.TypeCheckError))(function)
    if not any(map(has_axes, function.__annotations__.values())):
        return with_types

    @functools.wraps(function)
    def with_axes(*args: Any, **kwargs: Any) -> Any:
        with _jaxtyped("context"):  # an axis has one length within a call
            return with_types(*args, **kwargs)

    return with_axes


def resolved(hint: Any, names: dict[str, Any]) -> Any:
    """The type that an annotation means; anything at all where it is imported for mypy alone."""
    try:
        return typing.get_type_hints(types.SimpleNamespace(__annotations__={"hint": hint}), names, None, True)["hint"]
    except Exception:
        return Any


def has_axes(hint: Any) -> bool:
    """Whether a tensor with named axes is anywhere in a type."""
    if isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    return any(map(has_axes, hint if isinstance(hint, list) else typing.get_args(hint)))


jaxtyping.jaxtyped = checked
install_import_hook(annotated(), "beartype.beartype")
if sys.version_info < (3, 12):  # which remembers the members of a protocol: finding them was a fifth of some tests
    typing._get_protocol_attrs = functools.cache(typing._get_protocol_attrs)

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The research data folder; a test that needs it skips elsewhere and fails in CI."""
    if not SHARED.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"research data is missing at {SHARED}; CI needs it")
        pytest.skip(f"research data is not at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def smollm2() -> str:
    """The name of the packaged chat model; a test that needs it skips where it is not installed and fails in CI."""
    from heartstrings.engines.hf.named import PACKAGED, is_installed

    if not is_installed("smollm2"):
        if os.environ.get("CI") == "true":
            pytest.fail(f"smollm2 is missing; CI needs it: {PACKAGED['smollm2'].install}")
        pytest.skip(f"smollm2 is not installed: {PACKAGED['smollm2'].install}")
    return "smollm2"


OVER_A_SECOND = frozenset((Path(__file__).parent / "over_a_second.txt").read_text(encoding="utf-8").split())
"""Files and tests that count as slow, measured; scripts/over_a_second.py writes the list."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests over a second are slow. Modules with slow tests first, so that no worker is left alone at the end."""
    for item in items:
        if {item.nodeid.partition("[")[0], item.nodeid.partition("::")[0]} & OVER_A_SECOND:
            item.add_marker("slow")
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The browser that reports are looked at with."""
    from report_browser import Browser, find_chromium

    executable = find_chromium()
    if executable is None:
        if os.environ.get("CI") == "true":
            pytest.fail("Chromium is not installed, and CI needs it (Debian: apt-get install chromium)")
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    with Browser(executable, timeout=20) as opened:
        yield opened
