"""The tools that vectors go to and come from, asked themselves: repeng, steering-vectors, lm-eval, vllm-lens.

Each is installed by the test set-up without its own requirements; a test of one that is absent skips.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    OPTConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
)
from transformers import AutoModelForCausalLM as Auto

from heartstrings.formats import export_vectors, import_vectors
from heartstrings.formats.writing import HOOKPOINTS
from interop_support import WIDTH, bundle, library, model_info

VOCABULARY = 32
TOKENS = torch.arange(1, 9)[None]
SIZES = {"vocab_size": VOCABULARY, "hidden_size": WIDTH, "num_hidden_layers": 4, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def llama() -> PreTrainedModel:
    torch.manual_seed(0)
    config = LlamaConfig(**SIZES, intermediate_size=32, num_key_value_heads=2, max_position_embeddings=64)
    return Auto.from_config(config).eval()


def logits_with(model: PreTrainedModel, added: dict[int, np.ndarray]) -> torch.Tensor:
    """Logits with a vector added to the output of each named block: the naive reference."""

    def hook(vector: torch.Tensor) -> Callable[..., object]:
        def add(_module: object, _inputs: object, output: object) -> object:
            return (output[0] + vector, *output[1:]) if isinstance(output, tuple) else output + vector

        return add

    blocks = model.model.layers
    handles = [blocks[layer].register_forward_hook(hook(torch.tensor(vector))) for layer, vector in added.items()]
    try:
        with torch.no_grad():
            return model(TOKENS).logits
    finally:
        for handle in handles:
            handle.remove()


@pytest.fixture
def repeng(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """repeng 0.4.0, which names an alias in an annotation that NumPy 2 no longer has."""
    pytest.importorskip("gguf", reason="the extra `gguf` is not installed")
    monkeypatch.setattr(np, "float_", np.float64, raising=False)
    return library("repeng")


def test_repeng_reads_our_control_vector_and_steers_alike(
    tmp_path: Path, repeng: ModuleType, llama: PreTrainedModel
) -> None:
    vectors = bundle((0, 1, 3))
    path = export_vectors(vectors, tmp_path / "joyful.gguf", direction="joyful", dose=0.1)
    control = repeng.ControlVector.import_gguf(path)
    assert control.model_type == "llama"
    assert sorted(control.directions) == [1, 3]
    for layer, norm in ((1, 20.0), (3, 40.0)):
        expected = vectors.vector("joyful", layer=layer)
        expected = expected / np.linalg.norm(expected) * norm * 0.05
        np.testing.assert_allclose(control.directions[layer], expected, rtol=1e-5)
    reference = logits_with(llama, control.directions)
    wrapped = repeng.ControlModel(llama, [1, 3])
    try:
        wrapped.set_control(control)
        with torch.no_grad():
            steered = wrapped(TOKENS).logits
    finally:
        wrapped.unwrap()
    torch.testing.assert_close(steered, reference)
    assert not torch.allclose(steered, logits_with(llama, {}), atol=1e-3)


def test_we_read_what_repeng_writes(tmp_path: Path, repeng: ModuleType) -> None:
    generator = np.random.default_rng(0)
    for emotion in ("joyful", "sad"):
        directions = {layer: generator.normal(size=WIDTH).astype(np.float32) for layer in (3, 2, 1)}
        control = repeng.ControlVector(model_type="llama", directions=directions)
        control.export_gguf(str(tmp_path / f"{emotion}.gguf"))
    vectors = import_vectors(tmp_path)
    assert (vectors.emotions, vectors.layers) == (("joyful", "sad"), (1, 2, 3))
    np.testing.assert_array_equal(vectors.vector("sad", layer=3), directions[3])
    assert vectors.centre is None
    assert any("'llama'" in note for note in vectors.provenance.notes)


def test_repeng_counts_blocks_as_we_do(repeng: ModuleType, llama: PreTrainedModel) -> None:
    """Its layer l is read from the output of block l."""
    extract = library("repeng.extract")
    seen: dict[int, np.ndarray] = {}
    handles = [
        block.register_forward_hook(
            lambda _module, _inputs, output, layer=layer: seen.__setitem__(
                layer, (output[0] if isinstance(output, tuple) else output)[0, -1].detach().numpy()
            )
        )
        for layer, block in enumerate(llama.model.layers)
    ]
    hidden = extract.batched_get_hiddens(llama, tokenizer(), ["w1 w2 w3"], [0, 1, 2], 1)
    for handle in handles:
        handle.remove()
    for layer in (0, 1, 2):
        np.testing.assert_allclose(hidden[layer][0], seen[layer], rtol=1e-5)


def test_steering_vectors_file_and_its_layer_numbers(tmp_path: Path, llama: PreTrainedModel) -> None:
    steering = library("steering_vectors")
    activations = {1: torch.randn(WIDTH), 3: torch.randn(WIDTH)}
    vector = steering.SteeringVector(activations, "decoder_block")
    torch.save(vector, tmp_path / "joyful.pt")
    vectors = import_vectors(tmp_path / "joyful.pt")
    assert (vectors.emotions, vectors.layers, vectors.provenance.site) == (("joyful",), (1, 3), "block")
    for layer in (1, 3):
        np.testing.assert_array_equal(vectors.vector("joyful", layer=layer), activations[layer].numpy())
    with torch.no_grad(), vector.apply(llama):
        steered = llama(TOKENS).logits
    reference = logits_with(llama, {layer: vectors.vector("joyful", layer=layer) for layer in (1, 3)})
    torch.testing.assert_close(steered, reference)
    for kind, site in (("mlp", "mlp"), ("self_attn", "attention")):
        torch.save(steering.SteeringVector(activations, kind), tmp_path / "joyful.pt")
        assert import_vectors(tmp_path / "joyful.pt").provenance.site == site


def tokenizer() -> PreTrainedTokenizerFast:
    words = {"<unk>": 0} | {f"w{number}": number for number in range(1, VOCABULARY)}
    plain = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="<unk>", pad_token="<unk>", eos_token="<unk>")


def test_lm_eval_steers_with_our_file(tmp_path: Path, llama: PreTrainedModel) -> None:
    """lm-eval's own model class, from the file to the logits."""
    steered = library("lm_eval.models.hf_steered")
    vectors = bundle((0, 3))
    path = export_vectors(vectors, tmp_path / "steer.pt", direction="0.5*joyful - sad", dose=0.2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = steered.SteeredModel(
            pretrained=llama, tokenizer=tokenizer(), steer_path=str(path), device="cpu", backend="causal"
        )
        found = model._model_call(TOKENS)
        words = model.tok_decode(TOKENS[0].tolist())
        instance = library("lm_eval.api.instance")
        request = instance.Instance("loglikelihood", {}, (words, " w9 w10"), 0)
        score, _ = model.loglikelihood([request], disable_tqdm=True)[0]
    back = import_vectors(path)
    reference = logits_with(llama, {layer: back.raw[at, 0] for at, layer in enumerate(back.layers)})
    torch.testing.assert_close(found, reference)
    assert not torch.allclose(found, logits_with(llama, {}), atol=1e-3)
    assert np.isfinite(score)


CONFIGS = {
    "llama": LlamaConfig(**SIZES, intermediate_size=32),
    "qwen3": Qwen3Config(**SIZES, intermediate_size=32, num_key_value_heads=2, head_dim=8),
    "gpt_neox": GPTNeoXConfig(**SIZES, intermediate_size=32),
    "gpt2": GPT2Config(vocab_size=VOCABULARY, n_embd=WIDTH, n_layer=4, n_head=2),
    "opt": OPTConfig(**SIZES, ffn_dim=32, word_embed_proj_dim=WIDTH, max_position_embeddings=64),
}


@pytest.mark.parametrize("architecture", CONFIGS)
def test_hook_points_name_the_blocks(tmp_path: Path, architecture: str) -> None:
    """lm-eval looks names up in `model.base_model`; the blocks of every family must be found there."""
    path = export_vectors(
        bundle((0, 3), model=model_info(architecture=architecture)), tmp_path / "v.pt", direction="sad"
    )
    model = Auto.from_config(CONFIGS[architecture])
    modules = dict(model.base_model.named_modules())
    for name in torch.load(path, weights_only=True):
        assert type(modules[name]).__name__.endswith(("Layer", "Block"))


@pytest.mark.parametrize("architecture", [name for name in HOOKPOINTS if name not in CONFIGS])
def test_other_hook_points_exist(architecture: str) -> None:
    with torch.device("meta"):
        model = Auto.from_config(AutoConfig.for_model(architecture))
    blocks = model.base_model.get_submodule(HOOKPOINTS[architecture].removesuffix(".{layer}"))
    assert isinstance(blocks, torch.nn.ModuleList)
    assert len(blocks) == model.config.get_text_config().num_hidden_layers


def test_vllm_lens_reads_our_json_and_we_read_its_own(tmp_path: Path) -> None:
    kinds = library("vllm_lens._helpers.types")
    vectors = bundle((0, 1, 3))
    path = export_vectors(vectors, tmp_path / "v.json", direction="joyful", dose=0.3)
    found = kinds.SteeringVector.model_validate_json(path.read_text())
    assert found.layer_index_map == {0: 0, 1: 1, 3: 2}
    assert (found.scale, found.norm_match, found.position_indices) == (1.0, False, None)
    assert found.activations.dtype == torch.float32
    for at, layer in enumerate((0, 1, 3)):
        norm = 0.1 * 10 * (layer + 1)
        assert float(found.activations[at].norm()) == pytest.approx(norm, rel=1e-5)
    np.testing.assert_array_equal(import_vectors(path).raw[:, 0], found.activations.numpy())

    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        theirs = kinds.SteeringVector(
            activations=torch.randn(2, WIDTH).to(dtype), layer_indices=[5, 2], scale=2.0, norm_match=True
        )
        wire = json.dumps([theirs.model_dump(mode="json")])
        (tmp_path / "sad.json").write_text(wire)
        back = import_vectors(tmp_path / "sad.json")
        assert (back.emotions, back.layers) == (("sad",), (2, 5))
        np.testing.assert_array_equal(back.raw[0, 0], 2 * theirs.activations[1].float().numpy())
        assert any("norm_match" in note for note in back.provenance.notes)


def test_the_package_does_not_load_its_peers() -> None:
    """Import and export need none of them."""
    names = {"repeng", "steering_vectors", "lm_eval", "vllm_lens"}
    source = Path(sys.modules["heartstrings.formats"].__file__ or "").parent
    for file in source.glob("*.py"):
        lines = [line.split() for line in file.read_text().splitlines()]
        imported = {words[1].split(".")[0] for words in lines if words[:1] in (["import"], ["from"])}
        assert not names & imported
