"""The official `openai` SDK against a running gateway, as an application would use it.

    DARKBLOOM_BASE_URL=http://127.0.0.1:7433/v1 python test_openai_sdk.py

Nothing but the package `openai` is needed. It asserts on shapes, never on what a model says.
Settings, all optional but the first:

    DARKBLOOM_BASE_URL         the gateway's base URL, ending in /v1
    DARKBLOOM_API_KEY          a key, if the gateway wants one
    DARKBLOOM_MODEL            the chat model (`default`)
    DARKBLOOM_EMBEDDING_MODEL  the model for embeddings (the chat model)
"""

import asyncio
import json
import math
import os
import re
import time
import unittest
import urllib.error
import urllib.request

import openai
from openai import AsyncOpenAI, OpenAI

BASE_URL = os.environ["DARKBLOOM_BASE_URL"]
API_KEY = os.environ.get("DARKBLOOM_API_KEY", "none-needed-here")
MODEL = os.environ.get("DARKBLOOM_MODEL", "default")
EMBEDDING_MODEL = os.environ.get("DARKBLOOM_EMBEDDING_MODEL", MODEL)
MESSAGES = [
    {"role": "system", "content": "You are a storyteller who never stops early."},
    {"role": "user", "content": "Tell me a very long story about a river that flows to the sea."},
]


def client(**options):
    return OpenAI(base_url=BASE_URL, api_key=API_KEY, max_retries=0, timeout=120, **options)


def metric(name):
    """The value of one unlabelled metric."""
    request = urllib.request.Request(BASE_URL.removesuffix("/v1") + "/metrics")
    request.add_header("authorization", "Bearer " + API_KEY)
    with urllib.request.urlopen(request) as response:
        found = re.search(rf"^{name} (\d+)$", response.read().decode(), re.MULTILINE)
    return int(found.group(1))


class Models(unittest.TestCase):
    def test_list_and_retrieve(self):
        models = client().models.list().data
        self.assertGreaterEqual(len(models), 1)
        for model in models:
            self.assertEqual(model.object, "model")
            self.assertIsInstance(model.created, int)
            self.assertEqual(client().models.retrieve(model.id).id, model.id)
        self.assertIn(client().models.retrieve("default").id, [model.id for model in models])

    def test_unknown(self):
        with self.assertRaises(openai.NotFoundError) as caught:
            client().models.retrieve("no-such-model")
        self.assertEqual(caught.exception.code, "model_not_found")


class Chat(unittest.TestCase):
    def test_whole(self):
        answer = client().chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=8, temperature=0)
        self.assertEqual(answer.object, "chat.completion")
        self.assertTrue(answer.id.startswith("chatcmpl-"))
        self.assertTrue(answer._request_id)
        self.assertLess(abs(answer.created - time.time()), 300)
        (choice,) = answer.choices
        self.assertEqual(choice.message.role, "assistant")
        self.assertTrue(choice.message.content)
        self.assertEqual(choice.finish_reason, "length")
        self.assertEqual(answer.usage.completion_tokens, 8)
        self.assertGreater(answer.usage.prompt_tokens, 8)
        self.assertEqual(answer.usage.total_tokens, answer.usage.prompt_tokens + 8)

    def test_stream_with_usage(self):
        stream = client().chat.completions.create(
            model=MODEL,
            messages=MESSAGES,
            max_completion_tokens=12,
            seed=7,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = list(stream)
        self.assertEqual(len({chunk.id for chunk in chunks}), 1)
        self.assertTrue(all(chunk.object == "chat.completion.chunk" for chunk in chunks))
        *chunks, last = chunks
        self.assertEqual(last.choices, [])
        self.assertEqual(last.usage.completion_tokens, 12)
        self.assertTrue(all(chunk.usage is None for chunk in chunks))
        self.assertEqual(chunks[0].choices[0].delta.role, "assistant")
        self.assertTrue("".join(chunk.choices[0].delta.content or "" for chunk in chunks))
        reasons = [chunk.choices[0].finish_reason for chunk in chunks]
        self.assertEqual(reasons[-1], "length")
        self.assertEqual(set(reasons[:-1]), {None})

    def test_stream_without_usage(self):
        stream = client().chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=3, stream=True)
        self.assertTrue(all(chunk.choices and chunk.usage is None for chunk in stream))

    def test_parts_and_several_turns(self):
        messages = MESSAGES + [
            {"role": "assistant", "content": "Once there was a river."},
            {"role": "user", "content": [{"type": "text", "text": "And then?"}, {"type": "text", "text": "Go on."}]},
        ]
        answer = client().chat.completions.create(model=MODEL, messages=messages, max_tokens=4)
        self.assertEqual(answer.usage.completion_tokens, 4)

    def test_stop(self):
        answer = client().chat.completions.create(
            model=MODEL, messages=MESSAGES, max_tokens=64, temperature=0, stop=["e", "a", "o"]
        )
        self.assertNotRegex(answer.choices[0].message.content or "", "[eao]")
        self.assertEqual(answer.choices[0].finish_reason, "stop")

    def test_many_at_once(self):
        async def ask_all():
            async with AsyncOpenAI(base_url=BASE_URL, api_key=API_KEY, timeout=120) as asking:
                ask = asking.chat.completions.create
                return await asyncio.gather(*(ask(model=MODEL, messages=MESSAGES, max_tokens=6) for _ in range(6)))

        answers = asyncio.run(ask_all())
        self.assertEqual(len({answer.id for answer in answers}), 6)
        self.assertTrue(all(answer.usage.completion_tokens == 6 for answer in answers))

    def test_closing_a_stream_cancels_its_task(self):
        before = metric("darkbloom_gateway_streams_cancelled_total")
        asking = client()
        stream = asking.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=1_000_000, stream=True)
        for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        stream.close()
        asking.close()
        deadline = time.monotonic() + 30
        while metric("darkbloom_gateway_streams_cancelled_total") == before:
            self.assertLess(time.monotonic(), deadline, "the task goes on")
        self.assertTrue(client().chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=2).choices)


class Completions(unittest.TestCase):
    PROMPT = "The river began in the high mountains, and from there"

    def test_whole(self):
        answer = client().completions.create(model=MODEL, prompt=self.PROMPT, max_tokens=5)
        self.assertEqual(answer.object, "text_completion")
        self.assertEqual(answer.usage.completion_tokens, 5)
        self.assertTrue(answer.choices[0].text)
        self.assertEqual(answer.choices[0].finish_reason, "length")

    def test_stream(self):
        stream = client().completions.create(
            model=MODEL, prompt=[self.PROMPT], max_tokens=5, stream=True, stream_options={"include_usage": True}
        )
        *chunks, last = list(stream)
        self.assertTrue("".join(chunk.choices[0].text for chunk in chunks))
        self.assertEqual(chunks[-1].choices[0].finish_reason, "length")
        self.assertEqual(last.usage.completion_tokens, 5)


class Embeddings(unittest.TestCase):
    def test_both_encodings_agree(self):
        inputs = ["a river", "the sea, far away"]
        # Without a format the SDK asks for base64 and decodes it itself.
        default = client().embeddings.create(model=EMBEDDING_MODEL, input=inputs)
        plain = client().embeddings.create(model=EMBEDDING_MODEL, input=inputs, encoding_format="float")
        self.assertEqual([item.index for item in default.data], [0, 1])
        self.assertGreater(default.usage.prompt_tokens, 0)
        for ours, theirs in zip(default.data, plain.data, strict=True):
            self.assertEqual(len(ours.embedding), len(theirs.embedding))
            self.assertTrue(all(math.isclose(a, b, abs_tol=1e-3) for a, b in zip(ours.embedding, theirs.embedding)))
        self.assertNotEqual(default.data[0].embedding, default.data[1].embedding)

    def test_one_string(self):
        (item,) = client().embeddings.create(model=EMBEDDING_MODEL, input="a river").data
        self.assertTrue(item.embedding)

    def test_dimensions_are_refused(self):
        with self.assertRaises(openai.BadRequestError) as caught:
            client().embeddings.create(model=EMBEDDING_MODEL, input="x", dimensions=8)
        self.assertEqual((caught.exception.code, caught.exception.param), ("unsupported_parameter", "dimensions"))


class Errors(unittest.TestCase):
    def refused(self, kind, **request):
        with self.assertRaises(kind) as caught:
            client().chat.completions.create(**{"model": MODEL, "messages": MESSAGES, "max_tokens": 4, **request})
        error = caught.exception
        self.assertTrue(error.request_id)
        self.assertEqual(set(error.body), {"message", "type", "param", "code"})
        return error

    def test_unknown_model(self):
        error = self.refused(openai.NotFoundError, model="no-such-model")
        self.assertEqual((error.code, error.type), ("model_not_found", "invalid_request_error"))

    def test_context(self):
        for stream in (False, True):
            messages = [{"role": "user", "content": "river " * 200_000}]
            error = self.refused(openai.BadRequestError, messages=messages, stream=stream)
            self.assertEqual(error.code, "context_length_exceeded")

    def test_parameters(self):
        function = {"type": "function", "function": {"name": "f", "parameters": {}}}
        for name, value, code in [
            ("n", 2, "unsupported_parameter"),
            ("tools", [function], "unsupported_parameter"),
            ("response_format", {"type": "json_object"}, "unsupported_parameter"),
            ("logprobs", True, "unsupported_parameter"),
            ("temperature", 9, "invalid_value"),
            ("max_tokens", 0, "invalid_value"),
            ("messages", [], "invalid_value"),
        ]:
            with self.subTest(name):
                error = self.refused(openai.BadRequestError, **{name: value})
                self.assertEqual((error.code, error.param), (code, name))

    def test_unknown_parameter(self):
        error = self.refused(openai.BadRequestError, extra_body={"no_such_parameter": 1})
        self.assertEqual((error.code, error.param), ("unknown_parameter", "no_such_parameter"))

    def test_image(self):
        part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
        error = self.refused(openai.BadRequestError, messages=[{"role": "user", "content": [part]}])
        self.assertEqual(error.param, "messages[0].content[0].type")

    def test_oversized(self):
        error = self.refused(openai.APIStatusError, messages=[{"role": "user", "content": "x" * (9 << 20)}])
        self.assertEqual(error.status_code, 413)

    def test_unknown_route(self):
        with self.assertRaises(openai.NotFoundError):
            client().get("/no-such-route", cast_to=object)

    def test_malformed_json(self):
        request = urllib.request.Request(BASE_URL + "/chat/completions", data=b'{"model":')
        request.add_header("content-type", "application/json")
        request.add_header("authorization", "Bearer " + API_KEY)
        with self.assertRaises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request)
        with caught.exception as response:
            self.assertEqual(response.code, 400)
            self.assertEqual(json.load(response)["error"]["code"], "invalid_json")

    @unittest.skipUnless("DARKBLOOM_API_KEY" in os.environ, "this gateway wants no key")
    def test_wrong_key(self):
        with self.assertRaises(openai.AuthenticationError):
            client().with_options(api_key="wrong-0123456789abcdef").models.list()


if __name__ == "__main__":
    unittest.main(verbosity=2)
