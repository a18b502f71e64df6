"""Tool calls: tools for chat templates, and the calls in a model's reply.

Every model family writes calls in its own way; they are recognised by their marks. A reply without a mark is a call
only if the whole reply is one JSON object, as Llama 3 writes it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from heartstrings.core.engine import Chat, Message, Tool, ToolCall
from heartstrings.core.errors import InputError

CALL = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)
"""Hermes, Qwen, and our own text for templates without tools."""
MARKS = (
    CALL,
    re.compile(r"<\|tool_call>(.*?)(?:<tool_call\|>|\Z)", re.DOTALL),  # Gemma 4
    re.compile(r"<\|tools_prefix\|>(.*?)(?:<\|tools_suffix\|>|\Z)", re.DOTALL),  # Apertus
    re.compile(r"\[TOOL_CALLS\](.*?)(?:</s>|\Z)", re.DOTALL),  # Mistral
    re.compile(r"<\|python_tag\|>(.*?)(?:<\|eom_id\|>|<\|eot_id\|>|\Z)", re.DOTALL),  # Llama 3
)
_FUNCTION = re.compile(r"<function=([^>\s]+)>(.*?)(?:</function>|\Z)", re.DOTALL)
_PARAMETER = re.compile(r"<parameter=([^>\s]+)>\n?(.*?)\n?</parameter>", re.DOTALL)
_COMPACT = re.compile(r"call:([\w.-]+)(\{.*\})\s*\Z", re.DOTALL)
_QUOTED = re.compile(r'<\|"\|>(.*?)<\|"\|>', re.DOTALL)
_BARE_KEY = re.compile(r"([{,]\s*)([A-Za-z_][\w.-]*)\s*:")
_NAMED = re.compile(r"([\w.-]+)\[ARGS\](\{.*\})\s*\Z", re.DOTALL)


@dataclass(frozen=True)
class Parsed:
    """A reply, split into its text and its calls."""

    text: str
    """The text outside of calls."""
    calls: tuple[ToolCall, ...] = ()
    malformed: int = 0
    """Calls that could not be parsed."""


def parse(raw: str) -> Parsed:
    """The calls in a reply (decoded with its special tokens), in order.

    Arguments are returned as a JSON object. A call that the limit of tokens cuts off is malformed.
    """
    for mark in MARKS:
        inside = [match.group(1) for match in mark.finditer(raw)]
        if inside:
            calls: list[ToolCall] = []
            malformed = 0
            for body in inside:
                body_calls = _calls(body.strip())
                calls += body_calls
                malformed += not body_calls
            return Parsed(mark.sub("", raw).strip(), tuple(calls), malformed)
    whole = _calls(raw.strip()) if raw.lstrip().startswith("{") else []
    return Parsed("", tuple(whole)) if whole else Parsed(raw)


def _calls(body: str) -> list[ToolCall]:
    """The calls in one marked part of a reply; empty where it cannot be parsed."""
    functions = [
        ToolCall(name, json.dumps({key: _value(value) for key, value in _PARAMETER.findall(inside)}))
        for name, inside in _FUNCTION.findall(body)
    ]
    if functions:
        return functions
    compact = _COMPACT.match(body) or _NAMED.match(body)
    if compact:
        arguments = _object(compact.group(2))
        return [] if arguments is None else [ToolCall(compact.group(1), json.dumps(arguments, ensure_ascii=False))]
    try:
        value = json.loads(body)
    except json.JSONDecodeError:
        return []
    calls = [_call(entry) for entry in (value if isinstance(value, list) else [value])]
    return [call for call in calls if call is not None] if all(calls) else []


def _call(value: Any) -> ToolCall | None:
    """`{"name", "arguments"}`, `{"name", "parameters"}`, or Apertus' `{name: arguments}`."""
    if not isinstance(value, dict):
        return None
    if isinstance(value.get("name"), str):
        name, arguments = value["name"], value.get("arguments", value.get("parameters", {}))
    elif len(value) == 1:
        name, arguments = next(iter(value.items()))
    else:
        return None
    if isinstance(arguments, str):  # some write the object as a string once more
        arguments = _object(arguments)
    return ToolCall(name, json.dumps(arguments, ensure_ascii=False)) if isinstance(arguments, dict) else None


def _object(text: str) -> dict[str, Any] | None:
    """A JSON object; Gemma 4 writes keys without quotes, and has its own quotation marks."""
    for form in (text, _json(text)):
        try:
            value = json.loads(form)
        except json.JSONDecodeError:
            continue
        if isinstance(value, dict):
            return value
    return None


def _json(text: str) -> str:
    strings: list[str] = []

    def put_by(match: re.Match[str]) -> str:
        strings.append(json.dumps(match.group(1), ensure_ascii=False))
        return f"\0{len(strings) - 1}\0"

    bare = _BARE_KEY.sub(r'\1"\2":', _QUOTED.sub(put_by, text))
    return re.sub(r"\0(\d+)\0", lambda match: strings[int(match.group(1))], bare)


def _value(text: str) -> Any:
    """The value of a parameter: parsed as JSON where possible, else the text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def check_tools(tools: Sequence[Tool], what: str) -> None:
    """Names, and schemas that are JSON objects.

    Raises:
        InputError: a tool named twice, or a schema that is none.
    """
    names = [tool.name for tool in tools]
    if len(set(names)) < len(names):
        raise InputError(f"{what} has two tools of one name among {', '.join(names)}", "each name once")
    for tool in tools:
        try:
            schema = json.loads(tool.parameters)
        except json.JSONDecodeError:
            schema = None
        if not isinstance(schema, dict):
            raise InputError(f"{what}: the parameters of tool {tool.name!r} are no JSON object", "a schema as text")


def template_tools(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """Tools in the form that `apply_chat_template` takes."""
    return [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": json.loads(tool.parameters)},
        }
        for tool in tools
    ]


def template_messages(chat: Chat) -> list[dict[str, Any]]:
    """Messages in the form that `apply_chat_template` takes: each result has the name and the id of its call."""
    waiting: Iterator[tuple[str, str]] = iter(())
    messages: list[dict[str, Any]] = []
    for at, message in enumerate(chat):
        entry: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.tool_calls:
            # Nine letters and digits: Mistral's template refuses anything else.
            numbered = [(call, f"call{at:02d}{place:03d}") for place, call in enumerate(message.tool_calls)]
            entry["tool_calls"] = [
                {
                    "type": "function",
                    "id": number,
                    "function": {"name": call.name, "arguments": json.loads(call.arguments)},
                }
                for call, number in numbered
            ]
            waiting = iter([(call.name, number) for call, number in numbered])
        if message.role == "tool":
            name, number = next(waiting, ("", ""))
            if not name:
                raise InputError(f"message {at} is a tool's result, and no call waits for one", "a call before it")
            entry |= {"name": name, "tool_call_id": number}
        messages.append(entry)
    return messages


def in_words(chat: Chat, tools: Sequence[Tool]) -> Chat:
    """The same chat for a template without tools: tools are described in the user's first turn, and calls and results
    are text.

    Raises:
        InputError: the chat has tools and no turn of the user.
    """
    listed = "\n".join(
        json.dumps(
            {"name": tool.name, "description": tool.description, "parameters": json.loads(tool.parameters)},
            ensure_ascii=False,
        )
        for tool in tools
    )
    opening = (
        "You can use tools. To use one, write a line of this form and nothing after it:\n"
        '<tool_call>{"name": "the tool", "arguments": {"the argument": "its value"}}</tool_call>\n'
        f"The tools:\n{listed}\n\n"
    )
    names: Iterator[str] = iter(())
    messages: list[Message] = []
    told = not tools
    for message in chat:
        if message.role == "tool":
            text = f"Result of {next(names, 'the tool')}:\n{message.content}"
            # Templates want turns to alternate, so several results make one turn.
            if messages and messages[-1].role == "user":
                messages[-1] = Message("user", f"{messages[-1].content}\n\n{text}")
            else:
                messages.append(Message("user", text))
            continue
        content = message.content
        if message.role == "user" and not told:
            content, told = opening + content, True
        if message.tool_calls:
            calls = [
                f'<tool_call>{{"name": {json.dumps(call.name)}, "arguments": {call.arguments}}}</tool_call>'
                for call in message.tool_calls
            ]
            names = iter([call.name for call in message.tool_calls])
            content = "\n".join(([content] if content else []) + calls)
        messages.append(Message(message.role, content))
    if not told:
        raise InputError("tools in a chat without a user's turn", "at least one, in which the tools are described")
    return tuple(messages)
