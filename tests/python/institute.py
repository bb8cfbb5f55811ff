"""A fourth owner, whose model server is here: every op that a node serves, with answers that a test can work out.

It says back what it was told, word by word; a word is a token. A price is 1 µcr for a token in, 2 for a token out, and at
least 1 for a call, so that what a receipt charges follows from the usage that a client reads.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAME = "institute"
#: A language model with every op that OpenAI's packages know, one that is no language model, one that is seldom answered; and one that
#: gives log-probabilities, several choices, and prompts back: there a byte is a token.
LETTERS, RISK, SELDOM, SCORED = f"{NAME}/letters", f"{NAME}/risk", f"{NAME}/seldom", f"{NAME}/scored"
#: What the owner allows one project, told in `x-ratelimit-*`.
PER_HOUR, SELDOM_PER_HOUR = 10_000, 2
#: What an item of a prediction costs.
ITEM_UCR = 7
SCHEMA = {
    "input": {"type": "object", "properties": {"age": {"type": "integer", "minimum": 0}}, "required": ["age"]},
    "output": {"type": "number", "minimum": 0, "maximum": 1},
}
TEXT_OPS = ("chat", "completions", "responses", "embeddings", "moderations", "tokenize")


def words(text):
    return text.split()


def vector(text):
    """Three numbers that 32 bits hold exactly."""
    return [len(words(text)) / 2, -len(text) / 4, 0.5]


class Server:
    """The owner's model server, on a free port of loopback, until the process ends."""

    def __init__(self):
        self.listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.listener.daemon_threads = True
        threading.Thread(target=self.listener.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.listener.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        known = {
            "/health": {},
            "/v1/models": {"object": "list", "data": [{"id": name, "object": "model"} for name in ("letters", "scored")]},
            "/tokenizer_info": {"eos_token": "</s>", "bos_token": "<s>", "pad_token": None, "chat_template": "x"},
        }
        self.say(known.get(self.path))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        answers = {
            "/v1/chat/completions": chat, "/v1/completions": completion, "/v1/embeddings": embeddings,
            "/v1/predict": predictions, "/tokenize": tokens, "/detokenize": text,
        }
        answer = answers[self.path](body) if self.path in answers else None
        if isinstance(answer, list):
            self.frames(answer)
        else:
            self.say(answer)

    def say(self, answer):
        body = json.dumps(answer if answer is not None else {"error": {"message": "not here"}}).encode()
        self.send_response(404 if answer is None else 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def frames(self, frames):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for frame in [*map(json.dumps, frames), "[DONE]"]:
            self.wfile.write(f"data: {frame}\n\n".encode())
        self.close_connection = True


def usage(said, answer):
    return {"prompt_tokens": len(said), "completion_tokens": len(answer), "total_tokens": len(said) + len(answer)}


def plain(content):
    return content if isinstance(content, str) else " ".join(part["text"] for part in content)


def spoken(body, said, piece):
    """What was said, again; as many words of it as the limit has. Always as a stream: that is what a node asks for."""
    answer = said[: body.get("max_tokens") or len(said)]
    finish = "length" if len(answer) < len(said) else "stop"
    head = {"id": "x", "created": 1, "model": "letters"}
    pieces = [piece(word if at == 0 else f" {word}", None) for at, word in enumerate(answer)]
    frames = [{**head, "choices": [choice]} for choice in [*pieces, piece("", finish)]]
    return [*frames, {**head, "choices": [], "usage": usage(said, answer)}]


def prompts_of(body):
    """Each prompt of a completion as text, whichever of its four forms it has."""
    prompt = body["prompt"]
    if isinstance(prompt, str):
        return [prompt]
    if all(isinstance(one, int) for one in prompt):
        return [bytes(prompt).decode()]
    return [one if isinstance(one, str) else bytes(one).decode() for one in prompt]


def goes_on(prompt, choice, limit, stops):
    """What comes after a prompt: letters that follow from its length and the choice, up to the limit or a stop word."""
    text = "".join(chr(ord("a") + (len(prompt) + choice + at) % 26) for at in range(limit))
    ends = [text.index(stop) for stop in stops if stop in text]
    return (text[: min(ends)], "stop") if ends else (text, "length")


def logprob(letter, place):
    return -((ord(letter) + place) % 16 + 1) / 8


def scores(text, first, top):
    """The legacy lists over a text, a number for each letter from `first` on but the very first of a prompt."""
    values = [None if first + at == 0 else logprob(letter, first + at) for at, letter in enumerate(text)]
    tops = [None if value is None else {letter: value, **({"~": -9.0} if top > 1 else {})} for letter, value in zip(text, values)]
    return {"tokens": list(text), "token_logprobs": values, "top_logprobs": tops, "text_offset": list(range(first, first + len(text)))}


def scored_completion(body):
    head, choices, generated, given = {"id": "x", "created": 1, "model": "scored"}, [], 0, 0
    stops = [body["stop"]] if isinstance(body.get("stop"), str) else body.get("stop") or []
    for number, prompt in enumerate(prompts_of(body)):
        given += len(prompt)
        for choice in range(body.get("n", 1)):
            answer, finish = goes_on(prompt, choice, body.get("max_tokens", 16), stops)
            generated += len(answer)
            text, first = (prompt + answer, 0) if body.get("echo") else (answer, len(prompt))
            lists = scores(text, first, body["logprobs"]) if body.get("logprobs") is not None else None
            index = number * body.get("n", 1) + choice
            choices.append({"index": index, "text": text, "logprobs": lists, "finish_reason": finish})
        # What was generated and is not the best is generated all the same.
        generated += (body.get("best_of", body.get("n", 1)) - body.get("n", 1)) * len(answer)
    counts = {"prompt_tokens": given, "completion_tokens": generated, "total_tokens": given + generated}
    return [*({**head, "choices": [choice]} for choice in choices), {**head, "choices": [], "usage": counts}]


def scored_chat(body):
    prompt = plain(body["messages"][-1]["content"])
    head, frames, generated = {"id": "x", "created": 1, "model": "scored"}, [], 0
    for choice in range(body.get("n", 1)):
        answer, finish = goes_on(prompt, choice, body.get("max_tokens", 16), [])
        generated += len(answer)
        for at, letter in enumerate(answer):
            value = logprob(letter, len(prompt) + at)
            entry = {"token": letter, "logprob": value, "bytes": [ord(letter)],
                     "top_logprobs": [{"token": letter, "logprob": value, "bytes": [ord(letter)]}][: body.get("top_logprobs", 0)]}
            delta = {"index": choice, "delta": {"content": letter}, "finish_reason": None}
            frames.append({**delta, **({"logprobs": {"content": [entry]}} if body.get("logprobs") else {})})
        frames.append({"index": choice, "delta": {}, "finish_reason": finish})
    counts = {"prompt_tokens": len(prompt), "completion_tokens": generated, "total_tokens": len(prompt) + generated}
    return [*({**head, "choices": [frame]} for frame in frames), {**head, "choices": [], "usage": counts}]


def chat(body):
    if body["model"] == "scored":
        return scored_chat(body)
    said = [word for message in body["messages"] for word in words(plain(message.get("content") or ""))]
    return spoken(body, said, lambda text, finish: {"index": 0, "delta": {"content": text}, "finish_reason": finish})


def completion(body):
    if body["model"] == "scored":
        return scored_completion(body)
    return spoken(body, words(body["prompt"]), lambda text, finish: {"index": 0, "text": text, "finish_reason": finish})


def embeddings(body):
    inputs = [body["input"]] if isinstance(body["input"], str) else body["input"]
    data = [{"object": "embedding", "index": at, "embedding": vector(text)} for at, text in enumerate(inputs)]
    count = sum(len(words(text)) for text in inputs)
    return {"object": "list", "data": data, "model": "letters", "usage": {"prompt_tokens": count, "total_tokens": count}}


def predictions(body):
    return {"outputs": [min(item["age"], 100) / 128 for item in body["inputs"]]}


def tokens(body):
    ids = list(body["prompt"].encode())
    return {"tokens": ids, "count": len(ids), "max_model_len": 4096}


def text(body):
    return {"prompt": bytes(body["tokens"]).decode()}


def offers(url):
    """The owner's files, by name: what a node is told of the models above."""
    yield "letters", offer("letters", url, TEXT_OPS, PER_HOUR)
    yield "risk", offer("risk", url, ("predict",), PER_HOUR) + f"\n[predict]\nschema = '''{json.dumps(SCHEMA)}'''\n"
    yield "seldom", offer("seldom", url, ("chat",), SELDOM_PER_HOUR)
    ops = ("chat", "completions", "logprobs", "prompt_logprobs", "tokenize")
    yield "scored", offer("scored", url, ops, PER_HOUR, choices=4, logprobs=5)


def offer(name, url, ops, per_hour, choices=1, logprobs=0):
    """One that does more than the others is asked at the start what it can do."""
    rules = "".join(
        f'[[policy.rules]]\nop = "{op}"\ntier = "t1"\ninput_bytes_max = 4096\noutput_tokens_max = 64\n'
        f"choices_max = {choices}\nlogprobs_max = {logprobs}\n\n"
        for op in ops
    )
    return f"""[model]
name = "{name}"
title = "{name}"
description = "Says back what it was told."
tasks = ["text-generation"]
languages = ["en"]
context_length = 4096
output_tokens_max = 64
license = {{ spdx = "MIT" }}

[serve]
upstream = "{url}"
upstream_model = "{"scored" if choices > 1 else "letters"}"
dialect = "vllm"
probe = {str(choices > 1).lower()}

[release]
weights = "{'0' * 64}"
tokenizer = "{'0' * 64}"
template = "{'0' * 64}"
dtype = "f32"
tokenizer_name = "bytes"
undisclosed = false

[data_policy]
retention_days = 0
trains_on_inputs = false
logging = "metadata"

[[policy.tiers]]
tier = "t1"
vetting = "registered"
grant = false
identity = "pseudonym"
delegates = "all"
window_max = 1_000_000
lanes_max = 32
charge_max = 50_000
concurrency = 16
windows = [{{ seconds = 3_600, requests = {per_hour} }}]
logging = "metadata"
filters = [{{ category = "political_persuasion", action = "log" }}]

{rules}[tariff]
overhead_tokens = 8
output_bytes_per_token = 64

{"".join(price(op) for op in ops)}"""


def price(op):
    meters = {"predict": {"requests": ITEM_UCR}, "embeddings": {"input_tokens": 1}, "moderations": {}, "tokenize": {}}
    rates = ", ".join(
        f'{{ meter = "{meter}", steps = [{{ from = 0, ucr_per_million = {ucr}_000_000 }}] }}'
        for meter, ucr in meters.get(op, {"input_tokens": 1, "output_tokens": 2}).items()
    )
    return f'[[tariff.prices]]\nop = "{op}"\nminimum = 1\nrates = [{rates}]\n\n'
