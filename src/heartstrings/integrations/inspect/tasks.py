"""Our behaviours as Inspect tasks, for any of its models: the same worlds, tools and grades.

What is graded from a text or a dialogue can be a task. Choices cannot: they are scored by log-probabilities of given
replies, which Inspect's models do not give.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import anyio.to_thread
from inspect_ai import Task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageTool,
    ChatMessageUser,
    GenerateConfig,
    ModelOutput,
    get_model,
)
from inspect_ai.scorer import Score, Scorer, Target, mean, scorer, stderr
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.tool import ToolCall as InspectCall
from inspect_ai.tool import ToolInfo, ToolParams

from heartstrings.behaviours.agents.code_grading import using
from heartstrings.behaviours.base import Behaviour, Dialogue, Grade, Scenario
from heartstrings.behaviours.suites import every_behaviour
from heartstrings.core.engine import Completion, GenerateRequest, Message, ToolCall
from heartstrings.core.errors import InputError
from heartstrings.integrations.inspect._borrowed import borrowed

ANSWERS = "heartstrings:answers"
"""Where the solver stores the replies for the scorers."""


def task(behaviour: Behaviour | str, *, n: int = 20, seed: int = 0) -> Task:
    """A behaviour as a task of `n` scenarios, scored by the behaviour's own grader.

    Two scores: `outcome`, and `valid` (how far the answer is one at all). A missing outcome is unscored, never 0.
    Standard errors are clustered by situation. `further` turns, tools and their results are ours; only the model is
    Inspect's.

    Raises:
        InputError: no such behaviour, or one that is scored by log-probabilities.
    """
    chosen_behaviour = _named(behaviour) if isinstance(behaviour, str) else behaviour
    if chosen_behaviour.ask == "choice":
        raise InputError(
            f"the behaviour {chosen_behaviour.name!r}, which is scored by log-probabilities",
            "one that is answered by text",
            "Run it with: heartstrings evaluate",
        )
    scenarios = {_id(scenario): scenario for scenario in chosen_behaviour.scenarios(n=n, seed=seed)}
    samples = [
        Sample(
            id=name,
            input=_chat(scenario),
            metadata={
                "behaviour": chosen_behaviour.name,
                "scenario": scenario.id,
                "cluster": scenario.group,
                "seed": seed,
            },
        )
        for name, scenario in scenarios.items()
    ]
    return Task(
        dataset=MemoryDataset(samples),
        solver=play(chosen_behaviour, scenarios),
        scorer=[outcome(chosen_behaviour, scenarios), valid(chosen_behaviour, scenarios)],
        name=chosen_behaviour.name,
        metadata={
            "behaviour": chosen_behaviour.name,
            "role": chosen_behaviour.role,
            "outcome": chosen_behaviour.outcome_name,
            "neutral": chosen_behaviour.neutral,
        },
    )


@solver
def play(behaviour: Behaviour, scenarios: dict[str, Scenario]) -> Solver:
    """The whole conversation of a scenario: the model's turns, and what the world answers."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        scenario = scenarios[str(state.sample_id)]
        with using(borrowed()):
            first = behaviour.request(scenario, steering=None, seed=state.epoch)
        if not isinstance(first, GenerateRequest):
            raise InputError(f"a request of {behaviour.name} that generates nothing", "a text")
        answers: list[Completion] = []
        request: GenerateRequest | None = first
        most = behaviour.turns if isinstance(behaviour, Dialogue) else 1
        while request is not None:
            state.messages = _messages(request, state.messages)
            state.output = await get_model().generate(
                state.messages,
                tools=[_info(tool) for tool in request.tools],
                config=GenerateConfig(
                    max_tokens=request.max_new_tokens,
                    temperature=request.temperature,
                    top_p=None if request.top_p == 1 else request.top_p,
                    stop_seqs=list(request.stop) or None,
                ),
            )
            state.messages.append(state.output.message)
            answers.append(_completion(state.output))
            request = None
            if isinstance(behaviour, Dialogue) and len(answers) < most:
                request = await _apart(behaviour.further, scenario, first, tuple(answers))
        state.store.set(
            ANSWERS, [(answer.text, [(c.name, c.arguments) for c in answer.tool_calls]) for answer in answers]
        )
        return state

    return solve


@scorer(metrics=[mean(), stderr(cluster="cluster")])
def outcome(behaviour: Behaviour, scenarios: dict[str, Scenario]) -> Scorer:
    """The outcome of the behaviour; unscored where it is missing."""

    async def score(state: TaskState, target: Target) -> Score:
        grade: Grade = await _apart(_grade, behaviour, scenarios, state)
        detail = dict(grade.detail)
        if grade.outcome is None:
            why = "fell apart" if grade.valid == 0 else "no rule can tell"
            return Score.unscored(reason=why, answer=grade.text, metadata=detail)
        return Score(value=grade.outcome, answer=grade.text, metadata=detail)

    return score


@scorer(metrics=[mean(), stderr(cluster="cluster")])
def valid(behaviour: Behaviour, scenarios: dict[str, Scenario]) -> Scorer:
    """Whether the answer is valid."""

    async def score(state: TaskState, target: Target) -> Score:
        grade: Grade = await _apart(_grade, behaviour, scenarios, state)
        return Score.unscored(reason="not known") if grade.valid is None else Score(value=grade.valid)

    return score


async def _apart(call: Callable[..., Any], *given: Any) -> Any:
    """In a thread, since it may run programs for seconds and all other samples would wait; the programs in the
    task's own sandbox where it names one."""
    with using(borrowed()):
        return await anyio.to_thread.run_sync(call, *given)


def _grade(behaviour: Behaviour, scenarios: dict[str, Scenario], state: TaskState) -> Grade:
    """Graders depend on the replies alone, and the sandbox caches what it ran: grading twice costs nothing extra."""
    scenario = scenarios[str(state.sample_id)]
    said = state.store.get(ANSWERS) or []
    answers = tuple(
        Completion(text, (), "eos", 0, 0, tool_calls=tuple(ToolCall(name, given) for name, given in calls))
        for text, calls in said
    )
    if isinstance(behaviour, Dialogue):
        return behaviour.grade_dialogue(scenario, answers)
    return behaviour.grade(scenario, answers[0])


def _named(name: str) -> Behaviour:
    known = every_behaviour()
    plain = name.replace("_", "-")
    if plain not in known:
        texts = sorted(behaviour.name for behaviour in known.values() if behaviour.ask != "choice")
        raise InputError(f"no behaviour {name!r}", f"one of {', '.join(texts)}")
    return known[plain]


def _id(scenario: Scenario) -> str:
    return scenario.id.replace("/", "-")


def _chat(scenario: Scenario) -> str | list[ChatMessage]:
    if isinstance(scenario.prompt, str):
        return scenario.prompt
    return [_message(message) for message in scenario.prompt]


def _messages(request: GenerateRequest, before: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Inspect's form of a prompt. What was there stays, so that calls keep the ids that their results name."""
    if isinstance(request.prompt, str):
        return [ChatMessageUser(content=request.prompt)]
    messages, added = list(before[: len(request.prompt)]), request.prompt[len(before) :]
    said = messages[-1] if messages else None
    results = [message for message in added if message.role == "tool"]
    if not isinstance(said, ChatMessageAssistant):
        return [*messages, *(_message(message) for message in added)]
    # Calls beyond the limit of a turn are not carried out, and many models refuse a call without a result.
    calls = list(said.tool_calls or ())[: len(results)]
    messages[-1] = said.model_copy(update={"tool_calls": calls or None})
    for call, message in zip(calls, results, strict=True):
        messages.append(ChatMessageTool(content=message.content, tool_call_id=call.id, function=call.function))
    return [*messages, *(_message(message) for message in added if message.role != "tool")]


def _message(message: Message) -> ChatMessage:
    if message.role == "system":
        return ChatMessageSystem(content=message.content)
    if message.role == "tool":
        return ChatMessageTool(content=message.content)
    if message.role == "user":
        return ChatMessageUser(content=message.content)
    calls = [
        InspectCall(id=f"call{at}", function=call.name, arguments=json.loads(call.arguments))
        for at, call in enumerate(message.tool_calls)
    ]
    return ChatMessageAssistant(content=message.content, tool_calls=calls or None)


def _info(tool: Any) -> ToolInfo:
    parameters = ToolParams.model_validate_json(tool.parameters)
    return ToolInfo(name=tool.name, description=tool.description, parameters=parameters)


def _completion(output: ModelOutput) -> Completion:
    said = output.message
    calls = [call for call in said.tool_calls or () if not call.parse_error]
    broken = len(said.tool_calls or ()) - len(calls)
    read = tuple(ToolCall(call.function, json.dumps(call.arguments, ensure_ascii=False)) for call in calls)
    return Completion(
        said.text,
        (),
        "length" if output.stop_reason == "max_tokens" else "eos",
        0,
        0,
        tool_calls=read,
        malformed_calls=broken,
    )
