"""Export: what is written comes back, in the unit and with the layer numbers that were asked for."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from heartstrings.core import storage
from heartstrings.core.errors import InputError, MissingExtra, NumericalError
from heartstrings.formats import export_vectors, import_vectors
from interop_support import EMOTIONS, bundle, model_info

BLEND = "0.5*joyful - grief-stricken"
FILES = {"gguf": "v.gguf", "lm-eval": "v.pt", "vllm-lens": "v.json", "npz": "v.npz"}


def blend(vectors, layer: int) -> np.ndarray:
    at = vectors.layers.index(layer)
    return 0.5 * vectors.raw[at, EMOTIONS.index("joyful")] - vectors.raw[at, EMOTIONS.index("grief-stricken")]


def needs(kind: str) -> None:
    if kind == "gguf":
        pytest.importorskip("gguf", reason="the extra `gguf` is not installed")


@pytest.mark.parametrize("kind", FILES)
def test_a_blend_comes_back(tmp_path: Path, kind: str) -> None:
    needs(kind)
    vectors = bundle((1, 2, 3))
    path = export_vectors(vectors, tmp_path / FILES[kind], direction=BLEND)
    back = import_vectors(path)
    assert back.layers == (1, 2, 3)
    assert back.emotions == (BLEND,)
    for layer in back.layers:
        np.testing.assert_allclose(back.vector(BLEND, layer=layer), blend(vectors, layer), rtol=1e-6)
    assert back.centre is None, "a difference is not centred again"
    assert os.listdir(tmp_path) == [FILES[kind]]


@pytest.mark.parametrize("kind", FILES)
def test_dose_writes_absolute_vectors_shared_by_the_layers(tmp_path: Path, kind: str) -> None:
    needs(kind)
    vectors = bundle((1, 3))
    path = export_vectors(vectors, tmp_path / "file", format=kind, direction=BLEND, dose=-0.4)
    back = import_vectors(path)
    for layer, norm in ((1, 20.0), (3, 40.0)):
        found = back.vector(BLEND, layer=layer)
        assert np.linalg.norm(found) == pytest.approx(0.2 * norm, rel=1e-5)
        cosine = found @ blend(vectors, layer) / np.linalg.norm(found) / np.linalg.norm(blend(vectors, layer))
        assert cosine == pytest.approx(-1, abs=1e-6)
    one = export_vectors(vectors, tmp_path / "file", format=kind, direction=BLEND, dose=0.4, layers=[3])
    assert np.linalg.norm(import_vectors(one).vector(BLEND, layer=3)) == pytest.approx(16, rel=1e-5)


def test_the_note_says_unit_and_origin(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf", reason="the extra `gguf` is not installed")
    path = export_vectors(bundle(), tmp_path / "v.gguf", direction="joyful", dose=0.2, variant="denoised")
    reader = gguf.GGUFReader(path)
    note = json.loads(bytes(reader.get_field("heartstrings.note").parts[-1]))
    assert note["direction"] == "joyful"
    assert note["variant"] == "denoised"
    assert note["layers"] == [1, 3], "block 0 is left out: llama.cpp has none"
    assert note["dose"] == 0.2
    assert note["dose_per_layer"] == pytest.approx(0.1)
    assert note["mean_residual_norm"] == {"1": 20.0, "3": 40.0}
    assert "absolute" in note["unit"]
    assert (note["model"], note["revision"]) == ("tiny/llama", "abc")
    plain = export_vectors(bundle(), tmp_path / "w.json", direction="joyful")
    assert "as it is in the bundle" in json.loads(plain.read_text())["heartstrings"]["unit"]


def test_gguf_is_what_llama_cpp_reads(tmp_path: Path) -> None:
    """Its loader wants F32, one dimension, one width, and layer indices from 1."""
    gguf = pytest.importorskip("gguf", reason="the extra `gguf` is not installed")
    vectors = bundle()
    reader = gguf.GGUFReader(export_vectors(vectors, tmp_path / "v.gguf", direction="joyful"))
    assert bytes(reader.get_field("general.architecture").parts[-1]) == b"controlvector"
    assert bytes(reader.get_field("controlvector.model_hint").parts[-1]) == b"llama"
    assert int(reader.get_field("controlvector.layer_count").parts[-1][0]) == 2
    assert [tensor.name for tensor in reader.tensors] == ["direction.1", "direction.3"]
    for tensor in reader.tensors:
        assert tensor.tensor_type.name == "F32"
        assert tensor.shape.tolist() == [16]
    with pytest.raises(InputError, match="block 0"):
        export_vectors(vectors, tmp_path / "w.gguf", direction="joyful", layers=[0, 1])
    assert os.listdir(tmp_path) == ["v.gguf"]


def test_lm_eval_file_is_plain_data_with_the_right_hook_points(tmp_path: Path) -> None:
    vectors = bundle((0, 3))
    content = torch.load(export_vectors(vectors, tmp_path / "v.pt", direction="sad"), weights_only=True)
    assert list(content) == ["layers.0", "layers.3"]
    entry = content["layers.3"]
    assert (entry["action"], entry["bias"], entry["head_index"], entry["steering_coefficient"]) == (
        "add",
        None,
        None,
        1.0,
    )
    np.testing.assert_allclose(entry["steering_vector"].numpy(), vectors.vector("sad", layer=3), rtol=1e-6)
    gpt2 = bundle((0, 3), model=model_info(architecture="gpt2"))
    assert list(torch.load(export_vectors(gpt2, tmp_path / "v.pt", direction="sad"), weights_only=True)) == [
        "h.0",
        "h.3",
    ]
    named = export_vectors(vectors, tmp_path / "v.pt", direction="sad", hookpoint="language_model.layers.{layer}")
    assert "language_model.layers.3" in torch.load(named, weights_only=True)
    assert import_vectors(named).layers == (0, 3)


def test_npz_keeps_the_whole_bundle(tmp_path: Path) -> None:
    vectors = bundle()
    path = export_vectors(vectors, tmp_path / "all.npz")
    again = export_vectors(vectors, tmp_path / "again.npz")
    assert path.read_bytes() == again.read_bytes(), "the same bundle gives the same bytes"
    with np.load(path, allow_pickle=False) as archive:
        assert archive["emotions"].tolist() == list(EMOTIONS)
        assert archive["layers"].tolist() == [0, 1, 3]
        np.testing.assert_array_equal(archive["vectors"], vectors.raw)
    back = import_vectors(path)
    for name in ("raw", "denoised", "centre", "norms"):
        np.testing.assert_array_equal(getattr(back, name), getattr(vectors, name))
    assert back.provenance.source == "imported"
    assert back.provenance.model == vectors.provenance.model
    part = import_vectors(path, layer=3, emotions=["sad", "calm"])
    assert (part.layers, part.emotions) == ((3,), ("sad", "calm"))
    np.testing.assert_array_equal(part.vector("sad", layer=3, variant="denoised"), vectors.denoised[2, 2])
    assert part.norms is not None
    assert part.norms.tolist() == [40.0]


def test_layers_in_any_order_keep_their_vectors(tmp_path: Path) -> None:
    vectors = bundle()
    path = export_vectors(vectors, tmp_path / "all.npz")
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    for name in ("layers", "vectors", "denoised", "centre", "norms"):
        arrays[name] = arrays[name][::-1]
    np.savez(tmp_path / "reversed.npz", **arrays)
    back = import_vectors(tmp_path / "reversed.npz")
    assert back.layers == vectors.layers
    for name in ("raw", "denoised", "centre", "norms"):
        np.testing.assert_array_equal(getattr(back, name), getattr(vectors, name))


def test_dose_without_norms_is_refused_with_the_fix(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no norms.*Leave the dose out"):
        export_vectors(bundle(norms=False), tmp_path / "v.json", direction="sad", dose=0.2)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"direction": None}, "0 directions"),
        ({"direction": ["sad", "calm"]}, "2 directions"),
        ({"direction": "sadd"}, "Did you mean sad"),
        ({"direction": "sad - sad"}, "zero vector"),
        ({"layers": [2]}, "layer 2 is not among those known"),
        ({"layers": []}, "no layer"),
        ({"layers": [1, 1]}, "one twice"),
        ({"dose": 0.0}, "dose 0"),
        ({"dose": float("nan")}, "dose nan"),
        ({"format": "onnx"}, "no export format 'onnx'"),
        ({"format": "lm-eval", "hookpoint": "layers.3"}, "hookpoint"),
    ],
)
def test_bad_requests_write_nothing(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    request = {"direction": "sad", "format": "vllm-lens"} | changes
    with pytest.raises((InputError, NumericalError), match=message):
        export_vectors(bundle(), tmp_path / "v.json", **request)  # type: ignore[arg-type]
    assert not os.listdir(tmp_path)


def test_more_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no denoised vectors"):
        export_vectors(bundle(denoised=False), tmp_path / "v.json", direction="sad", variant="denoised")
    with pytest.raises(InputError, match="no export format for"):
        export_vectors(bundle(), tmp_path / "v.bin", direction="sad")
    with pytest.raises(InputError, match=r"folder of v\.json does not exist"):
        export_vectors(bundle(), tmp_path / "none" / "v.json", direction="sad")
    for kind in ("v.json", "v.pt"):
        with pytest.raises(InputError, match="site 'mlp'"):
            export_vectors(bundle(site="mlp"), tmp_path / kind, direction="sad")
    hooked = export_vectors(bundle(site="mlp"), tmp_path / "v.pt", direction="sad", hookpoint="layers.{layer}.mlp")
    assert import_vectors(hooked).provenance.site == "mlp"


def test_a_failing_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = export_vectors(bundle(), tmp_path / "v.json", direction="sad")
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage.os, "replace", full)
    with pytest.raises(InputError, match="disk is full"):
        export_vectors(bundle(), path, direction="calm")
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["v.json"]


def test_absent_libraries_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MissingExtra, match=r'pip install "heartstrings\[gguf\]"'):
        export_vectors(bundle(), tmp_path / "v.gguf", direction="sad")
    (tmp_path / "w.gguf").write_bytes(b"GGUF")
    with pytest.raises(MissingExtra, match=r"heartstrings\[gguf\]"):
        import_vectors(tmp_path / "w.gguf")
    monkeypatch.setitem(sys.modules, "zstandard", None)
    packed = {"data": "AAAA", "dtype": "float32", "shape": [1, 1], "compression": "zstd"}
    (tmp_path / "v.json").write_text(json.dumps({"activations": packed, "layer_indices": [1]}))
    with pytest.raises(InputError, match="pip install zstandard"):
        import_vectors(tmp_path / "v.json")
