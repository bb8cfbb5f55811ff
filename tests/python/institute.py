"""A fourth owner, whose model server is here: every op that a node serves, with answers that a test can work out.

It says back what it was told, word by word; a word is a token. A price is 1 µcr for a token in, 2 for a token out, and at
least 1 for a call, so that what a receipt charges follows from the usage that a client reads.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAME = "institute"
#: A language model with every op that OpenAI's packages know, one that is no language model, one that is seldom answered.
LETTERS, RISK, SELDOM = f"{NAME}/letters", f"{NAME}/risk", f"{NAME}/seldom"
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
            "/v1/models": {"object": "list", "data": [{"id": "letters", "object": "model"}]},
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


def chat(body):
    said = [word for message in body["messages"] for word in words(plain(message.get("content") or ""))]
    return spoken(body, said, lambda text, finish: {"index": 0, "delta": {"content": text}, "finish_reason": finish})


def completion(body):
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


def offer(name, url, ops, per_hour):
    rules = "".join(
        f'[[policy.rules]]\nop = "{op}"\ntier = "t1"\ninput_bytes_max = 4096\noutput_tokens_max = 64\n'
        "choices_max = 1\nlogprobs_max = 0\n\n"
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
upstream_model = "letters"
dialect = "vllm"
probe = false

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
