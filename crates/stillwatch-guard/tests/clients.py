"""The official clients against a guard; see tests/gateway/clients.rs."""

import json
import sys

import anthropic
import openai

BASE = sys.argv[1]
ASK = [{"role": "user", "content": "What is 2+2?"}]
FAIL = [{"role": "user", "content": "please fail"}]
FOR_EVER = [{"role": "user", "content": "for ever"}]
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "integer"}},
    "required": ["answer"],
    "additionalProperties": False,
}


def through_openai():
    client = openai.OpenAI(base_url=f"{BASE}/v1", api_key="sk-good", max_retries=0)
    assert [model.id for model in client.models.list()] == ["m"]

    answer = client.chat.completions.create(
        model="m", messages=ASK, response_format={"type": "json_object"}
    )
    assert json.loads(answer.choices[0].message.content) == {"answer": 4}
    assert answer.usage.total_tokens == 5
    schema = {"name": "answer", "strict": True, "schema": SCHEMA}
    answer = client.chat.completions.create(
        model="m", messages=ASK, response_format={"type": "json_schema", "json_schema": schema}
    )
    assert json.loads(answer.choices[0].message.content) == {"answer": 4}

    stream = client.chat.completions.create(
        model="m", messages=ASK, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "Hello", text
    assert chunks[-1].usage.completion_tokens == 2

    tools = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
    answer = client.chat.completions.create(model="m", messages=ASK, tools=tools)
    call = answer.choices[0].message.tool_calls[0]
    assert json.loads(call.function.arguments) == {"a": 1}
    stream = client.chat.completions.create(model="m", messages=ASK, tools=tools, stream=True)
    calls = [c.choices[0].delta.tool_calls for c in stream if c.choices]
    arguments = "".join(call[0].function.arguments for call in calls if call)
    assert json.loads(arguments) == {"a": 1}, arguments

    assert client.responses.create(model="m", input="Hi").output_text == "Hello"
    # The client asks for base64 and takes numbers too.
    embedding = client.embeddings.create(model="m", input="Hi", encoding_format="float")
    assert embedding.data[0].embedding == [0.5, 1.0]

    with client.chat.completions.create(model="m", messages=FOR_EVER, stream=True) as stream:
        for _, chunk in zip(range(3), stream):
            assert chunk.choices[0].delta.content == "a"

    try:
        client.chat.completions.create(model="m", messages=FAIL)
        raise AssertionError("no error")
    except openai.BadRequestError as error:
        assert error.body["code"] == "x", error.body

    suspended = openai.OpenAI(base_url=f"{BASE}/v1", api_key="sk-bad")
    try:
        suspended.chat.completions.create(model="m", messages=ASK)
        raise AssertionError("not refused")
    except openai.PermissionDeniedError as error:
        assert error.body["code"] == "access_suspended", error.body


def through_anthropic():
    client = anthropic.Anthropic(base_url=BASE, api_key="sk-good", max_retries=0)
    tools = [{"name": "add", "input_schema": {"type": "object"}}]
    answer = client.messages.create(model="c", max_tokens=9, messages=ASK, tools=tools)
    assert answer.content[0].input == {"a": 1}
    assert answer.usage.output_tokens == 2

    with client.messages.stream(model="c", max_tokens=9, messages=ASK) as stream:
        assert "".join(stream.text_stream) == "Hello"
        assert stream.get_final_message().usage.output_tokens == 2
    with client.messages.stream(model="c", max_tokens=9, messages=ASK, tools=tools) as stream:
        assert stream.get_final_message().content[0].input == {"a": 1}

    answer = client.messages.create(
        model="c",
        max_tokens=9,
        messages=ASK,
        output_config={"format": {"type": "json_schema", "schema": SCHEMA}},
    )
    assert json.loads(answer.content[0].text) == {"answer": 4}

    with client.messages.stream(model="c", max_tokens=9, messages=FOR_EVER) as stream:
        for _, text in zip(range(3), stream.text_stream):
            assert text == "a"

    try:
        client.messages.create(model="c", max_tokens=9, messages=FAIL)
        raise AssertionError("no error")
    except anthropic.BadRequestError as error:
        assert error.body["error"]["type"] == "invalid_request_error", error.body

    suspended = anthropic.Anthropic(base_url=BASE, api_key="sk-bad")
    try:
        suspended.messages.create(model="c", max_tokens=9, messages=ASK)
        raise AssertionError("not refused")
    except anthropic.PermissionDeniedError as error:
        assert error.body["error"]["type"] == "permission_error", error.body


through_openai()
through_anthropic()
