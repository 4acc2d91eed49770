"""The openai package for Python against a ring: `openai_python.py BASE_URL MODEL`.

Each part is a function; what it prints goes into the log of the test, and any exception fails it.
"""

import asyncio
import json
import math
import sys
import time
import typing

import openai
import pydantic

BASE, MODEL = sys.argv[1], sys.argv[2]
SETTINGS = {"base_url": BASE, "api_key": "none", "max_retries": 0, "timeout": 120}
client = openai.OpenAI(**SETTINGS)
QUESTION = [{"role": "user", "content": "Say hello in three words."}]


def whole():
    answer = client.chat.completions.create(
        model=MODEL, messages=QUESTION, max_completion_tokens=16, temperature=0, seed=1
    )
    choice = answer.choices[0]
    assert choice.message.role == "assistant" and choice.message.content, answer
    assert choice.finish_reason in ("stop", "length"), answer
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, usage
    assert 0 < usage.completion_tokens <= 16, usage
    return choice.message.content


def streamed():
    expected, text, usage = whole(), "", None
    with client.chat.completions.create(
        model=MODEL,
        messages=QUESTION,
        max_completion_tokens=16,
        temperature=0,
        seed=1,
        stream=True,
        stream_options={"include_usage": True},
    ) as stream:
        for chunk in stream:
            for choice in chunk.choices:
                text += choice.delta.content or ""
            usage = chunk.usage or usage
    assert text == expected, (text, expected)
    assert usage and usage.completion_tokens > 0, usage


def several():
    answer = client.chat.completions.create(
        model=MODEL, messages=QUESTION, max_completion_tokens=4, n=3, stop=["zebra"]
    )
    assert sorted(choice.index for choice in answer.choices) == [0, 1, 2], answer


def at_the_same_time():
    async def ask():
        async with openai.AsyncOpenAI(**SETTINGS) as other:
            calls = [
                other.chat.completions.create(
                    model=MODEL, messages=QUESTION, max_completion_tokens=8, temperature=0
                )
                for _ in range(4)
            ]
            return [answer.choices[0].message.content for answer in await asyncio.gather(*calls)]

    answers = asyncio.run(ask())
    assert len(set(answers)) == 1, answers


def continued():
    answer = client.completions.create(model=MODEL, prompt="One, two,", max_tokens=4, echo=True)
    assert answer.choices[0].text.startswith("One, two,"), answer


def models():
    ids = [model.id for model in client.models.list()]
    assert MODEL in ids, ids
    assert client.models.retrieve(MODEL).id == MODEL


def likely():
    answer = client.chat.completions.create(
        model=MODEL, messages=QUESTION, max_completion_tokens=6, temperature=0,
        logprobs=True, top_logprobs=3,
    )
    choice = answer.choices[0]
    content = choice.logprobs.content
    assert "".join(token.token for token in content) == choice.message.content, answer
    for token in content:
        likeliest = token.top_logprobs
        assert len(likeliest) == 3 and token.logprob == likeliest[0].logprob <= 0, token
        assert bytes(token.bytes).decode() == token.token, token
        assert sum(math.exp(other.logprob) for other in likeliest) < 1.0001, token
    streamed = []
    for chunk in client.chat.completions.create(
        model=MODEL, messages=QUESTION, max_completion_tokens=6, temperature=0,
        logprobs=True, top_logprobs=3, stream=True,
    ):
        for choice in chunk.choices:
            streamed.extend(choice.logprobs.content if choice.logprobs else [])
    assert streamed == content, (streamed, content)
    old = client.completions.create(
        model=MODEL, prompt="One, two,", max_tokens=4, temperature=0, logprobs=2
    ).choices[0]
    assert "".join(old.logprobs.tokens) == old.text, old
    assert old.logprobs.text_offset[0] == 0 and len(old.logprobs.top_logprobs[0]) == 2, old


class Person(pydantic.BaseModel):
    """What an answer is held to."""

    name: typing.Annotated[str, pydantic.Field(max_length=20)]
    age: int
    likes: typing.Annotated[list[typing.Literal["tea", "coffee"]], pydantic.Field(max_length=2)]


ABOUT = [{"role": "user", "content": "Tell me about Ann, who is 30 and likes tea."}]


def structured():
    for temperature in (0, 1):
        answer = client.chat.completions.create(
            model=MODEL, messages=ABOUT, max_completion_tokens=200, temperature=temperature, seed=3,
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "person", "schema": Person.model_json_schema()},
            },
        )
        choice = answer.choices[0]
        assert choice.finish_reason == "stop", answer
        Person.model_validate_json(choice.message.content)
    parsed = client.chat.completions.parse(
        model=MODEL, messages=ABOUT, max_completion_tokens=200, temperature=0, response_format=Person
    )
    assert isinstance(parsed.choices[0].message.parsed, Person), parsed
    schema = {"type": "object", "if": {"required": ["a"]}}
    try:
        client.chat.completions.create(
            model=MODEL, messages=ABOUT,
            response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
        )
    except openai.BadRequestError as error:
        assert error.param == "response_format" and '"if"' in error.body["message"], error
    else:
        raise AssertionError("an unknown keyword was taken")


def tools():
    parameters = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
        "additionalProperties": False,
    }
    function = {"name": "weather", "description": "The weather of a city.", "parameters": parameters}
    asked = [{"role": "user", "content": "What is the weather in Paris?"}]
    answer = client.chat.completions.create(
        model=MODEL,
        messages=asked,
        tools=[{"type": "function", "function": function}],
        max_completion_tokens=64,
        temperature=0,
    )
    message = answer.choices[0].message
    # Whether a small model calls is its own affair; what it says must be either.
    assert message.content or message.tool_calls, answer
    named = {"type": "function", "function": {"name": "weather"}}
    other = {"name": "time", "parameters": {**parameters, "properties": {}, "required": []}}
    for choice in ("required", named):
        both = [{"type": "function", "function": {**one, "strict": True}} for one in (function, other)]
        answer = client.chat.completions.create(
            model=MODEL, messages=asked, tools=both, tool_choice=choice,
            max_completion_tokens=64, temperature=0,
        ).choices[0]
        assert answer.finish_reason == "tool_calls", answer
        [call] = answer.message.tool_calls
        arguments = json.loads(call.function.arguments)
        assert call.function.name in ("weather", "time"), call
        if call.function.name == "weather":
            assert list(arguments) == ["city"] and isinstance(arguments["city"], str), arguments
        else:
            assert arguments == {}, arguments
    # The conversation goes on with what came of the call.
    said = {"role": "assistant", "content": None, "tool_calls": [call.model_dump()]}
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    answer = client.chat.completions.create(
        model=MODEL, messages=[*asked, said, result], max_completion_tokens=8
    )
    assert answer.choices[0].message.content is not None, answer


def responses():
    answer = client.responses.create(
        model=MODEL, instructions="Be brief.", input="Say hello.", max_output_tokens=12, temperature=0
    )
    assert answer.output_text and answer.status in ("completed", "incomplete"), answer
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    text, kinds = "", []
    for event in client.responses.create(
        model=MODEL, instructions="Be brief.", input="Say hello.", max_output_tokens=12, temperature=0,
        stream=True,
    ):
        kinds.append(event.type)
        if event.type == "response.output_text.delta":
            text += event.delta
    assert text == answer.output_text, (text, answer.output_text)
    assert kinds[0] == "response.created" and kinds[-1] == f"response.{answer.status}", kinds
    parsed = client.responses.parse(
        model=MODEL, input=ABOUT, text_format=Person, max_output_tokens=200, temperature=0
    )
    assert isinstance(parsed.output_parsed, Person), parsed
    parameters = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
        "additionalProperties": False,
    }
    tool = {"type": "function", "name": "weather", "parameters": parameters, "strict": True}
    asked = [{"role": "user", "content": "What is the weather in Paris?"}]
    called = client.responses.create(
        model=MODEL, input=asked, tools=[tool], tool_choice="required", max_output_tokens=64,
        temperature=0,
    )
    [call] = called.output
    assert call.type == "function_call" and list(json.loads(call.arguments)) == ["city"], called
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    after = client.responses.create(
        model=MODEL, input=[*asked, *called.output, result], max_output_tokens=8
    )
    assert after.output_text is not None, after
    try:
        client.responses.create(model=MODEL, input="x", previous_response_id=called.id)
    except openai.BadRequestError as error:
        assert error.param == "previous_response_id", error
    else:
        raise AssertionError("a response was remembered")




def refused():
    def fails(kind, param, **wrong):
        request = {"model": MODEL, "messages": QUESTION, "max_completion_tokens": 4, **wrong}
        try:
            client.chat.completions.create(**request)
        except kind as error:
            assert error.param == param, (error.param, error)
            assert error.body["message"], error
        else:
            raise AssertionError(f"{wrong} was taken")

    fails(openai.NotFoundError, "model", model="no-such-model")
    fails(openai.BadRequestError, "temperature", temperature=9)
    fails(openai.BadRequestError, "messages", messages=[])
    fails(openai.BadRequestError, "messages", messages=[{"role": "user", "content": "a " * 50000}])


def cancelled():
    """A stream that is closed early stops the ring."""
    stream = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Write a very long story about a fox."}],
        stream=True,
        temperature=0,
    )
    for number, _ in enumerate(stream):
        if number == 3:
            break
    stream.close()
    status = BASE + "/status"
    until = time.monotonic() + 60
    while True:
        requests = client._client.get(status).json()["requests"]
        if not requests:
            return
        assert time.monotonic() < until, requests
        time.sleep(0.05)


PARTS = [whole, streamed, several, at_the_same_time, continued, models, likely, structured, tools]
PARTS += [responses, refused, cancelled]
for part in PARTS:
    begin = time.monotonic()
    part()
    print(f"{part.__name__}: {time.monotonic() - begin:.1f} s", flush=True)
