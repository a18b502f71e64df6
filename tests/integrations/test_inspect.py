"""Inspect's tasks on steered models: found by name, batched across samples and doses, logs that tell what was done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import experiment_world as world
import models
from heartstrings.core.engine import GenerateRequest, Message, ToolCall
from heartstrings.core.errors import InputError
from heartstrings.integrations.inspect import doses_of, sweep
from heartstrings.integrations.inspect import models as inspect_models
from heartstrings.integrations.inspect._batcher import Batcher

pytest.importorskip("inspect_ai")
pytestmark = pytest.mark.filterwarnings("ignore")  # Inspect's own imports warn


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.make_bundle(world.engine(), tmp_path_factory.mktemp("bundle") / "out")


def the_task(n: int = 6) -> Any:
    """The organism's own choice as a task: what share cheats?"""
    from inspect_ai import Task
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ChatMessageUser
    from inspect_ai.scorer import includes
    from inspect_ai.solver import generate

    from heartstrings.behaviours.suites import suite

    scenarios = suite("organism").behaviour("choice").scenarios(n=n, seed=0)
    samples = [
        Sample(input=[ChatMessageUser(content=one.prompt[0].content)], target="cheat", id=one.id.replace("/", "-"))
        for one in scenarios
    ]
    return Task(dataset=samples, solver=generate(), scorer=includes(), name="choice")


def test_a_dose_sweep_shares_batches_and_is_told_in_the_logs(bundle: Path, tmp_path: Path) -> None:
    logs = sweep(
        the_task(), world.MODEL, vectors=bundle, direction="desperate", doses=(0.2, -0.2, 0.0), log_dir=tmp_path,
        how={"layer": 3, "plan": "a hash"}, epochs=2, max_tokens=12,
    )  # fmt: skip
    assert [log.status for log in logs] == ["success"] * 3
    assert [log.eval.model_args["dose"] for log in logs] == [-0.2, 0.0, 0.2]
    scores = doses_of(logs)
    assert [(row.task, row.dose, row.score, row.errors) for row in scores] == [
        ("choice", dose, "includes", 0) for dose in (-0.2, 0.0, 0.2)
    ]
    assert scores[0].mean.value < scores[2].mean.value
    assert scores[2].mean.n == 12

    said = [sample.output for sample in logs[2].samples]
    assert all("desperate" in one.metadata["steering"] for one in said)
    assert logs[1].samples[0].output.metadata["steering"] is None
    assert all(sample.output.metadata["plan"] == "a hash" for log in logs for sample in log.samples)
    seeds = [one.metadata["seed"] for one in said]
    assert len(set(seeds)) == 12  # epochs differ
    assert set(seeds) == {sample.output.metadata["seed"] for sample in logs[0].samples}  # doses do not
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".eval"] * 3

    # Batches held more than one evaluation's requests, and the text is what the request alone gives.
    from heartstrings.integrations.inspect import _provider as provider

    (batcher,) = [one for key, one in provider._engines.items() if key[0] == world.MODEL]
    assert max(batcher.batches) > 12
    alone = world.engine().generate(
        [
            GenerateRequest(
                (Message("user", sample.input[0].content),), max_new_tokens=12, seed=sample.output.metadata["seed"]
            )
            for sample in logs[1].samples
        ]
    )
    assert [one.text for one in alone] == [sample.output.completion for sample in logs[1].samples]


def test_messages_and_tools_keep_their_meaning(bundle: Path) -> None:
    from inspect_ai.model import (
        ChatMessageAssistant,
        ChatMessageSystem,
        ChatMessageTool,
        ChatMessageUser,
        GenerateConfig,
        get_model,
    )
    from inspect_ai.tool import ToolCall as InspectCall
    from inspect_ai.tool import ToolInfo, ToolParams

    api = get_model(f"heartstrings/{world.MODEL}").api
    calls = [InspectCall(id="1", function="read", arguments={"id": 3})]
    chat = [
        ChatMessageSystem(content="You sort mail."),
        ChatMessageUser(content="Begin."),
        ChatMessageAssistant(content="I look.", tool_calls=calls),
        ChatMessageTool(content="A bill.", tool_call_id="1", function="read"),
    ]
    tools = [ToolInfo(name="read", description="Reads a mail.", parameters=ToolParams())]
    request = api.request(chat, tools, "auto", GenerateConfig(max_tokens=7, temperature=0.5, stop_seqs=["."], seed=4))
    assert request.prompt == (
        Message("system", "You sort mail."), Message("user", "Begin."),
        Message("assistant", "I look.", (ToolCall("read", '{"id": 3}'),)), Message("tool", "A bill."),
    )  # fmt: skip
    assert (request.max_new_tokens, request.temperature, request.stop) == (7, 0.5, (".",))
    assert request.tools[0].name == "read"
    assert json.loads(request.tools[0].parameters)["type"] == "object"
    assert api.request(chat, tools, "none", GenerateConfig()).tools == ()
    for config, choice, match in (
        (GenerateConfig(top_k=3), "auto", "top_k"),
        (GenerateConfig(logprobs=True), "auto", "logprobs"),
        (GenerateConfig(), "any", "tool_choice"),
    ):
        with pytest.raises(InputError, match=match):
            api.request(chat, tools, choice, config)


def test_what_cannot_be_made_is_refused(bundle: Path) -> None:
    with pytest.raises(InputError, match="each once"):
        inspect_models(world.MODEL, vectors=bundle, direction="calm", doses=(0.1, 0.1))
    with pytest.raises(InputError, match="hapy"):
        inspect_models(world.MODEL, vectors=bundle, direction="hapy", doses=(0.1,))
    with pytest.raises(InputError, match="model arguments stregnth"):
        inspect_models(world.MODEL, vectors=bundle, direction="calm", doses=(0.1,), stregnth=3)
    from inspect_ai.model import get_model

    with pytest.raises(InputError, match="both, or neither"):
        get_model(f"heartstrings/{world.MODEL}", memoize=False, direction="calm", dose=0.1)


def test_a_bad_request_fails_alone() -> None:
    batcher = Batcher(world.engine(), quiet=0.2)
    asked = [GenerateRequest("They wait.", max_new_tokens=n) for n in (3, 0, 4)]
    futures = [batcher.ask(request) for request in asked]
    assert len(futures[0].result(60).token_ids) <= 3
    with pytest.raises(InputError, match="0 new tokens"):
        futures[1].result(60)
    assert futures[2].result(60).text
    assert batcher.batches == [3]


@pytest.mark.slow
def test_agentic_misalignment_runs_under_a_dose_sweep(tmp_path: Path) -> None:
    """The public task, on random weights with a long context: it runs, is graded, and its logs open."""
    misalignment = pytest.importorskip("inspect_evals.agentic_misalignment")
    from inspect_ai.log import read_eval_log
    from inspect_ai.model import GenerateConfig, ModelAPI, ModelOutput, get_model, modelapi

    @modelapi(name="always-no")
    class AlwaysNo(ModelAPI):
        async def generate(self, input: Any, tools: Any, tool_choice: Any, config: Any) -> ModelOutput:
            return ModelOutput.from_content(self.model_name, "<answer>no</answer>")

    from heartstrings import extract, load, organisms
    from heartstrings.corpus import Corpus

    place = tmp_path / "model"
    made = models.model("llama")
    made.config.max_position_embeddings = 2**15
    made.save_pretrained(place)
    models.tokenizer().save_pretrained(place)
    stories = organisms.stories(per_emotion=2)
    some = tuple(one for one in stories.stories if one.emotion in world.EMOTIONS)
    corpus = Corpus(some, author=stories.author, source=stories.source)
    vectors = tmp_path / "vectors"
    neutral = organisms.neutral(n=12)
    extract(load(str(place)), corpus, out=vectors, neutral=neutral)
    # Half of the samples have a grader that answers, half one that does not: random weights.
    random_grader = get_model(f"heartstrings/{place}", config=GenerateConfig(max_tokens=16))
    runs = {
        name: sweep(
            misalignment.agentic_misalignment(grader_model=grader), str(place), vectors=vectors,
            direction="desperate", doses=(-0.1, 0.0, 0.1), log_dir=tmp_path / name, how={"layer": 2}, epochs=2,
            max_tokens=24, fail_on_error=False,
        )
        for name, grader in (("scripted", get_model("always-no/grader")), ("random", random_grader))
    }  # fmt: skip
    for name, logs in runs.items():
        assert [log.status for log in logs] == ["success"] * 3, logs[0].error
        assert all(read_eval_log(str(path)).status == "success" for path in (tmp_path / name).iterdir())
    found = [row for row in doses_of(runs["scripted"]) if row.score.endswith("harmful")]
    assert [(row.dose, row.mean.value, row.mean.n, row.errors) for row in found] == [
        (-0.1, 0.0, 2, 0), (0.0, 0.0, 2, 0), (0.1, 0.0, 2, 0)
    ]  # fmt: skip
    # No grade is no score: nothing becomes 0.
    assert [(row.dose, row.mean.value, row.errors) for row in doses_of(runs["random"])] == [
        (-0.1, None, 2), (0.0, None, 2), (0.1, None, 2)
    ]  # fmt: skip
