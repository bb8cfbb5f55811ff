"""The client that is awaited: the same names."""

import asyncio
import json
import threading

from . import _many, _shapes
from ._answer import Answer, Embeddings, Streamed
from ._client import Client
from ._fingerprint import Fingerprint, named
from ._shapes import act, call, table


class AsyncClient:
    """As `Client`, with coroutines. Calls at once need no threads: `await asyncio.gather(*(client.chat(…) for …))`."""

    def __init__(self, home=None, *, look=False, passphrase=None):
        self._client = Client(home, look=look, passphrase=passphrase)
        self._core = self._client._core
        self.models, self.receipts, self.wallet = AsyncModels(self), AsyncReceipts(self), AsyncWallet(self)
        self.fingerprint = AsyncFingerprints(self)

    @property
    def home(self):
        return self._core.home

    async def project(self):
        return json.loads(await self._act("project"))

    async def chat(self, model, prompt, *, system=None, key=None, max_charge=None, **fields):
        body = _shapes.chat_body(model, prompt, system, fields)
        return await self._ask(_shapes.CHAT, body, key, max_charge)

    def stream(self, model, prompt, *, system=None, key=None, max_charge=None, **fields):
        """An asynchronous iterator over pieces of text."""
        body = _shapes.chat_body(model, prompt, system, {**fields, "stream": True})
        return AsyncStream(self._core.stream(json.dumps(call(_shapes.CHAT, body, key=key, max_charge=max_charge))))

    async def embed(self, model, inputs, *, key=None, max_charge=None, **fields):
        inputs = [inputs] if isinstance(inputs, str) else list(inputs)
        return await self._ask("/v1/embeddings", {"model": model, "input": inputs, **fields}, key, max_charge, Embeddings)

    async def ask(self, path, body, *, key=None, max_charge=None):
        return await self._ask(path, dict(body), key, max_charge)

    async def quote(self, model, op="chat"):
        return _shapes.Quote(json.loads(await self._act("quote", model=model, op=op)))

    async def estimate(self, models, prompts, *, settings=None, repeats=1, input_tokens=None, output_tokens=None):
        grid = _many.grid_of(models, prompts, settings, repeats)
        made = await self._act("estimate", grid=grid, input_tokens=input_tokens, output_tokens=output_tokens)
        return table(made, _shapes.ESTIMATES)

    async def compare(self, *arguments, **options):
        return await _stoppable(self._client.compare, *arguments, **options)

    async def batch(self, *arguments, **options):
        return await _stoppable(self._client.batch, *arguments, **options)

    def openai(self, **options):
        """A ready `openai.AsyncOpenAI`."""
        return self._client.async_openai(**options)

    async def close(self):
        await asyncio.to_thread(self._client.close)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.close()

    async def _act(self, name, **arguments):
        return await self._core.act_async(act(name, **arguments))

    async def _ask(self, path, body, key, max_charge, shape=Answer):
        return shape(json.loads(await self._act("ask", ask=call(path, body, key=key, max_charge=max_charge))))


async def _stoppable(run, *arguments, **options):
    """In a thread. Cancelled, no other call begins, and those under way are waited for: what was paid for is kept."""
    stop = threading.Event()
    running = asyncio.ensure_future(asyncio.to_thread(run, *arguments, _stop=stop, **options))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([running])
        running.exception()
        raise


class AsyncStream(Streamed):
    def __aiter__(self):
        return self

    async def __anext__(self):
        while (made := await self._core.next_async()) is not None:
            if (text := self._take(made)) is not None:
                return text
        raise StopAsyncIteration

    async def close(self):
        self._core.close()

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.close()


class AsyncFingerprints:
    def __init__(self, client):
        self._client = client

    async def take(self, model, **options):
        return await _stoppable(self._client._client.fingerprint.take, model, **options)

    async def show(self, file, *, model=None, roster=None):
        return Fingerprint(json.loads(await self._client._act("fingerprint", named=named(file, model, roster))))

    async def check(self, file, **options):
        return await _stoppable(self._client._client.fingerprint.check, file, **options)


class AsyncModels:
    def __init__(self, client):
        self._client = client

    async def search(self, words="", **facets):
        return table(await self._client._act("search", query={"q": words, **facets}), _shapes.MODELS)

    async def show(self, model):
        return json.loads(await self._client._act("show", model=model))


class AsyncReceipts:
    def __init__(self, client):
        self._client = client

    async def list(self):
        return _shapes.receipts(await self._client._act("receipts"))

    async def verify(self):
        return json.loads(await self._client._act("verify"))


class AsyncWallet:
    def __init__(self, client):
        self._client = client

    async def status(self):
        return table(await self._client._act("purses"), _shapes.PURSES)

    async def limits(self):
        return json.loads(await self._client._act("limits"))

    async def finish(self, *tokens):
        return table(await self._client._act("finish", tokens=list(tokens)), _shapes.ENDED)
