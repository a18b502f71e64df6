"""Damaged, hostile and mistaken files: one clear error each, and nothing half-written."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from heartstrings.core.errors import BundleError, HeartstringsError, InputError, NumericalError
from heartstrings.corpus import read_neutral, read_stories
from heartstrings.corpus.lexicon import read_ratings
from heartstrings.formats import export_vectors, import_vectors
from heartstrings.vectors.emotion_vectors import EmotionVectors
from interop_support import EMOTIONS, WIDTH, bundle

Case = tuple[Callable[[Path], Path], dict[str, object], type[HeartstringsError], str]
ROW = np.arange(1, WIDTH + 1, dtype=np.float32)
NAMED = {name: np.roll(ROW, at) for at, name in enumerate(EMOTIONS)}
FIRED = "the pickle ran"


class Hostile:
    """Leaves a file behind if anything ever unpickles it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return os.mkdir, (str(self.marker),)


def raw_bytes(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def npz(name: str = "v_layer3.npz", **arrays: object) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        np.savez(folder / name, **arrays)  # type: ignore[arg-type]
        return folder / name

    return make


def pt(content: object, name: str = "v.pt") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        torch.save(content, folder / name)
        return folder / name

    return make


def cut(make: Callable[[Path], Path], share: float) -> Callable[[Path], Path]:
    """The file without its end."""

    def shorter(folder: Path) -> Path:
        path = make(folder)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])
        return path

    return shorter


def exported(kind: str, name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        if kind == "gguf":
            pytest.importorskip("gguf", reason="the extra `gguf` is not installed")
        return export_vectors(bundle((1, 3)), folder / name, format=kind, direction="sad")

    return make


def tensors(folder: Path) -> Path:
    save_file({f"layer_1__{name}": row for name, row in NAMED.items()}, folder / "v.safetensors")
    return folder / "v.safetensors"


def empty_archive(folder: Path) -> Path:
    zipfile.ZipFile(folder / "v.npz", "w").close()
    return folder / "v.npz"


def other_archive(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "v.npz", "w") as archive:
        archive.writestr("readme.txt", "no vectors here")
    return folder / "v.npz"


def hostile_pt(folder: Path) -> Path:
    torch.save({16: Hostile(folder / FIRED)}, folder / "v.pt")
    return folder / "v.pt"


def hostile_plain_pickle(folder: Path) -> Path:
    (folder / "v.pt").write_bytes(pickle.dumps(Hostile(folder / FIRED), protocol=2))
    return folder / "v.pt"


def hostile_npz(folder: Path) -> Path:
    return npz(joyful=np.array([Hostile(folder / FIRED)], dtype=object))(folder)


def gguf_model(folder: Path) -> Path:
    gguf = pytest.importorskip("gguf", reason="the extra `gguf` is not installed")
    writer = gguf.GGUFWriter(folder / "model.gguf", "llama")
    writer.add_tensor("token_embd.weight", np.ones((4, WIDTH), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder / "model.gguf"


def gguf_vector(name: str, dtype: type = np.float32) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        gguf = pytest.importorskip("gguf", reason="the extra `gguf` is not installed")
        writer = gguf.GGUFWriter(folder / "v.gguf", "controlvector")
        writer.add_tensor(name, ROW.astype(dtype))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return folder / "v.gguf"

    return make


def changed(name: str, value: object) -> dict[str, object]:
    return {key: value if key == name else row for key, row in NAMED.items()}


NOT_A_NUMBER = np.where(ROW == 3, np.nan, ROW).astype(np.float32)
LENS = {"activations": {"data": "AAAA", "dtype": "float32", "shape": [1, 9]}, "layer_indices": [1]}
STEERED = {"layers.3": {"steering_vector": torch.ones(4), "steering_coefficient": 1.0, "action": "clamp"}}
STACK = {"vectors": np.ones((2, 3, 4)), "emotions": np.array(["a", "b", "c"])}
PAIR = np.ones((2, 2, 4))

LOOP: dict[str, object] = {}
LOOP["sad"] = LOOP

FILES: dict[str, Case] = {
    "missing file": (lambda folder: folder / "none.npz", {}, InputError, "does not exist"),
    "empty file": (raw_bytes("v.npz", b""), {}, InputError, "0 bytes"),
    "text file": (raw_bytes("v.npz", b"joyful,0.3,0.2\n"), {}, InputError, "no known format"),
    "single npy": (raw_bytes("v.npz", b"\x93NUMPY\x01\x00"), {}, InputError, r"single \.npy array"),
    "cut zip": (cut(npz(**NAMED), 0.6), {}, InputError, "damaged zip archive"),
    "bytes after PK": (raw_bytes("v.npz", b"PK\x03\x04 and no more"), {}, InputError, "damaged zip archive"),
    "empty archive": (empty_archive, {}, InputError, "empty archive"),
    "archive of other files": (other_archive, {}, InputError, r"zip archive with 'readme\.txt'"),
    "pickled objects in npz": (hostile_npz, {}, InputError, "pickled Python objects"),
    "pt that runs code": (hostile_pt, {}, InputError, r"asks to run \w+\.mkdir"),
    "plain pickle as pt": (hostile_plain_pickle, {}, InputError, r"readable \.pt|asks to run"),
    "pt with a class": (pt({16: Path("x")}), {}, InputError, "asks to run pathlib"),
    "cut pt": (cut(pt({16: torch.ones(64)}), 0.5), {}, InputError, "damaged|readable"),
    "pt with text": (pt({"joyful": "0.3"}), {"layer": 1}, InputError, "array of type"),
    "pt with nothing": (pt({}), {}, InputError, "is empty"),
    "pt with a list of words": (pt(["a", "b"]), {"layer": 1}, InputError, "array of type"),
    "ragged pt": (pt({"vectors": [[1.0], [1.0, 2.0]]}), {}, InputError, "no array"),
    "pt that holds itself": (pt(LOOP), {}, InputError, "cannot be made an array"),
    "sparse pt": (pt({"sad": torch.ones(4).to_sparse()}), {}, InputError, "cannot be made an array"),
    "negative layer": (pt({-1: torch.ones(4)}), {}, BundleError, "layer -1"),
    "cut safetensors": (cut(tensors, 0.7), {}, InputError, "not a readable safetensors file"),
    "safetensors header": (raw_bytes("v.safetensors", b"\x08" + b"\0" * 7 + b"{not js}"), {}, InputError, "readable"),
    "NaN": (npz(**changed("sad", NOT_A_NUMBER)), {}, NumericalError, "'sad': 1 of 16 numbers are NaN"),
    "too large for float32": (npz(**changed("sad", ROW.astype(float) * 1e300)), {}, NumericalError, "infinite"),
    "whole numbers": (npz(**changed("sad", np.arange(WIDTH))), {}, InputError, "type int64"),
    "other width": (npz(**changed("sad", ROW[:-1])), {}, InputError, "'sad' has width 15"),
    "zero vector": (npz(**changed("sad", ROW * 0)), {}, InputError, "'sad' is all zeros"),
    "all the same": (npz(**dict.fromkeys(EMOTIONS, ROW)), {}, InputError, "equals the mean over emotions"),
    "no layer": (npz("v.npz", **NAMED), {}, InputError, r"Give the number: layer=17"),
    "layer asked for is absent": (npz(layer_1__sad=ROW), {"layer": 5}, InputError, "no layer 5"),
    "emotion asked for is absent": (npz(**NAMED), {"emotions": ["glad"]}, InputError, "no emotion 'glad'"),
    "layers and emotions mixed": (npz(layer_1__sad=ROW, joyful=ROW), {}, InputError, "mixes layer keys with 'joyful'"),
    "a hole": (npz(layer_1__a=ROW, layer_1__b=ROW, layer_2__a=ROW), {}, InputError, "1 of 4 vectors are missing"),
    "stack without names": (npz(vectors=STACK["vectors"]), {}, InputError, "without names"),
    "names of another number": (npz(vectors=PAIR, emotions=STACK["emotions"]), {}, InputError, "3 emotion"),
    "layers of another number": (npz(**STACK, layers=np.array([1])), {}, InputError, "1 layer numbers for 2"),
    "layers repeated": (npz(**STACK, layers=np.array([1, 1])), {}, InputError, "distinct whole numbers"),
    "names repeated": (npz(vectors=PAIR, emotions=np.array(["a", "a"])), {}, InputError, "repeated names"),
    "gguf model": (gguf_model, {}, InputError, "GGUF file of kind 'llama'"),
    "cut gguf": (cut(exported("gguf", "v.gguf"), 0.8), {}, InputError, "not a whole GGUF file"),
    "gguf head alone": (raw_bytes("v.gguf", b"GGUF\x03\0\0\0"), {}, InputError, "not a whole GGUF file"),
    "gguf without directions": (gguf_vector("output.weight"), {}, InputError, r"no tensor direction\.N"),
    "gguf with an odd name": (gguf_vector("direction.first"), {}, InputError, r"'direction\.first'"),
    "gguf of integers": (gguf_vector("direction.1", np.int32), {}, InputError, "stored as I32"),
    "other json": (raw_bytes("v.json", b'{"joyful": [1, 2]}'), {}, InputError, "JSON of another kind"),
    "broken json": (raw_bytes("v.json", b'{"joyful": '), {}, InputError, "not readable JSON"),
    "json of another size": (raw_bytes("v.json", json.dumps(LENS).encode()), {}, InputError, "cannot be decoded"),
    "steered file that clamps": (pt(STEERED), {}, InputError, "action 'clamp'"),
    "unknown format": (npz(**NAMED), {"format": "onnx"}, InputError, "no import format 'onnx'"),
    "wrong format said": (npz(**NAMED), {"format": "gguf"}, InputError, "not a whole GGUF file"),
    "centring one emotion": (npz(sad=ROW), {"centre": True}, InputError, "holds one emotion"),
    "hidden states of the embedding alone": (
        pt({0: torch.ones(4)}), {"hidden_state_index": True}, InputError, "no layer is left",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_import_refuses(tmp_path: Path, case: str) -> None:
    make, options, kind, message = FILES[case]
    path = make(tmp_path)
    before = sorted(tmp_path.iterdir())
    if options.get("format") == "gguf":
        pytest.importorskip("gguf", reason="the extra `gguf` is not installed")
    with pytest.raises(kind, match=message) as caught:
        import_vectors(path, **options).save(tmp_path / "bundle")  # type: ignore[arg-type]
    assert caught.value.exit_code > 0
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert sorted(tmp_path.iterdir()) == before, "nothing was written, and no pickle ran"


def test_the_hostile_pickle_would_run(tmp_path: Path) -> None:
    """The trap works: opened carelessly, it fires."""
    pickle.loads(pickle.dumps(Hostile(tmp_path / FIRED)))
    assert (tmp_path / FIRED).exists()


def test_folders_without_vectors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="folder without vector files"):
        import_vectors(tmp_path)
    with pytest.raises(InputError, match="no file to import"):
        import_vectors([])


def spoil(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no header": (lambda folder: (folder / "bundle.json").unlink(), "no vector bundle"),
    "no vectors": (lambda folder: (folder / "vectors.safetensors").unlink(), "vectors.safetensors is missing"),
    "header cut": (lambda folder: os.truncate(folder / "bundle.json", 100), "is no JSON"),
    "header empty": (lambda folder: os.truncate(folder / "bundle.json", 0), "is no JSON"),
    "header a list": (lambda folder: (folder / "bundle.json").write_text("[]"), "damaged"),
    "vectors cut": (lambda folder: os.truncate(folder / "vectors.safetensors", 300), "hash"),
    "vectors flipped": (lambda folder: spoil(folder / "vectors.safetensors", b"raw", b"rav"), "hash"),
    "name changed": (lambda folder: spoil(folder / "bundle.json", b"joyful", b"gloomy"), "changed after"),
    "newer schema": (
        lambda folder: spoil(folder / "bundle.json", b'"schema_version": 1', b'"schema_version": 9'),
        "schema version 9",
    ),
}


@pytest.mark.parametrize("case", SPOILED)
def test_bundles_refuse(tmp_path: Path, case: str) -> None:
    bundle().save(tmp_path / "bundle")
    spoiler, message = SPOILED[case]
    spoiler(tmp_path / "bundle")
    with pytest.raises(BundleError, match=message):
        EmotionVectors.load(tmp_path / "bundle")


TEXTS: dict[str, tuple[bytes, str]] = {
    "no json": (b'{"emotion": "sad", "topic": "t", "text": "x"}\n{"emotion": \n', r"stories\.jsonl:2: not JSON"),
    "a list a line": (b"[1, 2]\n", r"stories\.jsonl:1: a list"),
    "no text": (b'{"emotion": "sad", "topic": "t"}\n', "neither `text` nor `stories`"),
    "empty text": (b'{"emotion": "sad", "topic": "t", "text": " "}\n', "'text' is"),
    "numbers": (b'{"emotion": 3, "topic": "t", "text": "x"}\n', "'emotion' is 3"),
    "stories no list": (b'{"emotion": "sad", "topic": "t", "stories": "x"}\n', "`stories` is"),
    "one emotion": (b'{"emotion": "sad", "topic": "t", "text": "x"}\n', "single emotion"),
    "nothing": (b"\n\n", "no story"),
    "not utf-8": (b'{"emotion": "sad", "topic": "\xff", "text": "x"}\n', "not UTF-8"),
}


@pytest.mark.parametrize("case", TEXTS)
def test_stories_refuse(tmp_path: Path, case: str) -> None:
    content, message = TEXTS[case]
    (tmp_path / "stories.jsonl").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_stories(tmp_path / "stories.jsonl")


RATINGS: dict[str, tuple[bytes, str]] = {
    "no column": (b"word,valence\nsad,-0.5\n", "no column"),
    "no number": (b"emotion,valence,arousal\nsad,low,0.1\n", r":2: valence is 'low'"),
    "NaN": (b"emotion,valence,arousal\nsad,nan,0.1\n", "valence is 'nan'"),
    "out of range": (b"emotion,valence,arousal\nsad,7,3\n", "valence is 7"),
    "twice": (b"emotion,valence,arousal\nsad,-1,0\nsad,-1,0\n", "rated twice"),
    "short row": (b"emotion,valence,arousal\nsad,-1\n", "2 fields"),
    "empty": (b"", "is empty"),
    "header alone": (b"emotion,valence,arousal\n", "rates no word"),
}


@pytest.mark.parametrize("case", RATINGS)
def test_ratings_refuse(tmp_path: Path, case: str) -> None:
    content, message = RATINGS[case]
    (tmp_path / "ratings.csv").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_ratings(tmp_path / "ratings.csv")


def test_neutral_texts_refuse(tmp_path: Path) -> None:
    (tmp_path / "neutral.txt").write_text("\n \n")
    with pytest.raises(InputError, match="no text"):
        read_neutral(tmp_path / "neutral.txt")
    with pytest.raises(InputError, match="no file"):
        read_neutral(tmp_path / "none.txt")
