"""What an OpenAI program does all day, through the proxy. Each function gives how many calls were charged."""

import asyncio
import json
import urllib.error
import urllib.request

import openai

from federation import eventually, need

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
MODEL = "lab/tiny-b"


def refused(kind, status, code, call):
    """Gives the error, once it is of the right class, status and code."""
    try:
        call()
    except kind as error:
        need(error.status_code == status, f"{status} was due: {error!r}")
        need(code is None or error.code == code, f"code {code} was due: {error.code!r} in {error!r}")
        return error
    except openai.APIError as error:
        raise AssertionError(f"{kind.__name__} was due: {error!r}") from error
    raise AssertionError(f"{kind.__name__} was due, it was answered")


def synchronous(client):
    listed = {model.id: model for model in client.models.list().data}
    need({"university/tiny", MODEL} <= listed.keys(), f"models list: {listed.keys()}")
    need("agency/tiny-c" not in listed, "a model is listed that this project may not use")
    need(listed[MODEL].owned_by == "lab" and listed[MODEL].created > 0, f"{listed[MODEL]}")
    need(client.models.retrieve(MODEL).id == MODEL, "models retrieve")
    answered = 0
    for model in ("university/tiny", MODEL):
        chat = client.chat.completions.create(model=model, messages=QUESTION, max_tokens=24, temperature=0)
        need(chat.choices[0].message.content.strip(), f"{model}: an empty answer")
        need(chat.choices[0].finish_reason in ("stop", "length"), f"{model}: {chat.choices[0].finish_reason}")
        need(chat.usage.completion_tokens > 0 and chat.usage.prompt_tokens > 0, f"{model}: {chat.usage}")
        answered += 1

        for include in (True, False, None):
            answered += streamed(client, model, chat, include)

        text = client.completions.create(model=model, prompt="The capital of France is", max_tokens=8, temperature=0)
        need(text.choices[0].text and text.object == "text_completion", f"{model}: {text}")
        answered += 1

        # No limit: the wallet chooses what the call may cost.
        client.chat.completions.create(model=model, messages=QUESTION)
        answered += 1
    # The university's is free: it has receipts, and they charge nothing.
    return answered // 2


def streamed(client, model, chat, include):
    """A usage chunk comes last where it was asked for, and not at all where it was not or was refused."""
    options = {} if include is None else {"stream_options": {"include_usage": include}}
    stream = client.chat.completions.create(
        model=model, messages=QUESTION, max_tokens=24, temperature=0, stream=True, **options
    )
    chunks = list(stream)
    pieces = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    need("".join(pieces) == chat.choices[0].message.content, f"{model}: the stream says {''.join(pieces)!r}")
    need(reasons == [chat.choices[0].finish_reason], f"{model}: the stream ends with {reasons}")
    need(len({chunk.id for chunk in chunks}) == 1, f"{model}: one id all through")
    if include:
        need(all(chunk.usage is None for chunk in chunks[:-1]), f"{model}: usage comes last")
        need(not chunks[-1].choices and chunks[-1].usage.completion_tokens == chat.usage.completion_tokens,
             f"{model}: stream usage {chunks[-1]}")
    else:
        need(all(chunk.choices and chunk.usage is None for chunk in chunks), f"{model}: usage that nobody asked for")
    return 1


def headers(client, base_url, federation):
    """What comes beside an answer, what a browser is told, both base addresses, a slash at the end."""
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=QUESTION, max_tokens=4)
    for name in ("x-request-id", "comity-cost", "comity-remaining", "comity-receipt-id", "comity-served-by"):
        need(raw.headers.get(name), f"header {name} is missing: {dict(raw.headers)}")
    federation.came_by(raw.headers)
    need(int(raw.headers["comity-cost"]) > 0, "an answer that cost nothing")
    need(raw.parse().choices, "an answer without a choice")
    stream = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=QUESTION, max_tokens=4, stream=True, extra_body={"kv_transfer_params": {"a": 1}}
    )
    federation.came_by(stream.headers)
    need(stream.headers["content-type"].startswith("text/event-stream"), f"{dict(stream.headers)}")
    need("no-transform" in stream.headers["cache-control"], "a stream that may be buffered")
    need("kv_transfer_params" in stream.headers.get("comity-ignored", ""), "a dropped field is named")
    list(stream.parse())

    root = base_url.removesuffix("/v1")
    with openai.OpenAI(base_url=root, api_key="unused", max_retries=0) as bare:
        need(bare.models.list().data, "models without /v1")
    for path in ("/health", "/v1/models/", "/models/", f"/v1/models/{MODEL}"):
        status, _, body = fetch(root + path)
        need(status == 200 and json.loads(body), f"GET {path} gives {status}")
    preflight = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"}
    status, told, _ = fetch(root + "/v1/chat/completions", "OPTIONS", preflight)
    need(status == 204 and told["access-control-allow-origin"] == "http://localhost:3000", f"OPTIONS gives {status}")
    for method in ("OPTIONS", "GET"):
        status, told, _ = fetch(root + "/v1/models", method, {"Origin": "https://example.org"})
        need(status == 403 and "access-control-allow-origin" not in told, f"{method} from a page elsewhere: {status}")
    return 2


def fetch(url, method="GET", headers=None):
    request = urllib.request.Request(url, method=method, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, {name.lower(): value for name, value in reply.headers.items()}, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, {name.lower(): value for name, value in error.headers.items()}, error.read()


def refusals(client):
    """Each of the right class, so that a program can tell what to do; none is charged."""
    ask = client.chat.completions.create
    refused(openai.NotFoundError, 404, "model_not_found", lambda: ask(model="lab/none", messages=QUESTION))
    for stream in (False, True):
        refused(openai.PermissionDeniedError, 403, "vetting_too_low",
                lambda: ask(model="agency/tiny-c", messages=QUESTION, stream=stream))
    refused(openai.BadRequestError, 400, None, lambda: ask(model="no-organisation", messages=QUESTION))
    refused(openai.BadRequestError, 400, None, lambda: ask(model=MODEL, messages=QUESTION, temperature="hot"))
    dear = refused(openai.APIStatusError, 402, "wallet_limit",
                   lambda: ask(model=MODEL, messages=QUESTION, max_tokens=10_000_000))
    need(dear.response.headers["x-should-retry"] == "false", "a retry storm for want of credits")
    refused(openai.NotFoundError, 404, "not_found", lambda: client.images.generate(model=MODEL, prompt="a dog"))
    refused(openai.NotFoundError, 404, "model_not_found", lambda: client.models.retrieve("agency/tiny-c"))
    return 0


def left(client, base_url, federation, home):
    """A reader that goes in the middle of a stream: a receipt for what was relayed."""
    before = len(federation.receipts(home))
    stream = client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=128, stream=True)
    next(iter(stream))
    stream.close()

    def receipted():
        receipts = federation.receipts(home)
        need(len(receipts) == before + 1, f"{len(receipts) - before} receipts for a stream that was left")
        return receipts[-1]

    receipt = eventually("a receipt for what was relayed", receipted)
    need(receipt["charge"] > 0, f"what was relayed is charged: {receipt}")
    return 1


async def asynchronous(base_url):
    """Eight calls at once, half of them streams."""
    async with openai.AsyncOpenAI(base_url=base_url, api_key="unused", max_retries=0) as client:

        async def one(number):
            messages = [{"role": "user", "content": f"What is {number} plus 2?"}]
            if number % 2:
                stream = await client.chat.completions.create(model=MODEL, messages=messages, max_tokens=8, stream=True)
                chunks = [chunk async for chunk in stream]
                need(chunks, "a stream without a chunk")
            else:
                chat = await client.chat.completions.create(model=MODEL, messages=messages, max_tokens=8)
                need(chat.choices, "an answer without a choice")
            return 1

        return sum(await asyncio.gather(*(one(number) for number in range(8))))
