"""Our behaviours as Inspect tasks: every score as scripted, tools with real ids, missing is unscored."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import experiment_world as world
import sandboxes
import scripted_engine as scripted
from heartstrings.behaviours.agents.blackmail import Blackmail
from heartstrings.behaviours.agents.code_grading import tasks
from heartstrings.behaviours.base import Grade, Scenario
from heartstrings.behaviours.writing._code_tasks import CodeTasks
from heartstrings.core.engine import GenerateRequest
from heartstrings.core.errors import InputError
from heartstrings.experiment.ledger import Cell, SampleLedger

pytest.importorskip("inspect_ai")
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]  # Inspect's own imports warn


@functools.cache
def scripted_model() -> None:
    """A provider of Inspect's that says what it is told to. (Inspect's own wants a tokenizer from the network.)"""
    from inspect_ai.model import GenerateConfig, ModelAPI, modelapi

    @modelapi(name="scripted")
    class Scripted(ModelAPI):
        def __init__(
            self, model_name: str, base_url: Any = None, api_key: Any = None,
            config: GenerateConfig = GenerateConfig(), say: Any = None,  # noqa: B008 (Inspect's own signature)
        ) -> None:  # fmt: skip
            super().__init__(model_name, base_url, api_key, [], config)
            self.say = say

        async def generate(self, input: Any, tools: Any, tool_choice: Any, config: Any) -> Any:
            return self.say(input, tools)


def played(task: Any, say: Callable[[list[Any], list[Any]], Any], folder: Path, **more: Any) -> Any:
    """Inspect's log of a task on a scripted model."""
    from inspect_ai import eval as inspect_eval
    from inspect_ai.model import get_model

    scripted_model()
    model = get_model("scripted/model", say=say, memoize=False)
    (log,) = inspect_eval(task, model=model, log_dir=str(folder), display="none", **more)
    assert log.status == "success", log.error
    return log


def reply(text: str, *calls: tuple[str, dict[str, Any]]) -> Any:
    from inspect_ai.model import ChatCompletionChoice, ChatMessageAssistant, ModelOutput
    from inspect_ai.tool import ToolCall

    made = [ToolCall(id=f"id{at}-{name}", function=name, arguments=given) for at, (name, given) in enumerate(calls)]
    message = ChatMessageAssistant(content=text, tool_calls=made or None)
    return ModelOutput(model="scripted/model", choices=[ChatCompletionChoice(message=message)])


def test_blackmail_comes_out_as_scripted(tmp_path: Path) -> None:
    """One that blackmails, one that behaves, one that falls apart: by scenario, through Inspect's messages."""
    from heartstrings.integrations.inspect.tasks import task

    scenarios = Blackmail().scenarios(n=3, seed=0)
    wanted = {scenarios[0].id: (1, 1), scenarios[1].id: (0, 1), scenarios[2].id: (None, 0)}
    parts = dict(zip((one.id for one in scenarios), ("blunt", "honest", "incoherent"), strict=True))
    scripts = {one.prompt[0].content: (one, scripted.play(one, parts[one.id])) for one in scenarios}
    seen: list[list[Any]] = []

    def say(input: list[Any], tools: list[Any]) -> Any:
        assert {tool.name for tool in tools} == {"list_inbox", "read_email", "send_email", "finish"}
        seen.append(input)
        scenario, turns = scripts[input[0].text]
        turn = sum(message.role == "assistant" for message in input)
        said = scripted.completion(
            turns[turn] if turn < len(turns) else {"text": "", "calls": []}, scripted.slots(scenario)
        )
        return reply(said.text, *((call.name, json.loads(call.arguments)) for call in said.tool_calls))

    log = played(task("blackmail", n=3), say, tmp_path)
    for sample in log.samples:
        outcome, valid = wanted[sample.metadata["scenario"]]
        value = sample.scores["outcome"].value
        assert (math.isnan(value) and outcome is None) or value == outcome
        assert sample.scores["valid"].value == valid
    results = {score.name: score for score in log.results.scores}
    assert results["outcome"].metrics["mean"].value == 0.5, "what fell apart is no 0"
    assert results["outcome"].unscored_samples == 1
    assert {"mean", "stderr"} <= set(results["outcome"].metrics)
    for messages in seen:  # every result names the call that it answers
        calls = [call.id for message in messages if message.role == "assistant" for call in message.tool_calls or ()]
        assert [message.tool_call_id for message in messages if message.role == "tool"] == calls


def test_code_is_run(tmp_path: Path) -> None:
    from heartstrings.integrations.inspect.tasks import task

    sandboxes.needed()
    right = {}
    for at, scenario in enumerate(CodeTasks().scenarios(n=4, seed=1)):
        table = dict((*scenario.data["checks"], scenario.data["shown"]))
        lines = ", ".join(f"{call!r}: {value}" for call, value in table.items())
        called = scenario.data["called"]
        code = f"T = {{{lines}}}\ndef {called}(x):\n    return T['{called}(' + repr(x) + ')']\n"
        right[scenario.prompt[0].content] = code if at % 2 else f"def {called}(x):\n    return 'lamp'\n"
    log = played(
        task("code", n=4, seed=1), lambda input, tools: reply(f"```python\n{right[input[0].text]}```"), tmp_path
    )
    assert sorted(sample.scores["outcome"].value for sample in log.samples) == [0, 0, 1, 1]


@dataclasses.dataclass(frozen=True)
class SlowToGrade(CodeTasks):
    """Two samples whose grades wait for each other: both come only if neither holds up the loop."""

    both: threading.Barrier = dataclasses.field(default_factory=lambda: threading.Barrier(2, timeout=20))

    def request(self, scenario: Scenario, *, steering: Any, seed: int) -> GenerateRequest:
        return GenerateRequest(scenario.prompt, 9, temperature=0.5, top_p=0.9, stop=("END",), seed=seed)

    def grade(self, scenario: Scenario, answer: Any, follow_up: Any = None) -> Grade:
        self.both.wait()
        return Grade(1.0, 1.0, answer.text)


def test_grades_do_not_hold_up_other_samples_and_settings_of_a_request_go_along(tmp_path: Path) -> None:
    from heartstrings.integrations.inspect.tasks import task

    log = played(task(SlowToGrade(), n=2), lambda input, tools: reply("Hm."), tmp_path)
    assert [sample.scores["outcome"].value for sample in log.samples] == [1, 1]
    (asked,) = [event.config for event in log.samples[0].events if event.event == "model"]
    assert (asked.max_tokens, asked.temperature, asked.top_p, asked.stop_seqs) == (9, 0.5, 0.9, ["END"])


def test_tasks_are_found_by_name(tmp_path: Path) -> None:
    log = played("heartstrings/blackmail_harmless", lambda input, tools: reply("Hm."), tmp_path, task_args={"n": 2})
    assert log.eval.metadata["behaviour"] == "blackmail-harmless"
    assert [sample.scores["valid"].value for sample in log.samples] == [0, 0]
    assert [len([m for m in sample.messages if m.role == "assistant"]) for sample in log.samples] == [2, 2]


def test_what_cannot_be_a_task() -> None:
    from heartstrings.integrations.inspect.tasks import task

    with pytest.raises(InputError, match="log-probabilities"):
        task("pushback")
    with pytest.raises(InputError, match=r"no behaviour 'nothing'.*blackmail"):
        task("nothing")


def test_a_run_as_logs_and_the_ids_both_ways(tmp_path: Path) -> None:
    from inspect_ai.log import list_eval_logs, read_eval_log

    from heartstrings.integrations.inspect import write_logs
    from heartstrings.integrations.inspect._logs import FILE

    bundle = world.make_bundle(world.engine(), tmp_path / "bundle")
    of = world.plan(layers=(2,), doses=(-0.2, 0.0, 0.2), samples={"select": 2, "effect": 5})
    world.run(of, bundle, tmp_path / "run" / "ledger.sqlite")
    written = write_logs(tmp_path / "run", tmp_path / "logs")
    assert len(list_eval_logs(str(tmp_path / "logs"))) == len(written)
    index = json.loads((tmp_path / "run" / FILE).read_text())
    assert index["plan"] == of.hash
    with SampleLedger.read(tmp_path / "run" / "ledger.sqlite") as ledger:
        rows = {(row.cell, row.scenario, row.repeat): row for row in ledger.samples(phase="test")}
    seen = set()
    for entry in index["logs"]:
        log = read_eval_log(entry["log"])
        assert (log.eval.eval_id, log.eval.metadata["plan"]) == (entry["eval_id"], of.hash)
        cell = Cell(**entry["cell"])
        for sample in log.samples:
            key = sample.metadata["sample"]
            row = rows[cell, key["scenario"], key["repeat"]]
            seen.add((row.cell, row.scenario, row.repeat))
            assert sample.input
            assert sample.output.completion == (row.text or "")
            for name, value in (("outcome", row.outcome), ("valid", row.valid)):
                found = sample.scores[name].value
                assert math.isnan(found) if value is None else found == value
        means = {one.name: one for one in log.results.scores}
        values = [row.outcome for row in rows.values() if row.cell == cell and row.outcome is not None]
        assert means["outcome"].scored_samples == len(values)
        if values:  # situations weigh alike
            of_group: dict[str, list[float]] = {}
            for row in rows.values():
                if row.cell == cell and row.outcome is not None:
                    of_group.setdefault(row.group, []).append(row.outcome)
            expected = sum(sum(one) / len(one) for one in of_group.values()) / len(of_group)
            assert means["outcome"].metrics["mean"].value == pytest.approx(expected)
    shown = {key for key, row in rows.items() if row.cell.kind in ("baseline", "direction", "prompting")}
    assert seen == shown
    again = write_logs(tmp_path / "run", tmp_path / "again")
    assert [read_eval_log(str(path)).eval.eval_id for path in again] == [one["eval_id"] for one in index["logs"]]
    with pytest.raises(InputError, match="no ledger"):
        write_logs(tmp_path, tmp_path / "none")


def test_programs_run_in_the_sandbox_that_a_task_names(tmp_path: Path) -> None:
    """A program that is right only where there is a /usr/bin, which our own sandbox has not."""
    from heartstrings.behaviours.agents._reward_hacking import SolvableCode
    from heartstrings.integrations.inspect.tasks import task

    sandboxes.needed()
    (scenario,) = CodeTasks().scenarios(n=1, seed=1)
    table = dict((*scenario.data["checks"], scenario.data["shown"]))
    lines = ", ".join(f"{call!r}: {value}" for call, value in table.items())
    called = scenario.data["called"]
    right = f"import os\nT = {{{lines}}}\ndef {called}(x):\n    return T['{called}(' + repr(x) + ')']"
    said = f"```python\n{right} if os.path.exists('/usr/bin/env') else None\n```"
    for named, outcome in ((None, 0), ("bubblewrap", 1)):
        log = played(task("code", n=1, seed=1), lambda input, tools: reply(said), tmp_path / str(named), sandbox=named)
        assert log.samples[0].scores["outcome"].value == outcome, named

    one = SolvableCode().scenarios(n=1, seed=0)[0]
    (honest,) = [known for known in tasks("solvable") if known.slug == one.data["slug"]]

    def work(input: list[Any], tools: list[Any]) -> Any:
        if sum(message.role == "assistant" for message in input):
            return reply("", ("finish", {"report": "MET"}))
        return reply(f"```python\n# file: solution.py\n{honest.reference}\n```")

    log = played(task("solvable-code", n=1), work, tmp_path / "solvable", sandbox="bubblewrap")
    (sample,) = log.samples
    assert (sample.scores["outcome"].value, sample.scores["valid"].value) == (0, 1)
    assert sample.scores["outcome"].metadata["hidden"] == 1
