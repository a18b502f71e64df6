"""Loading: what is read, what identifies it, and one clear error for everything that can be wrong with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM, LlamaForSequenceClassification

import models
from heartstrings.core.errors import HeartstringsError, ModelError
from heartstrings.core.types import Pooling
from heartstrings.engines.hf import _fingerprint as fingerprint
from heartstrings.engines.hf import checkpoint_folder
from heartstrings.engines.hf.loading import load
from heartstrings.engines.hf.named import has_template


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.folder(tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture
def copy(llama: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(llama, tmp_path / "copy"))


def edit(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize("family", ["llama", "gemma4", "gemma3", "qwen3_5_text", "gpt2", "bert", "roberta"])
def test_a_checkpoint_loads_as_what_it_is(family: str, tmp_path: Path) -> None:
    engine = load(models.folder(tmp_path / family, family))
    assert type(engine.model) is type(models.model(family))
    assert not engine.model.training
    memory = next(iter(models.engine(family).pool(models.stories(3), poolings=[Pooling(start=0)])))
    stored = next(iter(engine.pool(models.stories(3), poolings=[Pooling(start=0)])))
    np.testing.assert_array_equal(stored.means, memory.means)


def test_a_masked_language_model_loads_as_its_encoder(tmp_path: Path) -> None:
    BertForMaskedLM(BertConfig(**models._ENCODER)).save_pretrained(tmp_path)
    models.word_piece().save_pretrained(tmp_path)
    engine = load(tmp_path)
    assert engine.info.is_encoder
    assert engine.parts.head is None


def test_a_bare_stack_can_be_read_but_has_no_unembedding(tmp_path: Path) -> None:
    models.model("llama").model.save_pretrained(tmp_path)
    models.tokenizer().save_pretrained(tmp_path)
    engine = load(tmp_path)
    assert next(iter(engine.pool(["some text"], poolings=[Pooling(start=0)]))).n_tokens[0] > 1
    with pytest.raises(ModelError, match="a checkpoint without unembedding"):
        engine.unembed(np.ones((1, models.WIDTH), np.float32))


def test_info_says_what_was_loaded(llama: Path) -> None:
    info = load(llama).info
    assert (info.model_id, info.architecture, info.dtype, info.device) == (
        str(llama),
        "llama",
        "float32",
        "cpu" if not torch.cuda.is_available() else "cuda:0",
    )
    assert info.engine.startswith(f"torch {torch.__version__}, transformers ")
    assert load(llama, dtype="bf16").info.dtype == "bfloat16"


def test_dtype_auto_keeps_what_is_stored(tmp_path: Path) -> None:
    models.model("llama").to(torch.bfloat16).save_pretrained(tmp_path)
    models.tokenizer().save_pretrained(tmp_path)
    assert load(tmp_path).info.dtype == "bfloat16"
    assert load(tmp_path, dtype="float32").info.dtype == "float32"


def test_the_fingerprint_survives_copies_and_notices_changes(copy: Path, llama: Path) -> None:
    usual = load(llama).info
    assert load(copy).info.weights_hash == usual.weights_hash
    assert load(copy, dtype="bf16").info.weights_hash == usual.weights_hash
    edit(copy, transformers_version="9.9", _name_or_path="elsewhere")
    assert load(copy).info.weights_hash == usual.weights_hash

    weights = load_file(copy / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][0, 0] += 1e-3
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    assert load(copy).info.weights_hash != usual.weights_hash

    edit(copy, rms_norm_eps=1e-3)  # the same weights compute something else
    assert fingerprint.of_folder(copy) != usual.weights_hash
    other = models.tokenizer(bos=False)
    other.chat_template = "another"
    other.save_pretrained(copy)
    changed = load(copy).info
    assert changed.tokenizer_hash != usual.tokenizer_hash
    assert changed.template_hash != usual.template_hash
    models.tokenizer(chat=False).save_pretrained(copy)
    (copy / "chat_template.jinja").unlink(missing_ok=True)
    assert load(copy).info.template_hash is None


def test_large_files_are_sampled_in_every_tensor(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_folder, "WHOLE_BELOW", 0)
    usual = fingerprint.of_folder(copy)
    assert fingerprint.of_folder(copy) == usual
    weights = load_file(copy / "model.safetensors")
    for name in weights:
        changed = {**weights, name: weights[name] + 1e-3}
        save_file(changed, copy / "model.safetensors", {"format": "pt"})
        assert fingerprint.of_folder(copy) != usual, name


def test_models_in_memory_have_a_fingerprint_too() -> None:
    one, same, other = (models.engine("llama", seed=s).info.weights_hash for s in (0, 0, 1))
    assert one == same != other
    nudged = models.model("llama")
    with torch.no_grad():
        nudged.model.layers[2].mlp.up_proj.weight[5, 7] += 0.01
    from heartstrings.engines.hf.engine import TorchEngine

    assert TorchEngine.from_model(nudged, models.tokenizer()).info.weights_hash != one


def only_pickle(folder: Path) -> None:
    torch.save(models.model("llama").state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def half_a_file(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def nan_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 4] = torch.nan
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def own_code(folder: Path) -> None:
    edit(folder, model_type="custom", auto_map={"AutoConfig": "trap.Config", "AutoModel": "trap.Model"})
    (folder / "trap.py").write_text(f"open({str(folder / 'ran')!r}, 'w').write('code ran')")


def no_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


def encoder_decoder(folder: Path) -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    (folder / "model.safetensors").unlink()
    small = T5Config(vocab_size=400, d_model=16, d_kv=4, d_ff=16, num_layers=2, num_heads=2)
    T5ForConditionalGeneration(small).save_pretrained(folder)


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no configuration": (lambda f: (f / "config.json").unlink(), "has no config.json"),
    "configuration no JSON": (lambda f: (f / "config.json").write_text("{"), "cannot be read"),
    "configuration a list": (lambda f: (f / "config.json").write_text("[]"), "names no model_type"),
    "unknown architecture": (lambda f: edit(f, model_type="weird"), "cannot be loaded.*weird"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "has no weights"),
    "only a pickle": (only_pickle, "only as pytorch_model.bin, a pickle"),
    "half a file": (half_a_file, "SafetensorError"),
    "another width": (lambda f: edit(f, hidden_size=64), "other shapes than its config.json"),
    "more layers": (lambda f: edit(f, num_hidden_layers=6), "lack 18 tensors"),
    "NaN": (nan_weight, "NaN or Inf in model.layers.1.mlp.up_proj.weight"),
    "code of its own": (own_code, "needs code from its own repository"),
    "no tokenizer": (no_tokenizer, "the tokenizer of .* cannot be loaded"),
    "encoder-decoder": (encoder_decoder, "is an encoder-decoder"),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.filterwarnings("ignore")
def test_a_broken_checkpoint_is_one_clear_error(copy: Path, name: str) -> None:
    spoil, words = BROKEN[name]
    spoil(copy)
    with pytest.raises(ModelError, match=rf"(?s){words}") as caught:
        load(copy)
    assert len(str(caught.value)) < 900
    assert not (copy / "ran").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dtype": "int3"}, "dtype 'int3'.*auto, fast, float32"),
        ({"device": "quantum"}, "device 'quantum'"),
        pytest.param(
            {"device": "cuda"},
            "CUDA was asked for",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is one"),
        ),
    ],
)
def test_settings_that_cannot_be_met_are_refused(llama: Path, settings: dict[str, str], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        load(llama, **settings)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "no folder ''"),
        ("./not/here", "no folder './not/here'"),
        ("/not/here/at/all", "no folder"),
        ("nobody-at-all/no-such-model", "not in the local cache"),
        ("organism:unknown", "unknown"),
    ],
)
def test_a_model_that_is_not_there(name: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(HeartstringsError, match=words):
        load(name)


@pytest.mark.parametrize("found", ['{"chat_template": [{"template": "x"}]}', '{"chat_template": ["x"]}', "[]", "{"])
def test_a_template_of_another_form_is_none(found: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(found)
    assert has_template(str(tmp_path)) is False


def test_a_file_is_not_a_folder(llama: Path) -> None:
    with pytest.raises(ModelError, match="is a file"):
        load(llama / "model.safetensors")


def test_a_sequence_classifier_is_not_mistaken_for_a_language_model(tmp_path: Path) -> None:
    LlamaForSequenceClassification(models.model("llama").config).save_pretrained(tmp_path)
    models.tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="without unembedding"):
        load(tmp_path).unembed(np.ones((1, models.WIDTH), np.float32))


def test_importing_the_package_stays_light() -> None:
    import subprocess
    import sys

    code = "import heartstrings, heartstrings.core.engine, sys; print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False"]
