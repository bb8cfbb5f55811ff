"""Every endpoint of a node beside chat, completions, files and batches: what is answered, what it costs, how it is refused.

Each function gives how many calls were charged. What a call costs is worked out from its usage (institute.py has the
prices) and held against `comity-cost` and against the receipt.
"""

import json
import urllib.error
import urllib.request

import openai

import institute
from calls import refused
from federation import eventually, need
from institute import LETTERS, RISK, SCORED, SELDOM

TEXT = "one two three four"


def charged(federation, home, raw, ucr):
    """The headers and the receipt say the same price, and the headers the door."""
    federation.came_by(raw.headers)
    need(raw.headers["comity-cost"] == str(ucr), f"{ucr} µcr were due: {raw.headers['comity-cost']}")
    need(raw.headers["x-request-id"].startswith("req-"), f"no number of the door: {raw.headers.get('x-request-id')}")
    need(int(raw.headers["comity-remaining"]) > 0 and raw.headers["comity-receipt-id"], f"{dict(raw.headers)}")
    receipt = federation.receipts(home)[-1]
    need(receipt["charge"] == ucr, f"{ucr} µcr were due: {receipt}")
    return receipt


def embeddings(client, federation, home):
    """Base64 is what the package asks for where its caller does not choose; both are the same numbers."""
    create = client.embeddings.with_raw_response.create
    texts = [TEXT, "five"]
    want = [institute.vector(text) for text in texts]
    for options in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"}):
        raw = create(model=LETTERS, input=texts, **options)
        reply = json.loads(raw.content)
        is_text = all(isinstance(row["embedding"], str) for row in reply["data"])
        need(is_text == (options.get("encoding_format") != "float"), f"{options}: {reply}")
        if options.get("encoding_format") != "base64":
            got = raw.parse()
            need([list(row.embedding) for row in got.data] == want, f"{options}: {got}")
            need([row.index for row in got.data] == [0, 1] and got.model == LETTERS, f"{options}: {got}")
            need((got.usage.prompt_tokens, got.usage.total_tokens) == (5, 5), f"{options}: {got.usage}")
        need(charged(federation, home, raw, 5)["op"] == "embeddings", "an embedding has its own op")
    one = client.embeddings.create(model=LETTERS, input="one")
    need(list(one.data[0].embedding) == institute.vector("one"), f"{one}")
    refused(openai.BadRequestError, 400, "invalid_request", lambda: create(model=LETTERS, input=[]))
    refused(openai.PermissionDeniedError, 403, "op_not_offered", lambda: create(model="lab/tiny-b", input="a"))
    return 4


def completions(client, federation, home):
    """The older endpoint as evaluations use it: prompts back with their log-probabilities, as text and as token ids, several prompts,
    several choices, the best of several, stop words. A letter is a token here, 1 µcr in and 2 out."""
    create = client.completions.with_raw_response.create
    for prompt in (TEXT, list(TEXT.encode())):
        for limit in (1, 0):
            raw = create(model=SCORED, prompt=prompt, echo=True, logprobs=2, max_tokens=limit, temperature=0)
            got = raw.parse()
            want, _ = institute.goes_on(TEXT, 0, limit, [])
            lists = institute.scores(TEXT + want, 0, 2)
            said = got.choices[0].logprobs
            need(got.choices[0].text == TEXT + want and said.tokens == lists["tokens"], f"{limit}: {got}")
            need(said.token_logprobs == lists["token_logprobs"] and said.text_offset == lists["text_offset"], f"{limit}: {said}")
            need(said.top_logprobs == lists["top_logprobs"], f"{limit}: {said.top_logprobs}")
            charged(federation, home, raw, len(TEXT) + 2 * limit)
    raw = create(model=SCORED, prompt=["ab", "abc"], max_tokens=3, n=2, logprobs=1)
    got = raw.parse()
    want = [institute.goes_on(prompt, choice, 3, [])[0] for prompt in ("ab", "abc") for choice in (0, 1)]
    need([choice.text for choice in got.choices] == want, f"{want}: {got}")
    need([choice.index for choice in got.choices] == [0, 1, 2, 3] and got.usage.completion_tokens == 12, f"{got}")
    need(got.choices[1].logprobs.token_logprobs == institute.scores(want[1], 2, 1)["token_logprobs"], f"{got.choices[1]}")
    charged(federation, home, raw, 5 + 2 * 12)
    raw = create(model=SCORED, prompt=[list(b"ab"), list(b"abc")], max_tokens=2)
    need([choice.text for choice in raw.parse().choices] == ["cd", "de"], f"{raw.parse()}")
    charged(federation, home, raw, 5 + 2 * 4)
    # All that were generated are paid for, and one is given.
    raw = create(model=SCORED, prompt="ab", max_tokens=4, best_of=3)
    need([choice.text for choice in raw.parse().choices] == ["cdef"], f"{raw.parse()}")
    charged(federation, home, raw, 2 + 2 * 12)
    raw = create(model=SCORED, prompt="ab", max_tokens=8, stop=["fg", "zz"])
    stopped = raw.parse().choices[0]
    need((stopped.text, stopped.finish_reason) == ("cde", "stop"), f"{stopped}")
    charged(federation, home, raw, 2 + 2 * 3)
    chunks = list(client.completions.create(model=SCORED, prompt="ab", max_tokens=3, n=2, logprobs=1, stream=True))
    texts = {at: "".join(choice.text for chunk in chunks for choice in chunk.choices if choice.index == at) for at in (0, 1)}
    need(texts == {0: "cde", 1: "def"}, f"{texts}")
    chat = client.chat.completions.create(
        model=SCORED, messages=[{"role": "user", "content": "ab"}], max_tokens=3, n=2, logprobs=True, top_logprobs=1)
    need([choice.message.content for choice in chat.choices] == ["cde", "def"], f"{chat}")
    entries = chat.choices[1].logprobs.content
    need([entry.token for entry in entries] == list("def") and entries[0].top_logprobs[0].token == "d", f"{entries}")
    need([entry.logprob for entry in entries] == [institute.logprob(letter, 2 + at) for at, letter in enumerate("def")], f"{entries}")
    refused(openai.PermissionDeniedError, 403, "limit_exceeded", lambda: create(model=SCORED, prompt="a", n=5))
    refused(openai.PermissionDeniedError, 403, "limit_exceeded", lambda: create(model=SCORED, prompt="a", logprobs=6, max_tokens=1))
    refused(openai.PermissionDeniedError, 403, "op_not_in_scope", lambda: create(model=LETTERS, prompt="a", echo=True, logprobs=1))
    return 10


def responses(client, federation, home):
    """Whole and as events; nothing is kept, and what would need a memory is refused."""
    create = client.responses.with_raw_response.create
    raw = create(model=LETTERS, input=TEXT, instructions="be kind", max_output_tokens=16, store=True)
    got = raw.parse()
    need(got.output_text == f"be kind {TEXT}" and got.status == "completed", f"{got}")
    need((got.usage.input_tokens, got.usage.output_tokens, got.usage.total_tokens) == (6, 6, 12), f"{got.usage}")
    need(raw.headers["comity-ignored"] == "store" and got.store is False, f"{dict(raw.headers)}")
    need(charged(federation, home, raw, 6 + 2 * 6)["op"] == "responses", "a response has its own op")

    short = client.responses.create(model=LETTERS, input=TEXT, max_output_tokens=2)
    need(short.status == "incomplete" and short.incomplete_details.reason == "max_output_tokens", f"{short}")
    need(short.output_text == "one two", f"{short.output_text!r}")

    with client.responses.stream(model=LETTERS, input=TEXT) as stream:
        events = list(stream)
        final = stream.get_final_response()
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    need("".join(deltas) == final.output_text == TEXT and len(deltas) == 4, f"{deltas} {final.output_text!r}")
    need(events[0].type == "response.created" and events[-1].type == "response.completed", f"{events[0]} {events[-1]}")
    need([event.sequence_number for event in events] == list(range(len(events))), "events are numbered")
    need(final.usage.output_tokens == 4, f"{final.usage}")
    need(federation.receipts(home)[-1]["charge"] == 4 + 2 * 4, "a stream costs what the whole costs")
    events = list(client.responses.create(model=LETTERS, input="one", stream=True))
    need(events[-1].response.output_text == "one", f"{events[-1]}")

    for field in ({"previous_response_id": "resp_1"}, {"background": True}, {"conversation": "conv_1"}):
        error = refused(openai.BadRequestError, 400, None, lambda: create(model=LETTERS, input="a", **field))
        need(error.param in field and error.response.headers["x-should-retry"] == "false", f"{field}: {error!r}")
    return 4


def moderations(client, federation, home):
    """The owner's rules, by their own names."""
    texts = ["The sky is blue.", "Card 4111 1111 1111 1111, IBAN DE89370400440532013000, mail a@b.org"]
    raw = client.moderations.with_raw_response.create(model=LETTERS, input=texts)
    got = raw.parse()
    need([result.flagged for result in got.results] == [False, True], f"{got}")
    reply = json.loads(raw.content)
    need(reply["results"][1]["categories"]["personal_data"] is True, f"{reply}")
    need(reply["results"][1]["category_scores"]["personal_data"] == 1 and got.id.startswith("modr-"), f"{reply}")
    need(charged(federation, home, raw, 1)["op"] == "moderations", "a moderation has its own op")
    return 1


def models(client):
    """Ids have a slash in them."""
    listed = {model.id for model in client.models.list().data}
    need({LETTERS, RISK, SELDOM} <= listed, f"{listed}")
    for model in (LETTERS, RISK):
        got = client.models.retrieve(model)
        need((got.id, got.object, got.owned_by) == (model, "model", institute.NAME), f"{got}")
    refused(openai.NotFoundError, 404, "model_not_found", lambda: client.models.retrieve(f"{institute.NAME}/none"))
    return 0


def post(base_url, path, body):
    """As a program without a package does: status, headers, what was said."""
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(base_url.removesuffix("/v1") + path, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, reply.headers, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        return error.code, error.headers, json.loads(error.read())


def plain(base_url, federation, home):
    """What OpenAI's package has no word for, under both base addresses."""
    count = 0
    for base in ("", "/v1"):
        status, headers, said = post(base_url, f"{base}/tokenize", {"model": LETTERS, "prompt": "añb"})
        need((status, said["tokens"], said["count"]) == (200, list("añb".encode()), 4), f"{status} {said}")
        need(headers["comity-cost"] == "1" and headers["x-request-id"].startswith("req-"), f"{headers}")
        federation.came_by(headers)
        status, _, back = post(base_url, f"{base}/detokenize", {"model": LETTERS, "tokens": said["tokens"]})
        need((status, back) == (200, {"prompt": "añb"}), f"{status} {back}")
        ages = [{"age": 0}, {"age": 64}, {"age": 500}]
        status, headers, said = post(base_url, f"{base}/predict", {"model": RISK, "inputs": ages})
        need((status, said["outputs"]) == (200, [0, 0.5, 100 / 128]), f"{status} {said}")
        need(said["object"] == "prediction" and said["model"] == RISK, f"{said}")
        need(headers["comity-cost"] == str(3 * institute.ITEM_UCR), f"{headers['comity-cost']}")
        receipt = federation.receipts(home)[-1]
        need((receipt["op"], receipt["charge"]) == ("predict", 3 * institute.ITEM_UCR), f"{receipt}")
        count += 3
    for body, param in (({"inputs": [{"age": -1}]}, "inputs"), ({"inputs": [{"age": "old"}]}, "inputs"), ({}, "inputs")):
        status, headers, said = post(base_url, "/v1/predict", {"model": RISK, **body})
        need((status, said["error"]["code"], headers["x-should-retry"]) == (400, "invalid_request", "false"), f"{said}")
        need(said["error"]["param"].startswith(param), f"{said}")
    status, _, said = post(base_url, "/v1/predict", {"model": LETTERS, "inputs": [{"age": 1}]})
    need((status, said["error"]["code"]) == (403, "op_not_offered"), f"{status} {said}")
    return count


def limits(client):
    """What the owner's windows leave comes through the proxy, and a refusal says when to come again."""
    create = client.chat.completions.with_raw_response.create
    ask = {"model": SELDOM, "messages": [{"role": "user", "content": "one"}], "max_tokens": 4}
    for left in (1, 0):
        raw = create(**ask)
        told = {what: raw.headers.get(f"x-ratelimit-{what}-requests") for what in ("limit", "remaining", "reset")}
        need((told["limit"], told["remaining"]) == (str(institute.SELDOM_PER_HOUR), str(left)), f"{told}")
        need(0 < int(told["reset"].removesuffix("s")) <= 3_600, f"{told}")
    error = refused(openai.RateLimitError, 429, "too_many_requests", lambda: create(**ask))
    headers = error.response.headers
    need(0 < int(headers["retry-after"]) <= 3_600, f"{dict(headers)}")
    need(headers["x-ratelimit-remaining-requests"] == "0" and headers["x-request-id"].startswith("req-"), f"{dict(headers)}")
    other = client.embeddings.with_raw_response.create(model=LETTERS, input="one")
    need(other.headers["x-ratelimit-limit-requests"] == str(institute.PER_HOUR), "each model has its own windows")
    stream = create(model=LETTERS, messages=ask["messages"], max_tokens=4, stream=True)
    need(stream.headers["x-ratelimit-limit-requests"] == str(institute.PER_HOUR), "a stream tells them too")
    list(stream.parse())
    return 4


def typed(client):
    """Each endpoint refuses as the packages class it."""
    ask = {"model": f"{institute.NAME}/none"}
    for call in (
        lambda: client.embeddings.create(**ask, input="a"),
        lambda: client.responses.create(**ask, input="a"),
        lambda: client.moderations.create(**ask, input="a"),
    ):
        error = refused(openai.NotFoundError, 404, "model_not_found", call)
        need(error.response.headers["x-should-retry"] == "false", "what is not there does not come by waiting")
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]}]
    refused(openai.BadRequestError, 400, "content_not_text",
            lambda: client.chat.completions.create(model=LETTERS, messages=image, max_tokens=4))
    refused(openai.BadRequestError, 400, "content_not_text",
            lambda: client.responses.create(model=LETTERS, input=[{"role": "user", "content": [
                {"type": "input_image", "image_url": "https://example.org/a.png", "detail": "auto"}]}]))
    return 0


def penniless(federation):
    """A registered project without an award: 402, not to be tried again, and free of charge."""
    home, _ = federation.project(f"penniless-{federation.door}", credits=0)
    base_url = federation.start_proxy(home, name="penniless-proxy")
    with openai.OpenAI(base_url=base_url, api_key="unused", max_retries=2, timeout=60) as client:
        eventually("the models", lambda: client.models.retrieve(LETTERS), also=(openai.APIError,))
        for call in (
            lambda: client.embeddings.create(model=LETTERS, input="a"),
            lambda: client.responses.create(model=LETTERS, input="a", max_output_tokens=4),
            lambda: client.moderations.create(model=LETTERS, input="a"),
        ):
            error = refused(openai.APIStatusError, 402, None, call)
            need(error.response.headers["x-should-retry"] == "false", "a retry storm for want of credits")
            need(error.type == "insufficient_quota", f"{error!r}")
        free = client.chat.completions.create(model="university/tiny", max_tokens=4,
                                              messages=[{"role": "user", "content": "Hi"}])
        need(free.choices, "an open model is answered all the same")
    federation.end("penniless-proxy")
    return 0

