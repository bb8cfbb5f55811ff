"""docs/start/agent.md: opencode as it comes from its package changes a file, and is stopped by a day's limit.

Behind the node stands a script instead of a model: it answers with the calls of tools that a coding agent waits for. Whether a model
would find the mistake is not asked; everything between the two is real.
"""

import json
import os
import pathlib
import re
import subprocess
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import server
from federation import need
from page import PAGES

PAGE = "agent.md"
ASK = ("opencode", "run", "--model", "comity/lab/tiny", "Correct the spelling in greet.py.")
WRONG, RIGHT = "helo", "hello"
DONE = "The greeting is spelled correctly now."
#: A title, without tools; the file is read; it is edited; it is said.
CALLS = 4
#: What the proxy says of a day's limit: the page has it too, and the agent says it.
STOPPED = "is spent or under way: wait for tomorrow (UTC), or raise limits.day in the profile"
#: What a stopped agent asks: a title, and what it was told to do. Neither comes again.
REFUSED_MAX = 2
#: What a model's server is told beside the body of a call.
HEADERS = {"accept", "content-type", "content-length", "host", "user-agent"}
#: A user's own, in the agent's file.
OWN = {"share": "disabled", "model": "comity/lab/tiny"}
OTHER = {"npm": "@ai-sdk/openai-compatible", "name": "Other", "models": {}}
#: Nothing is looked up or downloaded: the test says so, a user need not.
ALONE = {"OPENCODE_DISABLE_MODELS_FETCH": "1", "OPENCODE_DISABLE_AUTOUPDATE": "1", "npm_config_offline": "true",
         "NPM_CONFIG_REGISTRY": "http://127.0.0.1:9"}
#: What an agent sends is longer than a question.
LONGER = {"context_length = 4096": "context_length = 131_072", "output_tokens_max = 512": "output_tokens_max = 4096",
          "input_bytes_max = 65_536": "input_bytes_max = 1_048_576"}


class Scripted(server.Handler):
    """A chat with an agent that was asked as `ASK` says."""

    def chat(self, body):
        one = self.server.of
        one.answered += 1
        one.asked.append(body)
        one.headers.append({name.lower(): value for name, value in self.headers.items()})
        prompt = "".join(server.plain(message.get("content") or "") for message in body["messages"])
        name, said = answer(body, prompt)
        counts = {"prompt_tokens": len(prompt.encode()) // 4, "completion_tokens": len(said.encode()) // 4 + 1}
        counts["total_tokens"] = sum(counts.values())
        deltas = [{"role": "assistant", "content": ""}, *pieces(name, said, f"call-{one.answered}")]
        head = {"id": f"chatcmpl-{one.answered}", "object": "chat.completion.chunk", "created": 1, "model": server.NAME}
        frames = [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
        ended = {"index": 0, "delta": {}, "finish_reason": "tool_calls" if name else "stop"}
        return [*frames, {**head, "choices": [ended]}, {**head, "choices": [], "usage": counts}]


def answer(body, prompt):
    """The name of a tool or none, and its arguments or a text."""
    if not (body.get("stream") and body["stream_options"]["include_usage"]):
        raise server.Wrong("a stream with its usage was due")
    tools = {tool["function"]["name"]: tool["function"]["parameters"]["properties"] for tool in body.get("tools") or []}
    if not tools:
        return None, "A greeting's spelling"
    results = [message["content"] for message in body["messages"] if message["role"] == "tool"]
    path = re.search("Working directory: (.+)", prompt)[1] + "/greet.py"
    script = [("read", {"filePath": path}), ("edit", {"filePath": path, "oldString": WRONG, "newString": RIGHT})]
    if len(results) == len(script):
        return None, DONE
    name, arguments = script[len(results)]
    if not arguments.keys() <= tools[name].keys():
        raise server.Wrong(f"{name} takes {', '.join(tools[name])}")
    return name, json.dumps(arguments)


def pieces(name, said, call):
    """In two, as they come from a model: of a call its name first."""
    half = len(said) // 2
    if name is None:
        return [{"content": said[:half]}, {"content": said[half:]}]
    named = {"index": 0, "id": call, "type": "function", "function": {"name": name, "arguments": said[:half]}}
    return [{"tool_calls": [named]}, {"tool_calls": [{"index": 0, "function": {"arguments": said[half:]}}]}]


def offers(offer, stage):
    stage.behind.end()
    stage.behind = server.Server(handler=Scripted)
    stage.behind.headers = []
    text = offer(stage.behind.root)
    for short, long in LONGER.items():
        need(short in text, f"the offer says {short}")
        text = text.replace(short, long)
    return {"lab": {"tiny": text}}


def play(stage):
    found = os.environ.get("COMITY_OPENCODE")
    need(found, "COMITY_OPENCODE names the folder that has the program `opencode`: cargo xtask test tools")
    # Probes of the node's start are no calls of an agent.
    stage.behind.headers.clear()
    folder = stage.federation.folder
    # Where the machine says otherwise, the agent's files would be somebody's own.
    places = {f"XDG_{kind}_HOME": str(folder / kind.lower()) for kind in ("CONFIG", "DATA", "CACHE", "STATE")}
    stage.environment |= {**ALONE, **places, "PATH": os.pathsep.join([found, stage.environment["PATH"]])}
    reader = stage.through_the_proxy()
    reader.play(PAGE)
    need(stage.behind.answered == CALLS, f"{stage.behind.answered} calls reached the model")
    what_the_owner_sees(stage)
    seconds = stopped(stage, folder / "config" / "opencode" / "opencode.json", reader.folder / "again")
    need(stage.behind.answered == CALLS, f"{stage.behind.answered - CALLS} calls reached the model after the limit was reached")
    return {"blocks": reader.played, "stopped_after_s": seconds}


def what_the_owner_sees(stage):
    """What the agent read of the files, as the page warns; of keys and of who asks, nothing."""
    read = [message["content"] for body in stage.behind.asked for message in body["messages"] if message["role"] == "tool"]
    need(any(WRONG in one for one in read), f"the file's text comes to the model: {read}")
    for headers in stage.behind.headers:
        need(headers.keys() <= HEADERS, f"headers of somebody else came through: {headers.keys() - HEADERS}")
    whole = json.dumps([stage.behind.headers, stage.behind.asked])
    for secret in ((pathlib.Path(stage.home) / "member.key").read_text().strip(), "proj-", "did:key:", "mem-"):
        need(secret not in whole, f"{secret[:8]}… came through")


def stopped(stage, file, folder):
    """What was spent is made the day's limit: the agent says so, and ends. How long that took."""
    run = lambda *words: stage.federation.run("--home", stage.home, *words)
    stage.federation.end("proxy")
    spent = json.loads(run("wallet", "limits", "--json"))["today_ucr"]
    run("wallet", "limits", "--day", spent)
    relay = Relay(stage.start_proxy([]).removesuffix("/v1"))
    configured_again(run, file, relay.root + "/v1")
    folder.mkdir()
    (folder / "greet.py").write_text(WRONG)
    began = time.monotonic()
    # By PWD it knows where it is, whatever the system says.
    environment = {**os.environ, **stage.environment, "PWD": str(folder)}
    done = subprocess.run(ASK, cwd=folder, env=environment, text=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=120)
    need(done.returncode == 1 and STOPPED in done.stderr, f"it ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    need(STOPPED in (PAGES / PAGE).read_text(), f"{PAGE} says: {STOPPED}")
    need(set(relay.said) == {402} and len(relay.said) <= REFUSED_MAX, f"a refused call does not come again: {relay.said}")
    relay.end()
    return round(time.monotonic() - began, 1)


def configured_again(run, file, base_url):
    """What a user has in the agent's file stays there."""
    before = json.loads(file.read_text())
    before["provider"]["other"] = OTHER
    file.write_text(json.dumps({**before, **OWN}))
    run("agent", "configure", "opencode", "--models", "lab/tiny", "--base-url", base_url, "--file", file)
    after = json.loads(file.read_text())
    need(after["provider"]["comity"]["options"].pop("baseURL") == base_url, f"{file.read_text()}")
    before["provider"]["comity"]["options"].pop("baseURL")
    need(after == {**before, **OWN}, f"{after}, before {before}")


class Relay:
    """Between an agent and a proxy, to count what comes by."""

    def __init__(self, target):
        self.target, self.said = target, []
        self.listener = ThreadingHTTPServer(("127.0.0.1", 0), Relayed)
        self.listener.daemon_threads, self.listener.of = True, self
        threading.Thread(target=self.listener.serve_forever, daemon=True).start()

    root, end = server.Server.root, server.Server.end


class Relayed(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        request = urllib.request.Request(self.server.of.target + self.path, body, {"content-type": "application/json"})
        try:
            reply = urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60)
        except urllib.error.HTTPError as error:
            reply = error
        answer = reply.read()
        self.server.of.said.append(reply.status)
        self.send_response(reply.status)
        for name in ("content-type", "x-should-retry"):
            if name in reply.headers:
                self.send_header(name, reply.headers[name])
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
