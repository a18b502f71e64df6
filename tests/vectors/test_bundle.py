"""Bundles on disk: the same back, the same bytes, and every kind of damage one clear error."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from heartstrings.core.errors import BundleError, InputError
from heartstrings.core.storage import sha256_of
from heartstrings.core.types import Pooling, Provenance
from heartstrings.vectors.bundle import HEADER, TENSORS, Header, _header_hash, fingerprint, load, read_header, save
from heartstrings.vectors.emotion_vectors import EmotionVectors
from heartstrings.vectors.extraction import extract
from numpy_engine import NumpyEngine, corpus, info, neutral


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> tuple[EmotionVectors, Path]:
    place = tmp_path_factory.mktemp("bundle") / "b"
    found = extract(NumpyEngine(), corpus(), out=place, neutral=neutral(), poolings=(Pooling(start=5),))
    return found["from5"], place


@pytest.fixture
def place(extracted: tuple[EmotionVectors, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(extracted[1], tmp_path / "b"))


def same(one: object, other: object) -> None:
    for field in fields(one):  # type: ignore[arg-type]
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
        elif field.name == "neutral_basis" and a is not None:
            assert len(a) == len(b)
            for x, y in zip(a, b, strict=True):
                np.testing.assert_array_equal(x, y)
        elif field.name == "stories" and a is not None:
            same(a, b)
        else:
            assert a == b, field.name


def test_what_is_saved_is_loaded(extracted, tmp_path):
    vectors, place = extracted
    vectors.save(tmp_path / "new" / "deep" / "copy")
    loaded = EmotionVectors.load(tmp_path / "new" / "deep" / "copy")
    same(vectors, loaded)
    assert vectors.stories is not None
    assert vectors.story_scores is not None
    for name in (HEADER, TENSORS):
        assert (place / name).read_bytes() == (tmp_path / "new" / "deep" / "copy" / name).read_bytes()
    assert fingerprint(vectors) == fingerprint(loaded) != fingerprint(replace(vectors, raw=-vectors.raw))


def test_vectors_of_before_keep_their_fingerprint():
    """`geometry.json` records it: the same arrays have the hash that earlier versions gave them."""
    raw = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    provenance = Provenance(package_version="0", source="imported", model=None)
    vectors = EmotionVectors(emotions=("calm", "sad"), layers=(0, 2), raw=raw, provenance=provenance)
    assert fingerprint(vectors) == "sha256:c0d934859a3a371c716142e1efe75ec83697eee94914123e73aaf605a39c2f15"


def test_the_smallest_bundle_and_halves_with_holes(extracted, tmp_path):
    vectors = extracted[0]
    halves = vectors.halves.copy()
    halves[1, :, 0] = np.nan
    reliability = vectors.reliability.copy()
    reliability[:, 0] = np.nan
    least = EmotionVectors(
        emotions=vectors.emotions, layers=vectors.layers, raw=vectors.raw,
        provenance=Provenance(package_version="0", source="imported", model=None),
    )  # fmt: skip
    for number, item in enumerate((least, replace(vectors, halves=halves, reliability=reliability))):
        save(item, tmp_path / str(number))
        same(item, load(tmp_path / str(number)))


def test_saving_again_replaces_and_leaves_other_files_alone(extracted, place):
    vectors = extracted[0]
    (place / "notes.txt").write_text("mine")
    save(replace(vectors, raw=-vectors.raw), place)
    np.testing.assert_array_equal(load(place).raw, -vectors.raw)
    assert sorted(path.name for path in place.iterdir()) == [HEADER, "notes.txt", TENSORS]


def edit(place: Path, change: Callable[[dict], object]) -> None:
    content = json.loads((place / HEADER).read_text())
    change(content)
    (place / HEADER).write_text(json.dumps(content))


def consistent(place: Path, **changes: object) -> None:
    """Rewrite the header with its hashes put right, so that only the change itself is wrong."""
    content = json.loads((place / HEADER).read_text())
    content |= changes | {"vectors_sha256": sha256_of(place / TENSORS), "header_sha256": ""}
    if "tensors" not in changes:
        content["tensors"] = {
            name: {"dtype": str(a.dtype), "shape": list(a.shape)} for name, a in load_file(place / TENSORS).items()
        }
    header = Header.model_validate_json(json.dumps(content))
    done = header.model_copy(update={"header_sha256": _header_hash(header)})
    (place / HEADER).write_text(done.model_dump_json())


def tensors(place: Path, **changes: np.ndarray | None) -> None:
    found = load_file(place / TENSORS) | changes
    save_file({name: array for name, array in found.items() if array is not None}, place / TENSORS)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))


def with_nan(place: Path) -> None:
    raw = load_file(place / TENSORS)["raw"].copy()
    raw[0, 0, 0] = np.nan
    tensors(place, raw=raw)
    consistent(place)


def wrong_dtype(place: Path) -> None:
    tensors(place, raw=load_file(place / TENSORS)["raw"].astype(np.float16))
    consistent(place)


def lacks(place: Path, name: str) -> None:
    tensors(place, **{name: None})
    consistent(place)


def no_safetensors(place: Path) -> None:
    content = b"PK" * 99
    consistent(place, tensors={})
    (place / TENSORS).write_bytes(content)
    header = read_header(place).model_copy(update={"vectors_sha256": sha256_of(place / TENSORS)})
    done = header.model_copy(update={"header_sha256": _header_hash(header)})
    (place / HEADER).write_text(done.model_dump_json())


def swap_names(content: dict) -> None:
    content["emotions"] = content["emotions"][::-1]


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, "no such folder"),
    "no header": (lambda p: (p / HEADER).unlink(), "no bundle.json in it"),
    "no arrays": (lambda p: (p / TENSORS).unlink(), "vectors.safetensors is missing"),
    "half a header": (lambda p: (p / HEADER).write_bytes((p / HEADER).read_bytes()[:100]), "no JSON"),
    "empty header": (lambda p: (p / HEADER).write_bytes(b""), "no JSON"),
    "binary header": (lambda p: (p / HEADER).write_bytes(b"\xff\x00"), "no JSON"),
    "a list for a header": (lambda p: (p / HEADER).write_text("[]"), "bundle.json at the top"),
    "half the arrays": (lambda p: (p / TENSORS).write_bytes((p / TENSORS).read_bytes()[:300]), "hash of vectors"),
    "a flipped bit": (lambda p: flip(p / TENSORS), "hash of vectors"),
    "a newer schema": (lambda p: edit(p, lambda c: c.update(schema_version=2)), "schema version 2"),
    "no schema": (lambda p: edit(p, lambda c: c.update(schema_version="x")), "schema_version"),
    "a missing field": (lambda p: edit(p, lambda c: c.pop("emotions")), "emotions: Field required"),
    "an unknown field": (lambda p: edit(p, lambda c: c.update(extra=1)), "extra"),
    "names swapped": (lambda p: edit(p, swap_names), "changed after it was written"),
    "NaN inside": (with_nan, "`raw` holds NaN"),
    "another type": (wrong_dtype, "raw is float16"),
    "no contrasts": (lambda p: lacks(p, "raw"), "`raw` is missing"),
    "no denoised": (lambda p: lacks(p, "denoised"), "`story_scores` of shape"),
    "no story column": (lambda p: lacks(p, "stories.words"), "lacks words"),
    "no neutral basis": (lambda p: lacks(p, "neutral_basis.1"), "basis of layer 1"),
    "an array too many": (lambda p: tensors(p, more=np.ones(1)) or consistent(p), "more is float64"),
    "one emotion less": (lambda p: consistent(p, emotions=["calm", "sad", "joyful"]), "`raw` of shape"),
    "another width": (lambda p: consistent(p, width=13), "width"),
    "arrays not announced": (lambda p: consistent(p, tensors={}), "does not announce"),
    "no safetensors": (no_safetensors, "no safetensors file"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_one_clear_error(place, kind):
    damage, message = DAMAGE[kind]
    damage(place)
    with pytest.raises(BundleError, match=message) as caught:
        load(place)
    assert str(place) in str(caught.value)


def test_nothing_is_pickled(place):
    assert sorted(path.name for path in place.iterdir()) == [HEADER, TENSORS]
    header = (place / TENSORS).read_bytes()
    assert json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights_hash": "sha256:other", "model_id": "other-net"}, "other weights"),
        ({"revision": "r2"}, "revision r1, used on r2"),
    ],
)
def test_another_model_is_refused_unless_forced(place, changes, message):
    with pytest.raises(BundleError, match=message):
        load(place, for_model=info(**changes))
    notes = load(place, for_model=info(**changes), force=True).provenance.notes
    assert any("overridden by force" in note for note in notes)


def test_what_does_not_fit_cannot_be_forced(place):
    for changes, message in (({"width": 13}, "width 12"), ({"n_layers": 2}, "layer 2")):
        for force in (False, True):
            with pytest.raises(BundleError, match=message):
                load(place, for_model=info(**changes), force=force)


def test_the_same_model_elsewhere_is_fine(place):
    elsewhere = info(model_id="/elsewhere/net", device="cuda:0", dtype="bfloat16", revision=None)
    assert load(place, for_model=elsewhere).provenance == read_header(place).provenance
    assert "tokenizer" in load(place, for_model=info(tokenizer_hash="sha256:x")).provenance.notes[0]


def test_an_unknown_model_is_checked_by_width_and_said_so(extracted, tmp_path):
    vectors = extracted[0]
    save(replace(vectors, provenance=vectors.provenance.model_copy(update={"model": None})), tmp_path / "b")
    assert "unknown model" in load(tmp_path / "b", for_model=info()).provenance.notes[0]
    with pytest.raises(BundleError, match="width 12"):
        load(tmp_path / "b", for_model=info(width=8))


@pytest.mark.parametrize("existing", [False, True])
def test_a_full_disk_leaves_nothing_half_written(extracted, tmp_path, monkeypatch, existing):
    place = tmp_path / "b"
    before = {}
    if existing:
        save(extracted[0], place)
        before = {path: path.read_bytes() for path in place.iterdir()}

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="disk is full"):
        save(replace(extracted[0], raw=-extracted[0].raw), place)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert place.exists() == existing


def test_a_limit_of_the_system_on_file_size_is_an_error_without_remains(place, tmp_path):
    """The real thing: the kernel refuses to write on. (The signal for it is ignored by Python.)"""
    script = (
        "import sys\nfrom heartstrings.core.errors import InputError\n"
        "from heartstrings.vectors.bundle import load, save\n"
        "vectors = load(sys.argv[1])\n"
        "try: save(vectors, sys.argv[2])\nexcept InputError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(place), str(tmp_path / "new")], capture_output=True, text=True,
        check=True, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)),
    )  # fmt: skip
    assert "cannot write" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b"]


def test_a_file_in_the_way(extracted, tmp_path):
    (tmp_path / "b").write_text("a file")
    with pytest.raises(InputError, match="cannot write"):
        save(extracted[0], tmp_path / "b" / "c")
    with pytest.raises(InputError, match="cannot write"):
        save(extracted[0], tmp_path / "b")
    assert (tmp_path / "b").read_text() == "a file"
