"""The openai package for Python against a ring: `openai_python.py BASE_URL MODEL`.

Each part is a function; what it prints goes into the log of the test, and any exception fails it.
"""

import asyncio
import sys
import time

import openai

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


for part in (whole, streamed, several, at_the_same_time, continued, models, tools, refused, cancelled):
    begin = time.monotonic()
    part()
    print(f"{part.__name__}: {time.monotonic() - begin:.1f} s", flush=True)
