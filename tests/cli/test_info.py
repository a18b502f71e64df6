"""`heartstrings info MODEL`: from the files alone, and the same as the engine states."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import heartstrings
import models
from heartstrings import organisms
from heartstrings.cli import _summary as summary
from heartstrings.core.errors import ModelError
from heartstrings.engines.hf.checkpoint_folder import depth, describe, parameters
from heartstrings.engines.hf.loading import load

UNKNOWN = {"revision", "is_encoder", "device", "engine", "tokenizer_hash"}
"""What only a loaded model tells."""


def stated(what: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    summary.info(heartstrings.info(what), {}, True)
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize("family", ["llama", "gemma4", "qwen3_5_text", "gpt2", "opt", "bert"])
def test_the_files_say_what_the_engine_says(family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = models.folder(tmp_path / family, family)
    found, info = stated(str(folder), capsys), load(folder).info.model_dump(mode="json")
    assert set(found) == {*info, "parameters"}
    for name in set(info) - UNKNOWN:
        assert found[name] == info[name], name
    assert {name for name in UNKNOWN if found[name] is not None} == set()
    weights = {weight.data_ptr(): weight.numel() for weight in models.model(family).state_dict().values()}
    assert found["parameters"] == sum(weights.values())
    assert depth(folder) == models.LAYERS


def test_the_dtype_is_the_stored_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models.model("llama").to(torch.bfloat16).save_pretrained(tmp_path)
    models.tokenizer().save_pretrained(tmp_path)
    assert stated(str(tmp_path), capsys)["dtype"] == "bfloat16"


@pytest.mark.parametrize("kind", ["jinja", "string", "list", "several files", "none"])
def test_the_template_is_found_where_transformers_finds_it(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = models.folder(tmp_path, chat=kind not in ("string", "list", "none"))
    if kind in ("string", "list"):
        config = json.loads((folder / "tokenizer_config.json").read_text())
        others = [{"name": "tool_use", "template": "other"}, {"name": "default", "template": models.CHAT_TEMPLATE}]
        config["chat_template"] = models.CHAT_TEMPLATE if kind == "string" else others
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    if kind == "several files":
        (folder / "additional_chat_templates").mkdir()
        (folder / "additional_chat_templates" / "tool_use.jinja").write_text("other")
    found, info = stated(str(folder), capsys)["template_hash"], load(folder).info.template_hash
    assert found == info
    assert (found is None) == (kind == "none")


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; sys.argv = ['heartstrings', 'info', 'organism:blank', '--json']\n"
        "from heartstrings.cli import main\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'transformers', 'scipy'} & set(sys.modules)))\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said, modules = ran.stdout.splitlines()
    assert modules == "[]"
    assert json.loads(said)["weights_hash"].startswith("sha256:")


def test_looking_for_a_folder_needs_no_framework() -> None:
    code = (
        "import sys; from heartstrings.engines.hf.named import local_folder\n"
        "print(local_folder('organism:blank').name, local_folder('smollm2') == 0, 'torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["blank", "False", "False"]


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    summary.info(heartstrings.info("organism:blank"), {}, False)
    said = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    facts = {" ".join(words[:-1]): words[-1] for words in said[1:]}
    assert list(facts) == [
        "model id", "architecture", "blocks", "width", "parameters", "dtype stored", "quantisation", "weights hash",
        "chat template",
    ]  # fmt: skip
    assert (facts["blocks"], facts["width"], facts["parameters"]) == ("6", "160", "1,855,520")
    assert (facts["quantisation"], facts["chat template"]) == ("–", "yes")


def test_a_broken_folder_is_said_as_loading_says_it(tmp_path: Path) -> None:
    folder = models.folder(tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"only as pytorch_model\.bin, a pickle"):
        heartstrings.info(str(folder))
    (folder / "model.safetensors").write_bytes(b"no header")
    with pytest.raises(ModelError):
        heartstrings.info(str(folder))
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json of .* cannot be read"):
        heartstrings.info(str(folder))
    for spoilt in ("{", "[]", '{"num_hidden_layers": "many"}'):
        (folder / "config.json").write_text(spoilt)
        assert depth(folder) is None
        with pytest.raises(ModelError):
            describe(folder)


def test_parameters_of_a_folder() -> None:
    assert parameters(organisms.path("steerable")) == 1_855_520
    assert parameters(Path(organisms.__file__).parent) is None
