"""The unmodified `openai` package through `comity proxy`: run.py COMITY_BINARY

Starts a federation of real processes with the commands that operators use, then the proxy, and talks to it as any
OpenAI program would. Each call that was answered must have left a receipt, each receipt must verify, and what the
receipts charge must be what the clearing house has paid. Prints counts; exits non-zero on the first broken promise.
"""

import asyncio
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import openai

ROOT = pathlib.Path(__file__).resolve().parents[2]
OFFERS = ROOT / "node" / "src" / "demo"
OWNERS = ("university", "lab", "agency")
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
START_S = 90
EVENTUALLY_S = 180


class Broken(Exception):
    """A promise that did not hold."""


def need(holds, what):
    if not holds:
        raise Broken(what)


class Federation:
    """Processes of the binary in a folder of their own. What was started is ended by its id."""

    def __init__(self, binary, folder):
        self.binary, self.folder, self.running, self.ready = str(binary), folder, {}, {}

    def run(self, *arguments):
        done = subprocess.run([self.binary, *map(str, arguments)], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        need(done.returncode == 0, f"`comity {' '.join(map(str, arguments))}` failed:\n{done.stderr}")
        return done.stdout.strip()

    def start(self, name, *arguments):
        """Starts a process and gives the first line it prints."""
        log = open(self.folder / f"{name}.log", "ab")
        process = subprocess.Popen(
            [self.binary, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True
        )
        log.close()
        self.running[name] = process
        lines = []
        reader = threading.Thread(target=lambda: lines.append(process.stdout.readline()), daemon=True)
        reader.start()
        reader.join(START_S)
        if not lines or not lines[0].strip():
            raise Broken(f"{name} did not come up:\n{(self.folder / f'{name}.log').read_text()}")
        threading.Thread(target=process.stdout.read, daemon=True).start()
        return lines[0].strip()

    def end(self, name):
        process = self.running.pop(name)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise Broken(f"{name} did not end within 30 s of being asked") from None

    def kill_all(self):
        for process in self.running.values():
            if process.poll() is None:
                process.kill()
                process.wait()
        self.running.clear()

    def home(self, name):
        return self.folder / name

    def set_up(self):
        for noun, name in [("clearing", "house"), ("hub", "hub"), *(("node", owner) for owner in OWNERS)]:
            self.run(noun, "init", "--home", self.home(name), "--name", name, "--title", name)
        for owner in OWNERS:
            shutil.copy(OFFERS / f"{owner}.toml", self.home(owner) / "models" / "model.toml")
        members = ("house", "hub", *OWNERS)
        roster = self.home("roster")
        self.run("roster", "init", "--home", roster)
        self.run("roster", "add", "--home", roster, *(self.home(name) / "organisation.json" for name in members))
        self.run("roster", "sign", "--home", roster)
        for name in members:
            shutil.copy(roster / "roster.cbor", self.home(name))
        listen = ("--listen", "127.0.0.1:0")
        hub = json.loads(self.start("hub", "hub", "run", "--home", self.home("hub"), *listen))
        address = next(address for address in hub["libp2p"] if "/tcp/" in address)
        dial = ("--hub", f"{address}@{hub['node']}")
        self.start("house", "clearing", "run", "--home", self.home("house"), *listen, *dial)
        for owner in OWNERS:
            self.start(owner, "node", "run", "--home", self.home(owner), *listen, *dial)
        return hub["door"]

    def project(self, entry):
        """A researcher's profile, and a registered project with an award."""
        home, house = self.home("researcher"), self.home("house")
        said = self.run("--home", home, "init", "--roster", self.home("roster") / "roster.cbor", "--entry", entry)
        key = next(word for word in said.split() if word.startswith("did:key:"))
        add = ("clearing", "project", "add", "--home", house, "--title", "Python", "--purpose", "research", "--member", key)
        project = self.run(*add)
        self.run("clearing", "project", "vet", "--home", house, project, "registered")
        award = ("--credits", 10, "--funder", "F", "--award", "1")
        self.run("clearing", "project", "award", "--home", house, project, *award)
        profile = home / "profile.toml"
        profile.write_text(f'project = "{project}"\n' + profile.read_text())
        return home, project


def eventually(what, ask):
    until, seen = time.monotonic() + EVENTUALLY_S, None
    while time.monotonic() < until:
        try:
            return ask()
        except (Broken, openai.APIError) as error:
            seen = error
        time.sleep(0.3)
    raise Broken(f"{what}, within {EVENTUALLY_S} s: {seen}")


def refused(kind, status, code, call):
    try:
        call()
    except kind as error:
        need(error.status_code == status, f"{status} was due: {error!r}")
        need(code is None or error.code == code, f"code {code} was due: {error.code!r} in {error!r}")
    except openai.APIError as error:
        raise Broken(f"{kind.__name__} was due: {error!r}") from error
    else:
        raise Broken(f"{kind.__name__} was due, it was answered")


def synchronous(client):
    """Gives how many calls were answered."""
    listed = {model.id for model in client.models.list().data}
    need({"university/tiny", "lab/tiny-b", "agency/tiny-c"} <= listed, f"models list: {listed}")
    need(client.models.retrieve("lab/tiny-b").id == "lab/tiny-b", "models retrieve")
    answered = 0
    for model in ("university/tiny", "lab/tiny-b"):
        chat = client.chat.completions.create(model=model, messages=QUESTION, max_tokens=24, temperature=0)
        need(chat.choices[0].message.content.strip(), f"{model}: an empty answer")
        need(chat.choices[0].finish_reason in ("stop", "length"), f"{model}: {chat.choices[0].finish_reason}")
        need(chat.usage.completion_tokens > 0 and chat.usage.prompt_tokens > 0, f"{model}: {chat.usage}")
        answered += 1

        pieces, reason, usage = [], None, None
        options = {"include_usage": True}
        stream = client.chat.completions.create(
            model=model, messages=QUESTION, max_tokens=24, temperature=0, stream=True, stream_options=options
        )
        for chunk in stream:
            usage = chunk.usage or usage
            for choice in chunk.choices:
                pieces.append(choice.delta.content or "")
                reason = choice.finish_reason or reason
        need("".join(pieces) == chat.choices[0].message.content, f"{model}: the stream says {''.join(pieces)!r}")
        need(reason == chat.choices[0].finish_reason, f"{model}: the stream ends with {reason}")
        need(usage is not None and usage.completion_tokens == chat.usage.completion_tokens, f"{model}: stream usage {usage}")
        answered += 1

        text = client.completions.create(model=model, prompt="The capital of France is", max_tokens=8, temperature=0)
        need(text.choices[0].text and text.object == "text_completion", f"{model}: {text}")
        answered += 1

        # No limit: the wallet chooses what the call may cost.
        client.chat.completions.create(model=model, messages=QUESTION)
        answered += 1

    ask = client.chat.completions.create
    refused(openai.NotFoundError, 404, "model_not_found", lambda: ask(model="lab/none", messages=QUESTION))
    refused(openai.PermissionDeniedError, 403, "vetting_too_low", lambda: ask(model="agency/tiny-c", messages=QUESTION))
    refused(openai.PermissionDeniedError, 403, "vetting_too_low", lambda: ask(model="agency/tiny-c", messages=QUESTION, stream=True))
    refused(openai.BadRequestError, 400, None, lambda: ask(model="no-organisation", messages=QUESTION))
    return answered


async def asynchronous(base_url):
    """Eight calls at once, half of them streams; gives how many were answered."""
    async with openai.AsyncOpenAI(base_url=base_url, api_key="unused", max_retries=0) as client:

        async def one(number):
            messages = [{"role": "user", "content": f"What is {number} plus 2?"}]
            if number % 2:
                stream = await client.chat.completions.create(
                    model="lab/tiny-b", messages=messages, max_tokens=8, stream=True
                )
                chunks = [chunk async for chunk in stream]
                need(chunks, "a stream without a chunk")
            else:
                chat = await client.chat.completions.create(model="lab/tiny-b", messages=messages, max_tokens=8)
                need(chat.choices, "an answer without a choice")
            return 1

        return sum(await asyncio.gather(*(one(number) for number in range(8))))


def play(binary, folder):
    federation = Federation(binary, folder)
    try:
        entry = federation.set_up()
        home, project = federation.project(entry)

        def known():
            """The models have to reach the hub before they are found, and the house before they have a price."""
            found = json.loads(federation.run("--home", home, "models", "search", "--json"))
            need(len(found) >= len(OWNERS), f"{len(found)} models found")
            for model in ("lab/tiny-b", "agency/tiny-c"):
                federation.run("--home", home, "quote", model)

        eventually("every model at hub and house", known)
        base_url = federation.start("proxy", "--home", home, "proxy", "--listen", "127.0.0.1:0")
        client = openai.OpenAI(base_url=base_url, api_key="unused", max_retries=0, timeout=60)
        eventually("a first answer", lambda: client.models.retrieve("lab/tiny-b"))
        answered = synchronous(client) + asyncio.run(asynchronous(base_url))
        client.close()
        # The wallet has one user at a time. Ending the proxy sends what was not spent home.
        federation.end("proxy")

        receipts = json.loads(federation.run("--home", home, "receipts", "list", "--json"))
        need(len(receipts) == answered, f"{answered} calls were answered, {len(receipts)} receipts are in the wallet")
        verified = json.loads(federation.run("--home", home, "receipts", "verify", "--json"))
        need(verified["verified"] == answered, f"{verified} of {answered} receipts verify")
        charged = verified["charged_ucr"]
        need(charged > 0, "nothing was charged")

        def books():
            account = json.loads(federation.run("clearing", "project", "show", "--home", federation.home("house"), project))
            need(account["in_escrow"] == 0, f"{account['in_escrow']} µcr still in escrow")
            return account

        account = eventually("an empty escrow", books)
        need(account["settled"] == charged, f"receipts charge {charged} µcr, {account['settled']} µcr were settled")
        need(account["awarded"] == account["settled"] + account["available"], f"the account does not add up: {account}")
        federation.run("ledger", "audit", "--home", federation.home("house"), "--json")
        for name in reversed(list(federation.running)):
            federation.end(name)
        return {"openai": openai.__version__, "answered": answered, "receipts_verified": answered, "charged_ucr": charged,
                "settled_ucr": account["settled"], "refused": 4}
    except BaseException:
        for log in sorted(folder.glob("*.log")):
            print(f"--- {log.name}\n{log.read_text()[-3000:]}", file=sys.stderr)
        raise
    finally:
        federation.kill_all()


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    binary = pathlib.Path(sys.argv[1]).resolve()
    # Nothing of the environment may bend the package or the proxy.
    for name in [name for name in os.environ if name.startswith(("OPENAI_", "COMITY_")) or name.lower().endswith("_proxy")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="comity-openai-") as folder:
        try:
            print(json.dumps(play(binary, pathlib.Path(folder))))
        except (Broken, openai.APIError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
