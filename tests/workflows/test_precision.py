"""`--dtype auto` while stories are read: compared once, recorded, and bfloat16 only where its rounding is small."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import experiment_world as world
import heartstrings as hs
import models
from heartstrings import engines, vectors
from heartstrings.core.errors import InputError
from heartstrings.core.types import Pooling, Precision, Provenance
from heartstrings.corpus import Corpus, NeutralTexts, shipped_neutral, shipped_stories
from heartstrings.engines.hf import precision as hardware
from heartstrings.vectors import rounding
from heartstrings.workflows import precision as choosing
from heartstrings.workflows import run
from heartstrings.workflows.precision import FILE, recorded

EMOTIONS = ("angry", "calm", "joyful", "sad")
START = Pooling(start=5)


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor with bfloat16 units, on which no model is too small; a small sample."""
    monkeypatch.setattr(hardware, "_processor", lambda: {"avx512_bf16": True})
    monkeypatch.setattr(hardware, "SMALL", 0)
    monkeypatch.setattr(rounding, "PAIRS", 4)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """48 stories of four emotions, a story for each of twelve topics."""
    every = shipped_stories()
    some = [replace(one, text=" ".join(one.text.split()[:25])) for one in every.stories if one.emotion in EMOTIONS]
    return Corpus(tuple(some), every.author, "four emotions")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(models.folder(tmp_path_factory.mktemp("models") / "llama"))


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A large part of the residual stream is the same for all tokens. bfloat16 rounds the sum, and with it the small
    part that differs."""
    model = models.model("llama")
    with torch.no_grad():
        model.model.embed_tokens.weight += 30.0
    folder = tmp_path_factory.mktemp("models") / "loud"
    model.save_pretrained(folder)
    models.tokenizer().save_pretrained(folder)
    return str(folder)


def extract(model: Any, out: Path, corpus: Corpus, **options: Any) -> Provenance:
    neutral = NeutralTexts(shipped_neutral().texts[:12], "a few")
    options = {"device": "cpu", "max_tokens": 64} | options
    return hs.extract(model, corpus, out=out, neutral=neutral, offset=5, **options).provenance


def test_bfloat16_is_used_where_its_rounding_is_small(good: str, corpus: Corpus, tmp_path: Path) -> None:
    found = extract(good, tmp_path / "auto", corpus)
    assert found.model is not None
    assert found.model.dtype == "bfloat16"
    record = recorded(tmp_path / "auto")
    assert record == found.precision
    assert record is not None
    assert record.dtype == "bfloat16"
    assert record.passed
    assert (record.n_sample, record.n_emotions, record.limit) == (8, 4, 0.1)
    assert 0 < record.ratio <= record.worst <= 0.1
    assert 0.99 < record.least_cosine < 1
    assert f"its rounding error in the vectors is {record.worst:.2g} of the split-half noise" in record.sentence
    again = hs.EmotionVectors.load(tmp_path / "auto")
    assert again.provenance == found
    forced = extract(good, tmp_path / "forced", corpus, dtype="bfloat16")
    assert forced.precision is None
    np.testing.assert_array_equal(again.raw, hs.EmotionVectors.load(tmp_path / "forced").raw)


def test_a_large_rounding_error_falls_back_and_says_so(bad: str, corpus: Corpus, tmp_path: Path) -> None:
    found = extract(bad, tmp_path / "auto", corpus)
    assert found.model is not None
    assert found.model.dtype == "float32"
    record = found.precision
    assert record is not None
    assert record.dtype == "float32"
    assert not record.passed
    assert record.worst > 0.1
    assert "float32 and not in bfloat16, whose rounding error in the vectors is" in record.sentence
    exact = extract(bad, tmp_path / "exact", corpus, dtype="float32")
    assert exact.precision is None
    assert not (tmp_path / "exact" / FILE).exists()
    one, other = (hs.EmotionVectors.load(tmp_path / name).raw for name in ("auto", "exact"))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_explicit_dtype_is_not_compared(
    dtype: str, good: str, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "_compared", lambda *_: pytest.fail("compared"))
    found = extract(good, tmp_path / "out", corpus, dtype=dtype)
    assert found.model is not None
    assert found.model.dtype == dtype


def test_nothing_is_compared_without_the_units_or_for_little_work(
    good: str, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "_compared", lambda *_: pytest.fail("compared"))
    with monkeypatch.context() as other:
        other.setattr(hardware, "_processor", lambda: {"avx2": True})
        found = extract(good, tmp_path / "no units", corpus)
        assert (found.model.dtype, found.precision) == ("float32", None)  # type: ignore[union-attr]
    monkeypatch.setattr(rounding, "PAIRS", 12)  # 24 stories in the sample, and 48 in all
    found = extract(good, tmp_path / "few", corpus)
    assert (found.model.dtype, found.precision) == ("float32", None)  # type: ignore[union-attr]
    assert "precision" not in (tmp_path / "few" / "bundle.json").read_text()


def test_a_loaded_model_is_read_as_it_is(good: str, corpus: Corpus, tmp_path: Path) -> None:
    found = extract(hs.load(good, device="cpu"), tmp_path / "out", corpus, device=None)
    assert (found.model.dtype, found.precision) == ("float32", None)  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["good", "bad"])
def test_an_interrupted_extraction_keeps_the_choice(
    kind: str, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(kind)
    whole = extract(model, tmp_path / "whole", corpus, token_budget=256)

    def stop(title: str, done: int, total: int | None) -> None:
        if done > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(model, tmp_path / "out", corpus, token_budget=256, progress=stop)
    monkeypatch.setattr(choosing, "_compared", lambda *_: pytest.fail("compared again"))
    monkeypatch.setattr(hardware, "_processor", dict)  # it goes on elsewhere
    assert extract(model, tmp_path / "out", corpus, token_budget=256) == whole
    for name in ("bundle.json", "vectors.safetensors", FILE):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert extract(model, tmp_path / "out", corpus, token_budget=256) == whole  # and once more


def test_what_was_begun_before_there_was_a_comparison_goes_on_as_stored(
    good: str, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as other:
        other.setattr(engines, "gains_from_bfloat16", lambda engine: False)
        before = extract(good, tmp_path / "out", corpus)
    assert extract(good, tmp_path / "out", corpus) == before
    assert before.model is not None
    assert before.model.dtype == "float32"
    anew = extract(good, tmp_path / "out", corpus, overwrite=True)
    assert anew.model is not None
    assert anew.model.dtype == "bfloat16"
    exact = extract(good, tmp_path / "out", corpus, overwrite=True, dtype="float32")
    assert exact == before
    assert recorded(tmp_path / "out") is None


def test_another_model_is_compared_anew_or_refused(good: str, bad: str, corpus: Corpus, tmp_path: Path) -> None:
    extract(good, tmp_path, corpus)
    with pytest.raises(InputError, match="another model"):
        extract(bad, tmp_path, corpus)
    found = extract(bad, tmp_path, corpus, overwrite=True)
    assert found.precision == recorded(tmp_path)
    assert found.model is not None
    assert found.model.dtype == "float32"


def test_a_damaged_record_is_refused(good: str, corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("{}")
    with pytest.raises(InputError, match=r"precision\.json is damaged"):
        extract(good, tmp_path, corpus)


def test_an_atlas_reads_in_bfloat16_and_does_the_rest_as_stored(good: str, corpus: Corpus, tmp_path: Path) -> None:
    found = hs.atlas(
        good, tmp_path, stories=corpus, offset=5, max_tokens=96, permutations=19, device="cpu",
        neutral=NeutralTexts(shipped_neutral().texts[:12], "a few"),
    )  # fmt: skip
    assert isinstance(found, hs.workflows.Atlas)
    record = recorded(tmp_path / "vectors")
    assert record is not None
    for one in found.bundles.values():
        assert one.provenance.model is not None
        assert one.provenance.model.dtype == "bfloat16"
        assert one.provenance.precision == record
    assert record.sentence in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("dtype", "loaded", "expected"), [("auto", False, True), ("float32", False, False), ("auto", True, False)]
)
def test_a_run_compares_for_a_model_that_it_opens_with_auto(
    dtype: str, loaded: bool, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Asked(Exception):
        pass

    def asked(*args: Any, auto: bool, **options: Any) -> None:
        raise Asked(auto)

    monkeypatch.setattr(run, "run_atlas", asked)
    model: Any = hs.load(world.MODEL) if loaded else world.MODEL
    with pytest.raises(Asked) as found:
        hs.run(model, tmp_path, dtype=dtype, settings="quick")
    assert found.value.args == (expected,)


def test_bfloat16_that_gives_no_finite_numbers_is_not_used() -> None:
    sample = vectors.Sample(("a", "b", "c", "d"), ("calm", "sad"), 3.0)
    exact = np.random.default_rng(0).standard_normal((2, 3, 2, 5))
    how: Any = {"layers": (4, 5, 6), "stored": "float32", "weights_hash": "sha256:0"}
    nothing = vectors.compared(exact, None, sample, **how)
    assert (nothing.dtype, nothing.passed, nothing.worst) == ("float32", False, None)
    assert nothing.sentence == "Texts are read in float32: no finite vectors in bfloat16 could be compared."
    assert Precision.model_validate_json(nothing.model_dump_json()) == nothing
    rounded = exact + 1e-3
    rounded[:, 0] = np.nan  # all tokens of a story are sinks at the first layer
    found = vectors.compared(exact, rounded, sample, **how)
    assert found.dtype == "bfloat16"
    assert found.worst_layer in (5, 6)


def test_the_sample_is_balanced_and_crossed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounding, "PAIRS", 12)
    every = shipped_stories()
    lengths = np.full(len(every), 100)
    sample = vectors.draw(every, lengths, Pooling())
    assert sample is not None
    assert (len(sample.texts), len(sample.emotions), sample.n_each, sample.growth) == (24, 12, 1, 6.0)
    row = {story.text: story for story in every.stories}
    first, second = ([row[text] for text in part] for part in (sample.texts[:12], sample.texts[12:]))
    for part in (first, second):
        assert tuple(one.emotion for one in part) == sample.emotions
        assert len({one.topic for one in part}) == 1
    assert first[0].topic != second[0].topic
    short = lengths.copy()
    short[[story.topic == first[0].topic for story in every.stories]] = 50  # too short for the pooling
    other = vectors.draw(every, short, Pooling())
    assert other is not None
    assert first[0].topic not in {row[text].topic for text in other.texts}
    assert vectors.draw(every, np.full(len(every), 50), Pooling()) is None
