"""Takes answers that a cap has cut, with the official clients. Argument: the guard's URL."""

import sys

import anthropic
import openai

URL = sys.argv[1]
chat = openai.OpenAI(api_key="sk-bad", base_url=URL + "/v1", max_retries=0)
messages = [{"role": "user", "content": "for ever"}]

stream = chat.chat.completions.create(model="m", messages=messages, stream=True)
chunks = [chunk.choices[0] for chunk in stream]
assert chunks[-1].finish_reason == "length", chunks[-1]
assert "".join(choice.delta.content or "" for choice in chunks) == "word " * 20

events = list(chat.responses.create(model="m", input="for ever", stream=True))
assert events[-1].type == "response.incomplete", events[-1]
assert events[-1].response.status == "incomplete"
assert events[-1].response.incomplete_details.reason == "max_output_tokens"
assert events[-1].response.output_text == "word " * 20, events[-1].response.output_text

claude = anthropic.Anthropic(api_key="sk-bad", base_url=URL, max_retries=0)
with claude.messages.stream(model="c", max_tokens=999, messages=messages) as stream:
    message = stream.get_final_message()
assert message.stop_reason == "max_tokens", message
assert message.content[0].text == "word " * 20
print("all well")
