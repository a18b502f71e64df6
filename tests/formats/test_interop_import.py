"""Import: every layout gives the same vectors, with the layers counted as this project counts them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_tensors

from heartstrings.core.errors import BundleError, InputError
from heartstrings.formats import import_vectors
from heartstrings.formats._layouts import layer_in_file_name, read_layout
from interop_support import EMOTIONS, WIDTH, means, model_info

SOURCE = means()
EXPECTED = SOURCE - SOURCE.mean(axis=1, keepdims=True)


def check(vectors, layers=(0, 1, 2), expected=EXPECTED) -> None:
    assert vectors.emotions == EMOTIONS
    assert vectors.layers == layers
    np.testing.assert_allclose(vectors.raw, expected, atol=1e-5)
    np.testing.assert_allclose(vectors.raw.mean(axis=1), 0, atol=1e-6)
    assert vectors.raw.dtype == np.float32
    assert vectors.provenance.source == "imported"


def by_key(join: str) -> dict[str, np.ndarray]:
    return {
        join.format(layer=layer, emotion=emotion): SOURCE[layer, at]
        for layer in range(3)
        for at, emotion in enumerate(EMOTIONS)
    }


@pytest.mark.parametrize(
    "join",
    ["layer_{layer}__{emotion}", "layer{layer}/{emotion}", "layers.{layer}.{emotion}", "{emotion}__layer_{layer}"],
)
def test_npz_with_layer_and_emotion_in_each_key(tmp_path: Path, join: str) -> None:
    np.savez(tmp_path / "v.npz", **by_key(join))
    vectors = import_vectors(tmp_path / "v.npz")
    check(vectors)
    np.testing.assert_allclose(vectors.centre, SOURCE.mean(axis=1), atol=1e-5)
    assert any("sha256" in note for note in vectors.provenance.notes)
    assert str(tmp_path) not in vectors.provenance.model_dump_json()


def test_npz_with_one_array_an_emotion_takes_the_layer_from_the_file_name(tmp_path: Path) -> None:
    path = tmp_path / "some-model_layer17_raw.npz"
    np.savez(path, **dict(zip(EMOTIONS, SOURCE[1], strict=True)))
    check(import_vectors(path), (17,), EXPECTED[1:2])
    check(import_vectors(path, layer=9), (9,), EXPECTED[1:2])


def test_npz_without_a_layer_number_asks_for_one(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", **dict(zip(EMOTIONS, SOURCE[1], strict=True)))
    with pytest.raises(InputError, match=r"which layer.*layer=17"):
        import_vectors(tmp_path / "v.npz")
    check(import_vectors(tmp_path / "v.npz", layer=3), (3,), EXPECTED[1:2])


def test_stacked_npz_with_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", vectors=SOURCE, emotions=np.array(EMOTIONS), layers=np.array([4, 8, 9]))
    check(import_vectors(tmp_path / "v.npz"), (4, 8, 9))
    np.savez(tmp_path / "w.npz", vectors=SOURCE)
    check(import_vectors(tmp_path / "w.npz", emotions=EMOTIONS))
    with pytest.raises(InputError, match="without names"):
        import_vectors(tmp_path / "w.npz")
    with pytest.raises(InputError, match="3 emotion names for 4"):
        import_vectors(tmp_path / "w.npz", emotions=EMOTIONS[:3])


def test_one_file_a_layer_in_a_folder(tmp_path: Path) -> None:
    for layer in range(3):
        np.savez(tmp_path / f"emotion_vectors_layer_{layer}.npz", **dict(zip(EMOTIONS, SOURCE[layer], strict=True)))
    (tmp_path / "metadata.json").write_text("{}")
    check(import_vectors(tmp_path))


def test_safetensors_half_precision_and_names_in_metadata(tmp_path: Path) -> None:
    save_file(by_key("layer_{layer}__{emotion}"), tmp_path / "v.safetensors")
    check(import_vectors(tmp_path / "v.safetensors", emotions=EMOTIONS))
    tensors = {"vectors": torch.tensor(SOURCE).bfloat16()}
    metadata = {"emotions": json.dumps(EMOTIONS), "layers": "[2, 5, 7]"}
    save_tensors(tensors, tmp_path / "w.safetensors", metadata=metadata)
    vectors = import_vectors(tmp_path / "w.safetensors")
    rounded = tensors["vectors"].float().numpy()
    assert vectors.layers == (2, 5, 7)
    np.testing.assert_allclose(vectors.raw, rounded - rounded.mean(axis=1, keepdims=True), atol=1e-5)


def pt(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def test_pt_dictionaries(tmp_path: Path) -> None:
    tensor = torch.tensor(SOURCE)
    emotion_first = {e: {f"layer_{n}": tensor[n, i] for n in range(3)} for i, e in enumerate(EMOTIONS)}
    layer_first = {n: {e: tensor[n, i] for i, e in enumerate(EMOTIONS)} for n in range(3)}
    stacked = {e: tensor[:, i] for i, e in enumerate(EMOTIONS)}
    with_names = {"vectors": tensor, "emotions": list(EMOTIONS), "layers": [0, 1, 2]}
    for content in (emotion_first, layer_first, stacked, with_names):
        check(import_vectors(pt(tmp_path / "v.pt", content)))
    check(import_vectors(pt(tmp_path / "v.pt", tensor), emotions=EMOTIONS))
    one = {e: tensor[2, i] for i, e in enumerate(EMOTIONS)}
    check(import_vectors(pt(tmp_path / "v.pt", one), layer=2), (2,), EXPECTED[2:])


def test_transformer_lens_hook_names(tmp_path: Path) -> None:
    tensor = torch.tensor(SOURCE)
    post = {f"blocks.{n}.hook_resid_post": tensor[n, 0] for n in range(3)}
    vectors = import_vectors(pt(tmp_path / "joyful.pt", post))
    assert (vectors.emotions, vectors.layers) == (("joyful",), (0, 1, 2))
    # The state before block n is the output of block n - 1.
    before = {f"blocks.{n + 1}.hook_resid_pre": tensor[n, 0] for n in range(3)}
    again = import_vectors(pt(tmp_path / "joyful.pt", before))
    assert again.layers == (0, 1, 2)
    np.testing.assert_array_equal(again.raw, vectors.raw)
    attention = {f"blocks.{n}.hook_attn_out": tensor[n, 0] for n in range(3)}
    assert import_vectors(pt(tmp_path / "joyful.pt", attention)).provenance.site == "attention"
    with pytest.raises(InputError, match="mixes sites"):
        import_vectors(pt(tmp_path / "joyful.pt", {**post, "blocks.4.hook_mlp_out": tensor[0, 0]}))


def test_one_emotion_is_left_as_it_is(tmp_path: Path) -> None:
    path = pt(tmp_path / "joyful.pt", {3: torch.tensor(SOURCE[0, 1])})
    vectors = import_vectors(path)
    np.testing.assert_array_equal(vectors.vector("joyful", layer=3, variant="raw"), SOURCE[0, 1])
    assert vectors.centre is None
    assert "one emotion" in vectors.provenance.centring
    assert import_vectors(path, emotions=["glad"]).emotions == ("glad",)
    assert import_vectors(f"happy={path}").emotions == ("happy",)
    with pytest.raises(InputError, match="holds one emotion"):
        import_vectors(path, centre=True)


def test_several_files_are_several_emotions(tmp_path: Path) -> None:
    for at, emotion in enumerate(EMOTIONS):
        pt(tmp_path / f"{emotion}.pt", {n: torch.tensor(SOURCE[n, at]) for n in range(3)})
    folder = import_vectors(tmp_path)
    assert sorted(folder.emotions) == sorted(EMOTIONS)
    check(import_vectors([f"{emotion}={tmp_path / emotion}.pt" for emotion in EMOTIONS]))
    with pytest.raises(InputError, match="both hold layer 0 of 'calm'"):
        import_vectors([f"calm={tmp_path}/calm.pt", f"calm={tmp_path}/sad.pt"])


def test_hidden_state_index_counts_the_embedding(tmp_path: Path) -> None:
    """A [n_layers + 1, width] stack: the embedding first, the state after the final norm last."""
    stack = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(0))
    path = pt(tmp_path / "evil.pt", stack)
    vectors = import_vectors(path, hidden_state_index=True, model=model_info())
    assert vectors.layers == (0, 1, 2)
    np.testing.assert_array_equal(vectors.raw[:, 0], stack[1:4].numpy())
    assert import_vectors(path, hidden_state_index=True).layers == (0, 1, 2)
    with pytest.raises(BundleError, match="hidden_state_index=True"):
        import_vectors(path, model=model_info())
    keyed = pt(tmp_path / "keyed.pt", {k: stack[k] for k in range(5)})
    assert import_vectors(keyed, hidden_state_index=True, model=model_info()).layers == (0, 1, 2)
    assert import_vectors(keyed, hidden_state_index=True).layers == (0, 1, 2, 3), "depth is not known here"
    assert any("final norm" in note for note in vectors.provenance.notes)


def test_model_is_checked_or_only_noted(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", **by_key("layer_{layer}__{emotion}"))
    assert import_vectors(tmp_path / "v.npz", model=model_info()).provenance.model == model_info()
    with pytest.raises(BundleError, match="width"):
        import_vectors(tmp_path / "v.npz", model=model_info(width=8))
    with pytest.raises(BundleError, match="layer 2"):
        import_vectors(tmp_path / "v.npz", model=model_info(n_layers=2))
    noted = import_vectors(tmp_path / "v.npz", model="some/model")
    assert noted.provenance.model is None
    assert any("some/model" in note for note in noted.provenance.notes)


def test_selection_and_centring_choices(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", **by_key("layer_{layer}__{emotion}"))
    some = import_vectors(tmp_path / "v.npz", emotions=["sad", "calm"], layer=1)
    assert (some.emotions, some.layers) == (("sad", "calm"), (1,))
    np.testing.assert_allclose(some.raw[0, 0], (SOURCE[1, 2] - SOURCE[1, 0]) / 2, atol=1e-5)
    left = import_vectors(tmp_path / "v.npz", centre=False)
    np.testing.assert_array_equal(left.raw, SOURCE)
    centred = {f"layer_0__{e}": EXPECTED[0, i].astype(np.float64) for i, e in enumerate(EMOTIONS)}
    np.savez(tmp_path / "c.npz", **centred)
    kept = import_vectors(tmp_path / "c.npz")
    assert kept.centre is None
    np.testing.assert_array_equal(kept.raw[0], EXPECTED[0])
    assert "before the file was written" in kept.provenance.centring


def test_imported_bundle_survives_saving(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", **by_key("layer_{layer}__{emotion}"))
    vectors = import_vectors(tmp_path / "v.npz")
    vectors.save(tmp_path / "bundle")
    loaded = type(vectors).load(tmp_path / "bundle")
    np.testing.assert_array_equal(loaded.raw, vectors.raw)
    assert loaded.provenance == vectors.provenance
    with pytest.raises(InputError, match="bundle already"):
        import_vectors(tmp_path / "bundle")


def test_layer_keys_are_told_from_emotions() -> None:
    vector = np.ones(3, dtype=np.float32)
    for key, number in {16: 16, "16": 16, "layer_16": 16, "model.layers.16": 16, "h.3": 3, "direction.7": 7}.items():
        assert set(read_layout({key: vector}, "f").cells) == {(number, None)}
    assert set(read_layout({"joyful": vector, "at ease": vector}, "f").cells) == {(None, "joyful"), (None, "at ease")}
    assert layer_in_file_name("gemma-4-e2b-it_layer17_raw") == 17
    assert layer_in_file_name("layer_1_to_layer_2") is None


def pearson(left: np.ndarray, right: np.ndarray) -> float:
    return float(abs(np.corrcoef(left, right)[0, 1]))


@pytest.mark.data
@pytest.mark.parametrize(
    "name", ["gemma-4-e2b-it_layer17_raw", "evb_llama-3.1-8b-instruct_raw", "evb_qwen2.5-7b-instruct_raw"]
)
def test_real_vectors_give_the_published_geometry(shared_data: Path, name: str) -> None:
    """Centre, SVD, |r| with the human ratings, against numbers computed independently of this package."""
    expected = json.loads((shared_data / "vectors" / "expected_geometry.json").read_text())
    rows = [line.split(",") for line in (shared_data / "ratings" / "vad_171.csv").read_text().splitlines()[1:]]
    ratings = {row[0]: (float(row[1]), float(row[2])) for row in rows if not row[3].startswith("estimate")}
    vectors = import_vectors(shared_data / "vectors" / f"{name}.npz")
    rated = [at for at, emotion in enumerate(vectors.emotions) if emotion in ratings]
    valence, arousal = np.array([ratings[vectors.emotions[at]] for at in rated]).T
    entries = {key: value for key, value in expected.items() if key.startswith(name)}
    assert len(entries) == len(vectors.layers)
    for key, entry in entries.items():
        layer = int(key.split("layer_")[1]) if "/" in key else 17
        contrasts = vectors.raw[vectors.layers.index(layer)].astype(np.float64)
        contrasts -= contrasts.mean(axis=0)
        left, sizes, _ = np.linalg.svd(contrasts, full_matrices=False)
        scores = (left * sizes)[rated]
        share = sizes**2 / (sizes**2).sum()
        assert (len(vectors.emotions), len(rated)) == (entry["n_emotions"], entry["n_rated"])
        assert pearson(scores[:, 0], valence) == pytest.approx(entry["pc1_valence"], abs=0.002)
        assert pearson(scores[:, 1], arousal) == pytest.approx(entry["pc2_arousal"], abs=0.002)
        np.testing.assert_allclose(share[:3], entry["var"], atol=0.002)
        for axis, rating in (("best_valence", valence), ("best_arousal", arousal)):
            by_component = [pearson(scores[:, at], rating) for at in range(5)]
            assert max(by_component) == pytest.approx(entry[axis][0], abs=0.002)
            assert int(np.argmax(by_component)) + 1 == entry[axis][1]
