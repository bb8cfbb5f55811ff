"""A model server with the surface of vLLM, in front of the model of `model.py`: what a tool asks directly, and what a node asks.

Completions with all four forms of a prompt, echo, log-probabilities and token ids; chat with log-probabilities; whole and as streams;
the tokenizer's three routes. It counts what it answered, so that a test can say how many calls came by.
"""

import codecs
import itertools
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from model import END, Model

NAME = "lab/tiny"
END_WORD = "</s>"
CONTEXT = 4096
LIMIT_DEFAULT = 16
TEMPLATE = (
    "{% for message in messages %}{{ {'system': 'S', 'user': 'Q', 'assistant': 'A'}[message['role']] }}: "
    "{{ message['content'] }}\n{% endfor %}{% if add_generation_prompt %}A: {% endif %}"
)
LETTERS = {"system": "S", "developer": "S", "user": "Q", "assistant": "A"}


class Server:
    """On a free port of loopback, until `end`."""

    def __init__(self, model=None, handler=None):
        self.model, self.answered, self.asked = model or Model(), 0, []
        self.listener = ThreadingHTTPServer(("127.0.0.1", 0), handler or Handler)
        self.listener.daemon_threads, self.listener.of = True, self
        threading.Thread(target=self.listener.serve_forever, daemon=True).start()

    @property
    def root(self):
        return f"http://127.0.0.1:{self.listener.server_address[1]}"

    def end(self):
        self.listener.shutdown()
        self.listener.server_close()


class Wrong(Exception):
    """A request that it does not take."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body of an answer are two writes.
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_GET(self):
        known = {
            "/health": {},
            "/v1/models": {"object": "list", "data": [{"id": NAME, "object": "model", "created": 1, "owned_by": "vllm",
                                                       "max_model_len": CONTEXT}]},
            "/tokenizer_info": {"tokenizer_class": "Bytes", "eos_token": END_WORD, "bos_token": None, "pad_token": None,
                                "chat_template": TEMPLATE},
        }
        self.say(200 if self.path in known else 404, known.get(self.path, {"detail": "Not Found"}))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        routes = {"/v1/chat/completions": self.chat, "/v1/completions": self.completions,
                  "/tokenize": tokenized, "/detokenize": detokenized}
        if self.path not in routes:
            return self.say(404, {"detail": "Not Found"})
        try:
            self.say(200, routes[self.path](body))
        except Wrong as wrong:
            self.say(400, {"error": {"message": str(wrong), "type": "BadRequestError", "param": None, "code": 400}})

    def chat(self, body):
        lines = (f"{LETTERS[message['role']]}: {plain(message['content'])}\n" for message in body["messages"])
        return self.generated(body, [tokens_of("".join(lines) + "A: ")], ChatForm(body))

    def completions(self, body):
        return self.generated(body, prompts_of(body["prompt"]), TextForm(body))

    def generated(self, body, prompts, form):
        if body.get("model") != NAME:
            raise Wrong(f"The model `{body.get('model')}` does not exist.")
        if body.get("n") not in (None, 1):
            raise Wrong("one choice is what it makes")
        limit = body.get("max_completion_tokens") or body.get("max_tokens")
        limit = LIMIT_DEFAULT if limit is None else limit
        if max(map(len, prompts)) + limit > CONTEXT:
            raise Wrong(f"This model's maximum context length is {CONTEXT} tokens.")
        stops = body.get("stop") or []
        stops = [stops] if isinstance(stops, str) else stops
        server = self.server.of
        said = [Said(server.model, prompt, limit, stops) for prompt in prompts]
        server.answered += 1
        server.asked.append(body)
        counts = {"prompt_tokens": sum(map(len, prompts)), "completion_tokens": sum(len(one.answer) for one in said)}
        counts["total_tokens"] = counts["prompt_tokens"] + counts["completion_tokens"]
        head = {"id": f"{form.prefix}-{server.answered}", "created": 1, "model": NAME}
        if not body.get("stream"):
            return {**head, "object": form.whole, "choices": [form.choice(at, one) for at, one in enumerate(said)], "usage": counts}
        chunks = [{**head, "object": form.part, "choices": [piece]} for at, one in enumerate(said) for piece in form.pieces(at, one)]
        if (body.get("stream_options") or {}).get("include_usage"):
            chunks = [{**chunk, "usage": None} for chunk in chunks]
            chunks.append({**head, "object": form.part, "choices": [], "usage": counts})
        return chunks

    def say(self, status, answer):
        """A list is a stream."""
        stream = isinstance(answer, list)
        body = "".join(f"data: {json.dumps(one)}\n\n" for one in answer) + "data: [DONE]\n\n" if stream else json.dumps(answer)
        body = body.encode()
        self.send_response(status)
        self.send_header("content-type", "text/event-stream" if stream else "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Said:
    """Prompt and answer of one choice."""

    def __init__(self, model, prompt, limit, stops):
        self.model, self.prompt = model, prompt
        self.answer, self.finish = model.goes_on(prompt, limit, stops)

    def rows(self, first, end=None):
        """Of each token from `first` on: the token, and what may have come there."""
        whole = (*self.prompt, *self.answer)
        return [(whole[at], self.model.row(whole[:at])) for at in range(first, len(whole) if end is None else end)]


class TextForm:
    prefix, whole, part = "cmpl", "text_completion", "text_completion"

    def __init__(self, body):
        self.echo, self.top = bool(body.get("echo")), body.get("logprobs")

    def first(self, said):
        return 0 if self.echo else len(said.prompt)

    def lists(self, said, first, end):
        """Parallel lists over the tokens; of the first token of a text nothing is said."""
        if self.top is None:
            return None
        lists = {"text_offset": [], "token_logprobs": [], "tokens": [], "top_logprobs": []}
        whole = (*said.prompt, *said.answer)
        for at, (token, row) in enumerate(said.rows(first, end), first):
            name = name_of(token)
            # Letters that are whole before it.
            lists["text_offset"].append(len(Letters().of(whole[self.first(said):at])))
            lists["tokens"].append(name)
            lists["token_logprobs"].append(row[token] if at else None)
            lists["top_logprobs"].append({name_of(one): row[one] for one in likeliest(row, self.top, token)} if at else None)
        return lists

    def choice(self, index, said):
        whole = (*said.prompt, *said.answer)
        return {"index": index, "text": text_of(whole[self.first(said):]), "logprobs": self.lists(said, self.first(said), len(whole)),
                "finish_reason": said.finish, "stop_reason": None, "prompt_logprobs": None}

    def pieces(self, index, said):
        """Token by token; the prompt comes with the first."""
        whole, first, letters = (*said.prompt, *said.answer), self.first(said), Letters()
        ends = list(range(len(said.prompt) + 1, len(whole) + 1)) or [len(whole)]
        for end in ends:
            text = letters.of(whole[first:end], end == len(whole))
            finish = said.finish if end == ends[-1] else None
            yield {"index": index, "text": text, "logprobs": self.lists(said, first, end), "finish_reason": finish, "stop_reason": None}
            first = end


class ChatForm:
    prefix, whole, part = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def __init__(self, body):
        self.top = (body.get("top_logprobs") or 0) if body.get("logprobs") else None

    def entries(self, rows):
        def one(token, row):
            return {"token": name_of(token), "logprob": row[token], "bytes": [token] if token != END else []}

        if self.top is None:
            return None
        return {"content": [{**one(token, row), "top_logprobs": [one(other, row) for other in likeliest(row, self.top)]}
                            for token, row in rows]}

    def choice(self, index, said):
        message = {"role": "assistant", "content": text_of(said.answer), "tool_calls": []}
        return {"index": index, "message": message, "logprobs": self.entries(said.rows(len(said.prompt))),
                "finish_reason": said.finish, "stop_reason": None}

    def pieces(self, index, said):
        rows, letters = said.rows(len(said.prompt)), Letters()
        yield {"index": index, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
        for at, (token, row) in enumerate(rows, 1):
            delta = {"content": letters.of((token,), at == len(rows))}
            yield {"index": index, "delta": delta, "logprobs": self.entries([(token, row)]), "finish_reason": None}
        yield {"index": index, "delta": {"content": ""}, "logprobs": None, "finish_reason": said.finish, "stop_reason": None}


class Letters:
    """Bytes come one by one, letters when they are whole."""

    def __init__(self):
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def of(self, tokens, last=False):
        runs = itertools.groupby(tokens, lambda token: token == END)
        parts = [END_WORD * len(list(run)) if is_end else self.decoder.decode(bytes(run)) for is_end, run in runs]
        return "".join(parts) + (self.decoder.decode(b"", True) if last else "")


def likeliest(row, count, token=None):
    """The tokens with the highest numbers, and the one that stands there."""
    best = sorted(range(len(row)), key=row.__getitem__, reverse=True)[:count]
    return best if token is None or token in best else [*best, token]


def name_of(token):
    """A byte that is no letter by itself has a name, as OpenAI gives it one."""
    if token == END:
        return END_WORD
    return chr(token) if token < 128 else f"bytes:\\x{token:02x}"


def text_of(tokens):
    return Letters().of(tokens, last=True)


def tokens_of(text):
    """Bytes, but for the word that ends a text."""
    tokens = []
    for at, part in enumerate(text.split(END_WORD)):
        tokens.extend((END, *part.encode()) if at else part.encode())
    return tuple(tokens)


def plain(content):
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def prompts_of(prompt):
    """Each prompt as tokens, whichever of its four forms it has."""
    if isinstance(prompt, str):
        return [tokens_of(prompt)]
    if prompt and all(isinstance(one, int) for one in prompt):
        prompt = [prompt]
    prompts = [tokens_of(one) if isinstance(one, str) else tuple(one) for one in prompt]
    if not prompts or any(not one or max(one) > END for one in prompts):
        raise Wrong("a prompt has tokens of this tokenizer")
    return prompts


def tokenized(body):
    tokens = tokens_of(body["prompt"])
    return {"count": len(tokens), "max_model_len": CONTEXT, "tokens": tokens, "token_strs": None}


def detokenized(body):
    return {"prompt": text_of(body["tokens"])}
