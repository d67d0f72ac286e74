"""LiteLLM as a client against a guard; see tests/gateway/clients.rs."""

import json
import os
import sys

# Otherwise it asks the network for prices while it is imported.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm

BASE = sys.argv[1]
litellm.telemetry = False
litellm.suppress_debug_info = True
OPENAI = {"model": "openai/m", "api_base": f"{BASE}/v1", "api_key": "sk-good", "max_retries": 0}
ANTHROPIC = {"model": "anthropic/c", "api_base": BASE, "api_key": "sk-good", "max_tokens": 9}
TOOLS = [
    {
        "type": "function",
        "function": {"name": "add", "parameters": {"type": "object", "properties": {}}},
    }
]


def ask(text="What is 2+2?"):
    return [{"role": "user", "content": text}]


def through(settings):
    answer = litellm.completion(messages=ask(), tools=TOOLS, **settings)
    call = answer.choices[0].message.tool_calls[0]
    assert json.loads(call.function.arguments) == {"a": 1}, answer

    stream = litellm.completion(messages=ask(), stream=True, **settings)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert text == "Hello", text

    answer = litellm.completion(messages=ask(), **settings)
    assert json.loads(answer.choices[0].message.content) == {"answer": 4}, answer
    assert answer.usage.completion_tokens == 2

    try:
        litellm.completion(messages=ask("please fail"), **settings)
        raise AssertionError("no error")
    except litellm.BadRequestError as error:
        assert error.status_code == 400, error


through(OPENAI)
through(ANTHROPIC)

schema = {"type": "object", "properties": {"answer": {"type": "integer"}}, "required": ["answer"]}
form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
answer = litellm.completion(messages=ask(), response_format=form, **OPENAI)
assert json.loads(answer.choices[0].message.content) == {"answer": 4}

embedding = litellm.embedding(input=["Hi"], encoding_format="float", **OPENAI)
assert embedding.data[0]["embedding"] == [0.5, 1.0]

stream = litellm.completion(messages=ask("for ever"), stream=True, **OPENAI)
for _, chunk in zip(range(3), stream):
    assert chunk.choices[0].delta.content == "a", chunk
stream.completion_stream.close()

try:
    litellm.completion(messages=ask(), **{**OPENAI, "api_key": "sk-bad"})
    raise AssertionError("not refused")
except litellm.exceptions.APIError as error:
    # It has no kind of its own for 403 of OpenAI's dialect.
    assert error.status_code == 403 and "suspended" in str(error), repr(error)
