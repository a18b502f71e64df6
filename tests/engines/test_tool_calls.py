"""Tools: told by the model's own template or in words, calls read in every family's form, results given back."""

from __future__ import annotations

import json

import pytest

import models
from heartstrings.core.engine import Chat, GenerateRequest, Message, Tool, ToolCall
from heartstrings.core.errors import InputError, ModelError
from heartstrings.engines.hf._tool_calls import in_words, parse, template_messages
from heartstrings.engines.hf.engine import TorchEngine
from heartstrings.engines.hf.text import render

READ = Tool("read", "Reads one mail.", '{"type": "object", "properties": {"id": {"type": "integer"}}}')
SEND = Tool("send", "Sends a mail.", '{"type": "object", "properties": {"to": {"type": "string"}}}')
WITH_TOOLS = (
    "{% if tools %}<tools>{% for tool in tools %}{{ tool | tojson }}{% endfor %}</tools>{% endif %}"
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}"
    "{% for call in m.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}"
    "{% if m.role == 'tool' %}[{{ m.name }} {{ m.tool_call_id }}]{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
CHAT: Chat = (
    Message("system", "You sort mail."),
    Message("user", "Begin."),
    Message("assistant", "I look.", (ToolCall("read", '{"id": 1}'), ToolCall("read", '{"id": 2}'))),
    Message("tool", "A bill."),
    Message("tool", "A card."),
)


def calls(raw: str) -> list[tuple[str, object]]:
    return [(call.name, json.loads(call.arguments)) for call in parse(raw).calls]


@pytest.mark.parametrize(
    "raw",
    [
        'Sure.<tool_call>\n{"name": "send", "arguments": {"to": "a \\"b\\"", "n": 2}}\n</tool_call>',
        'Sure.<tool_call>\n<function=send>\n<parameter=to>\na "b"\n</parameter>\n<parameter=n>\n2\n</parameter>\n'
        "</function>\n</tool_call>",
        'Sure.<|tool_call>call:send{to:<|"|>a "b"<|"|>,n:2}<tool_call|>',
        'Sure.<|tools_prefix|>[{"send": {"to": "a \\"b\\"", "n": 2}}]<|tools_suffix|>',
        'Sure.[TOOL_CALLS][{"name": "send", "arguments": {"to": "a \\"b\\"", "n": 2}}]</s>',
        'Sure.[TOOL_CALLS]send[ARGS]{"to": "a \\"b\\"", "n": 2}',
        'Sure.<|python_tag|>{"name": "send", "parameters": {"to": "a \\"b\\"", "n": 2}}<|eom_id|>',
        'Sure.<tool_call>{"name": "send", "arguments": "{\\"to\\": \\"a \\\\\\"b\\\\\\"\\", \\"n\\": 2}"}</tool_call>',
    ],
)
def test_every_familys_form(raw: str) -> None:
    assert calls(raw) == [("send", {"to": 'a "b"', "n": 2})]
    assert parse(raw).text == "Sure."
    assert parse(raw).malformed == 0


def test_a_bare_object_is_a_call_only_if_it_is_all_there_is() -> None:
    assert calls(' {"name": "read", "parameters": {"id": 3}} ') == [("read", {"id": 3})]
    for text in ('I would send {"name": "read", "parameters": {}}.', '{"id": 3, "to": 4}', "{", ""):
        assert parse(text).calls == ()
        assert parse(text).text == text


def test_calls_that_cannot_be_read_are_counted() -> None:
    cut = parse('<tool_call>{"name": "send", "arguments": {"to": "b')
    assert (cut.calls, cut.malformed) == ((), 1)
    both = parse('<tool_call>{"name": "read", "arguments": {}}</tool_call><tool_call>nonsense</tool_call>')
    assert [call.name for call in both.calls] == ["read"]
    assert both.malformed == 1
    nested = parse('<|tool_call>call:f{a:{b:[1,<|"|>x: {y}<|"|>]},c:true}<tool_call|>')
    assert json.loads(nested.calls[0].arguments) == {"a": {"b": [1, "x: {y}"]}, "c": True}


def test_a_template_that_knows_tools_is_given_them() -> None:
    tokenizer = models.tokenizer()
    tokenizer.chat_template = WITH_TOOLS
    text, _ = render(tokenizer, CHAT, reply=True, tools=(READ, SEND))
    assert '"name": "read"' in text
    assert text.startswith("<tools>")
    assert '<tool_call>{"name": "read", "arguments": {"id": 2}}</tool_call>' in text
    assert "A bill.[read call02000]<tool>A card.[read call02001]<assistant>" in text
    without, _ = render(tokenizer, CHAT[:2], reply=True)
    assert "<tools>" not in without


def test_a_template_that_knows_none_is_told_in_words() -> None:
    told = in_words(CHAT, (READ, SEND))
    assert [message.role for message in told] == ["system", "user", "assistant", "user"]
    assert "Reads one mail." in told[1].content
    assert told[1].content.endswith("Begin.")
    assert calls(told[2].content) == [("read", {"id": 1}), ("read", {"id": 2})]
    assert told[3].content == "Result of read:\nA bill.\n\nResult of read:\nA card."
    text, _ = render(models.tokenizer(), CHAT, reply=True, tools=(READ, SEND))
    assert text.count("Reads one mail.") == 1
    with pytest.raises(InputError, match="without a user's turn"):
        in_words(CHAT[:1], (READ,))


def test_what_cannot_be_told_is_refused() -> None:
    tokenizer = models.tokenizer()
    with pytest.raises(InputError, match="two tools of one name"):
        render(tokenizer, CHAT, reply=True, tools=(READ, READ))
    with pytest.raises(InputError, match="no JSON object"):
        render(tokenizer, CHAT, reply=True, tools=(Tool("f", "does", "[1]"),))
    with pytest.raises(InputError, match="no call waits"):
        template_messages((Message("user", "Hello."), Message("tool", "A result.")))
    engine = TorchEngine.from_model(models.model("llama"), tokenizer)
    with pytest.raises(InputError, match="plain text"):
        engine.generate([GenerateRequest("Hello.", tools=(READ,))])
    tokenizer.chat_template = None
    with pytest.raises(ModelError, match="without a chat template"):
        render(tokenizer, CHAT, reply=True, tools=(READ,))


def test_generated_calls_are_taken_out_of_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a model would have to say is put in as ids: tiny random models call nothing."""
    from heartstrings.engines.hf import _generate as torch_generate

    tokenizer = models.tokenizer()
    engine = TorchEngine.from_model(models.model("llama"), tokenizer)
    said = tokenizer('Well. <tool_call>{"name": "read", "arguments": {"id": 1}}</tool_call>', add_special_tokens=False)
    script = iter([*said["input_ids"], tokenizer.eos_token_id])
    monkeypatch.setattr(torch_generate, "_choose", lambda logits, rows: [next(script)])
    (answer,) = engine.generate([GenerateRequest(CHAT[:2], max_new_tokens=200, tools=(READ,))])
    assert answer.text == "Well."
    assert answer.tool_calls == (ToolCall("read", '{"id": 1}'),)
    assert answer.malformed_calls == 0
