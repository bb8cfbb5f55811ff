"""The client that waits."""

import contextlib
import json
import os
import secrets
import weakref

from . import _comity, _many, _shapes, errors
from ._amount import micro
from ._answer import Answer, Embeddings, Streamed
from ._fingerprint import Fingerprints
from ._shapes import act, call, table


class Client:
    """A researcher's client on a home folder (`home`, else `$COMITY_HOME`, else `~/.config/comity`).

    It holds the wallet: one program at a time. `look=True` opens it beside another program, to search, estimate and read, and signs
    nothing. `passphrase` opens sealed keys: a text, or what gives one when it is called; left out, the file that
    `COMITY_PASSPHRASE_FILE` names, else the terminal. Threads may share it. Use it as a context manager, or call `close()`, so that what was not spent goes home at once.
    """

    def __init__(self, home=None, *, look=False, passphrase=None):
        said = passphrase() if callable(passphrase) else passphrase
        self._core = _comity.Core(None if home is None else os.fspath(home), look, said)
        self._look, self._closed, self._served, self._own = look, False, [], None
        self.models, self.receipts, self.wallet = Models(self), Receipts(self), Wallet(self)
        self.fingerprint = Fingerprints(self)

    @property
    def home(self):
        """The folder with profile, key and wallet."""
        return self._core.home

    @property
    def project(self):
        """The project's account at the house: award, spent, in escrow, left (micro-credits)."""
        return json.loads(self._act("project"))

    def chat(self, model, prompt, *, system=None, key=None, max_charge=None, **fields):
        """Asks, and waits for the whole answer. `prompt` is a question or messages; `fields` go into OpenAI's body.

        `key` names the call: the same key and body are asked and charged once, over any crash. `max_charge`: what it may cost.
        """
        body = _shapes.chat_body(model, prompt, system, fields)
        return self._ask(_shapes.CHAT, body, key, max_charge)

    def stream(self, model, prompt, *, system=None, key=None, max_charge=None, **fields):
        """Asks for a stream: an iterator over pieces of text. Leaving it early ends the call at the node, and its cost."""
        body = _shapes.chat_body(model, prompt, system, {**fields, "stream": True})
        return Stream(self._core.stream(json.dumps(call(_shapes.CHAT, body, key=key, max_charge=max_charge))))

    def embed(self, model, inputs, *, key=None, max_charge=None, **fields):
        """Vectors of texts."""
        inputs = [inputs] if isinstance(inputs, str) else list(inputs)
        body = {"model": model, "input": inputs, **fields}
        return self._ask("/v1/embeddings", body, key, max_charge, Embeddings)

    def ask(self, path, body, *, key=None, max_charge=None):
        """Any priced route, in OpenAI's shape: `ask("/v1/completions", {"model": …, "prompt": …})`."""
        return self._ask(path, dict(body), key, max_charge)

    def quote(self, model, op="chat"):
        """The price that the house pins for your project now."""
        return _shapes.Quote(json.loads(self._act("quote", model=model, op=op)))

    def estimate(self, models, prompts, *, settings=None, repeats=1, input_tokens=None, output_tokens=None):
        """What prompts would cost with each model, the cheapest first, before anything is spent."""
        grid = _many.grid_of(models, prompts, settings, repeats)
        made = self._act("estimate", grid=grid, input_tokens=input_tokens, output_tokens=output_tokens)
        return table(made, _shapes.ESTIMATES)

    def compare(
        self, models=None, prompts=None, *, settings=None, repeats=1, cap=None, out="comparison", at_once=8, told=None, quiet=False, _stop=None
    ):
        """Several models side by side, each call once. Goes on where it was stopped: the same call again, or `out` alone.

        `cap` is what all of it may cost (`comity.credits("0.1")`; else `limits.total` of the profile). Where the cap stops it,
        `errors.StoppedError` is raised, with what there is in `.result`. `told(row, progress)` hears of each row.
        """
        grid = None if prompts is None else _many.grid_of(models, prompts, settings, repeats)
        asked = {"folder": os.fspath(out), "grid": grid, "cap": micro(cap), "at_once": at_once}
        return _many.compared(self._run(self._core.compare, asked, told, quiet, _stop))

    def batch(
        self, input, *, out="answers.jsonl", model=None, max_tokens=256, system=None, cap=None, at_once=16, told=None, quiet=False, _stop=None
    ):
        """A file of OpenAI batch lines, or of prompts for `model`, asked once each into `out`; goes on where it was killed."""
        setting = _many.Setting(system=system, max_tokens=max_tokens)
        asked = {"input": os.fspath(input), "output": os.fspath(out), "model": model, "setting": setting}
        asked.update(cap=micro(cap), at_once=at_once)
        return _many.batched(self._run(self._core.batch, asked, told, quiet, _stop))

    def openai(self, **options):
        """A ready `openai.OpenAI`. It talks to a proxy on this wallet, on loopback, under a key of its own, until `close()`."""
        return self._openai("OpenAI", options)

    def async_openai(self, **options):
        """The same as `openai.AsyncOpenAI`."""
        return self._openai("AsyncOpenAI", options)

    def serve(self, listen="127.0.0.1:0", key=None):
        """Starts a proxy on this wallet; gives `Proxy(base_url, api_key)`, a context manager."""
        key = key or secrets.token_urlsafe(24)
        served = Proxy(self._core.proxy(listen, key), key)
        self._served.append(served)
        return served

    def close(self):
        """Ends proxies of this client, sends home what is left of every token, and frees the wallet for other programs."""
        for served in self._served:
            served.stop()
        self._served.clear()
        if self._closed:
            return
        self._closed = True
        try:
            if not self._look:
                # What cannot be ended now is ended by `comity wallet finish`, or by itself when it expires.
                with contextlib.suppress(errors.ComityError):
                    self.wallet.finish()
        finally:
            self._core.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _openai(self, name, options):
        try:
            import openai
        except ImportError as error:
            raise errors.InputError("the package `openai` is not installed", hint="pip install 'comity[openai]'") from error
        self._own = self._own or self.serve()
        return getattr(openai, name)(base_url=self._own.base_url, api_key=self._own.api_key, **options)

    def _act(self, name, **arguments):
        return self._core.act(act(name, **arguments))

    def _ask(self, path, body, key, max_charge, shape=Answer):
        return shape(json.loads(self._act("ask", ask=call(path, body, key=key, max_charge=max_charge))))

    def _run(self, run, asked, told, quiet, stop):
        progress = _many.Progress(told, quiet, stop)
        try:
            return run(json.dumps(asked), progress)
        finally:
            progress.end()


class Stream(Streamed):
    """Pieces of text as they come. With the first it is known who serves it (`served_by`, `tried`); after the last, `receipt`, `model`
    and `cost` are there.
    """

    def __iter__(self):
        return self

    def __next__(self):
        while (made := self._core.next()) is not None:
            if (text := self._take(made)) is not None:
                return text
        raise StopIteration

    def close(self):
        """Lets the node go: what was delivered is charged, and no more."""
        self._core.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Models:
    """The catalogue."""

    def __init__(self, client):
        self._client = client

    def search(self, words="", **facets):
        """Models that fit, with whether you may use them now and what they cost.

        Facets: `org`, `op`, `language`, `task`, `residency`, `context_min`, `params_max`, `price_max`, `release`, `sort` (relevance, price,
        context, newest), `limit`, `offset`.
        """
        return table(self._client._act("search", query={"q": words, **facets}), _shapes.MODELS)

    def show(self, model):
        """The signed manifest: the model's card."""
        return json.loads(self._client._act("show", model=model))


class Receipts:
    """What the wallet has evidence of."""

    def __init__(self, client):
        self._client = client

    def list(self):
        return _shapes.receipts(self._client._act("receipts"))

    def verify(self):
        """Checks every receipt as it followed the one before: `{"verified", "charged_ucr", "failures"}`."""
        return json.loads(self._client._act("verify"))


class Wallet:
    """Tokens, and the limits that you set."""

    def __init__(self, client):
        self._client = client

    def status(self):
        return table(self._client._act("purses"), _shapes.PURSES)

    def limits(self):
        """What is allowed and what is used, in micro-credits; `comity wallet limits` changes it."""
        return json.loads(self._client._act("limits"))

    def finish(self, *tokens):
        """Ends tokens (all, where none is named): what was not spent goes back to the project at once.

        A row says what went home; one that could not be ended says why, and is tried again by the next call.
        """
        return table(self._client._act("finish", tokens=list(tokens)), _shapes.ENDED)


class Proxy:
    """Plain OpenAI on this computer, at `base_url`, for whoever has `api_key`."""

    def __init__(self, core, key):
        self._core, self.base_url, self.api_key = core, core.base_url, key
        self._ends = weakref.finalize(self, core.stop)

    def stop(self):
        self._ends()

    def environment(self):
        """What other programs read: `OPENAI_BASE_URL`, `OPENAI_API_KEY`."""
        return {"OPENAI_BASE_URL": self.base_url, "OPENAI_API_KEY": self.api_key}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


@contextlib.contextmanager
def proxy(home=None, *, listen="127.0.0.1:0", key=None):
    """A proxy on a home folder's wallet, for as long as the block lasts.

        with comity.proxy() as p:
            subprocess.run(["my-tool"], env={**os.environ, **p.environment()})
    """
    with Client(home) as client, client.serve(listen, key) as served:
        yield served
