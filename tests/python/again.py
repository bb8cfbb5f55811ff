"""The same call, asked again: charged once. Two calls that are meant: charged twice. Each function gives how many were charged."""

import socket
import threading
import time

import openai

from calls import MODEL, QUESTION, refused
from federation import Broken, need


class Lossy:
    """Passes bytes on between a client and the proxy; of the first `drops` connections it takes the reply and loses it."""

    def __init__(self, base_url, drops):
        host, port = base_url.removeprefix("http://").removesuffix("/v1").rsplit(":", 1)
        self.to, self.drops, self.lost = (host, int(port)), drops, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.accept, daemon=True).start()

    @property
    def base_url(self):
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}/v1"

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.relay, args=(client,), daemon=True).start()

    def relay(self, client):
        server = socket.create_connection(self.to)
        threading.Thread(target=self.copy, args=(client, server), daemon=True).start()
        loses = self.lost < self.drops
        try:
            while data := server.recv(65536):
                if loses:
                    self.lost += 1
                    break
                client.sendall(data)
        except OSError:
            pass
        for side in (client, server):
            try:
                side.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            side.close()

    @staticmethod
    def copy(client, server):
        try:
            while data := client.recv(65536):
                server.sendall(data)
        except OSError:
            pass

    def close(self):
        self.listener.close()


def through(lossy):
    return openai.OpenAI(base_url=lossy.base_url, api_key="unused", max_retries=2, timeout=60)


def keyed(client, key, question=QUESTION, **more):
    create = client.chat.completions.with_raw_response.create
    return create(model=MODEL, messages=question, max_tokens=8, extra_headers={"Idempotency-Key": key}, **more)


def by_key(client):
    """The same key and body: the same answer, at no cost. Another body: refused."""
    first, again = keyed(client, "key-1"), keyed(client, "key-1")
    need(again.headers.get("comity-replayed") == "true", f"not told as a replay: {dict(again.headers)}")
    need(again.headers["comity-cost"] == "0", f"a replay that costs {again.headers['comity-cost']}")
    need(first.parse() == again.parse(), "another answer under the same key")
    stream = list(keyed(client, "key-2", stream=True).parse())
    need(stream == list(keyed(client, "key-2", stream=True).parse()), "another stream under the same key")
    other = [{"role": "user", "content": "Something else"}]
    conflict = refused(openai.UnprocessableEntityError, 422, "idempotency_conflict", lambda: keyed(client, "key-1", other))
    need(conflict.response.headers["x-should-retry"] == "false", "a conflict does not pass by itself")
    refused(openai.BadRequestError, 400, None, lambda: keyed(client, "x" * 256))
    return 2


def by_the_sdk(base_url):
    """The SDK retries by itself and names nothing: a reply that was lost is given again. Of a stream the first piece is lost, so
    its reader has gone in the middle: that is told, and not charged again."""
    for options, drops in (({}, 2), ({"stream": True}, 1)):
        lossy = Lossy(base_url, drops)
        with through(lossy) as client:
            ask = {"model": MODEL, "messages": [{"role": "user", "content": f"Lost {options}"}], "max_tokens": 8}
            try:
                answer = client.chat.completions.create(**ask, **options)
                need(list(answer) if options else answer.choices, "nothing came")
            except openai.ConflictError as error:
                need(options and error.code == "replayed", f"{error!r}")
        need(lossy.lost == drops, f"{lossy.lost} replies were lost")
        lossy.close()
    return 2


def impatient(base_url):
    """A client that hangs up and asks again finds its call, under way or ended."""
    with openai.OpenAI(base_url=base_url, api_key="unused", max_retries=0, timeout=60) as client:
        create = client.chat.completions.create
        for answered in range(50):
            question = [{"role": "user", "content": f"Say something long, {answered}"}]
            try:
                # One that is answered in time is over: what comes after it is another call.
                create(model=MODEL, messages=question, max_tokens=128, timeout=0.02)
            except openai.APITimeoutError:
                break
        else:
            raise Broken("no call took 20 ms")
        # What the SDK's own loop sends next.
        time.sleep(0.5)
        answer = create(model=MODEL, messages=question, max_tokens=128, extra_headers={"x-stainless-retry-count": "1"})
        need(answer.choices, "nothing came")
    return answered + 1


def meant(client):
    """Equal and meant: a first call is always new."""
    question = [{"role": "user", "content": "Twice"}]
    ids = {client.chat.completions.create(model=MODEL, messages=question, max_tokens=8).id for _ in range(2)}
    need(len(ids) == 2, "two calls were made one")
    return 2


def after_a_kill(federation, home, base_url):
    """The proxy dies and comes again under the same address: a key still names its call."""
    with openai.OpenAI(base_url=base_url, api_key="unused", max_retries=0, timeout=60) as client:
        first = keyed(client, "key-3").parse()
    federation.kill("proxy")
    listen = base_url.removeprefix("http://").removesuffix("/v1")
    base_url = federation.start_proxy(home, "--listen", listen)
    with openai.OpenAI(base_url=base_url, api_key="unused", max_retries=0, timeout=60) as client:
        again = keyed(client, "key-3")
        need(again.headers.get("comity-replayed") == "true" and again.parse() == first, "another answer after a restart")
    return 1
