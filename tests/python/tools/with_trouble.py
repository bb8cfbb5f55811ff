"""docs/start/trouble.md: every row of its tables is brought about, and what is then read in a shell, in Python and through the proxy is
what the row says: code, class, limit, first words, and what comes next. Nothing of the prompt is in any of it.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import time
import venv

import server
from federation import DOORS, eventually, need
from model import Model
from page import PAGES

HERE = pathlib.Path(__file__).resolve().parent
PAGE = "trouble.md"
CLOSES_NO_BOOKS = True
SHELL, PACKAGE, PROXY = "shell", "package", "proxy"
ALL = (SHELL, PACKAGE, PROXY)
#: What no error may have in it.
SECRET = "heliotrope"
PROMPT = f"What does {SECRET} mean?"
REGISTERED = 'vetting = "registered"'
DAY_S = 86_400
GO_ON = threading.Event()
QUOTED = tuple(f"lab/{name}" for name in ("tiny", "vetted", "purpose", "busy", "broken", "gone")) + ("works/slow", "school/tiny")


class Breaks(server.Handler):
    """Answers everybody that it has failed."""

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.say(500, {"error": {"message": "out of memory", "type": "server_error", "code": 500}})


class Falters(server.Handler):
    """Begins an answer, and says nothing more."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if not body.get("stream"):
            message = {"role": "assistant", "content": "OK"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            return self.say(200, {"id": "s", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage})
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        choice = {"index": 0, "delta": {"content": "Well "}, "finish_reason": None}
        frame = {"id": "s", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}
        self.wfile.write(b"data: " + json.dumps(frame).encode() + b"\n\n")
        self.wfile.flush()
        GO_ON.wait(120)


def offers(offer, stage):
    plain = offer(stage.behind.root)
    away = server.Server(Model())
    away.end()

    def named(name, old="", new=""):
        return plain.replace('name = "tiny"', f'name = "{name}"').replace(old, new) if old else plain.replace('name = "tiny"', f'name = "{name}"')

    lab = {
        "tiny": plain,
        "vetted": named("vetted", REGISTERED, 'vetting = "vetted"'),
        "granted": named("granted", "grant = false", "grant = true"),
        "purpose": named("purpose", REGISTERED, f'{REGISTERED}\npurposes = ["DUO:0000007"]'),
        "busy": named("busy", REGISTERED, f"{REGISTERED}\nwindows = [{{ seconds = {DAY_S}, requests = 1 }}]"),
        "down": named("down", stage.behind.root, away.root),
        "broken": named("broken", stage.behind.root, server.Server(Model(), Breaks).root),
        "gone": named("gone"),
    }
    slow = named("slow", stage.behind.root, server.Server(Model(), Falters).root)
    return {"lab": lab, "works": {"slow": slow}, "school": {"tiny": plain}}


class Row:
    def __init__(self, cells):
        self.what, code, self.says, self.next = cells
        marked = re.findall(r"`([^`]+)`", code)
        self.code, self.limit = marked[0], marked[1] if len(marked) > 1 else None
        self.kind = re.search(r"\w+Error", code)[0]


def rows():
    found = {}
    for line in (PAGES / PAGE).read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")] if line.startswith("| ") else []
        if len(cells) == 4 and cells[0] != "what happened":
            need(cells[0] not in found, f"{cells[0]}: a row of its own")
            found[cells[0]] = Row(cells)
    need(len(found) > 30, f"{len(found)} rows")
    return found


def begins(pattern, text):
    return re.match(".*?".join(re.escape(part) for part in pattern.split("…")), text, re.DOTALL) is not None


class Walk:
    def __init__(self, stage, python):
        self.federation, self.home, self.python = stage.federation, stage.home, python
        self.rows, self.met = rows(), set()
        self.environment = {**os.environ, **stage.environment}

    def meets(self, what, home=None, model="lab/tiny", prompt=PROMPT, tokens=20, by=ALL, environment=(), options=()):
        """A call that is refused as the row says, by each of these ways of asking."""
        row = self.rows.get(what)
        need(row, f"{what}: the page has no such row")
        need(what not in self.met, f"{what}: it was met before")
        home = home or self.home
        environment = {**self.environment, **dict(environment)}
        if SHELL in by:
            command = (self.federation.binary, "--home", home, "chat", model, prompt, "--max-tokens", tokens, *options)
            done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
            need(done.returncode == 1, f"{what}: it was answered: {done.stdout}")
            self.is_told(row, done.stderr)
        if PACKAGE in by or PROXY in by:
            command = (self.python, HERE / "walked.py", home, model, tokens, prompt)
            done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True)
            need(done.returncode == 0, f"{what}: {done.stderr}")
            told = json.loads(done.stdout)
            need(SECRET not in done.stdout + done.stderr, f"{what}: the prompt: {done.stdout}")
            self.is_raised(row, told["package"])
            need(("proxy" in told) == (PROXY in by), f"{what}: whether there is a proxy: {told}")
            if PROXY in by:
                self.is_passed_on(row, told["proxy"])
        self.met.add(what)

    def is_told(self, row, stderr):
        """`error:` and `hint:`, whatever was logged before."""
        need(SECRET not in stderr, f"{row.what}: the prompt: {stderr}")
        told = stderr[stderr.index("error: "):] if "error: " in stderr else ""
        message, _, hint = told.removeprefix("error: ").partition("\nhint: ")
        need(begins(row.says, message.removeprefix(f"{row.code}: ")), f"{row.what}: the page says\n{row.says}\nand a shell\n{stderr}")
        need(whole(row.next, hint), f"{row.what}: the page says\n{row.next}\nand a shell\n{hint}")

    def is_raised(self, row, told):
        need((told.get("code"), told.get("limit")) == (row.code, row.limit), f"{row.what}: {told}")
        need(told["kind"] == row.kind, f"{row.what}: {told['kind']}, the page says {row.kind}")
        need(begins(row.says, told["message"].removeprefix(f"{row.code}: ")), f"{row.what}: the page says\n{row.says}\nand Python\n{told}")
        need(whole(row.next, told["hint"] or ""), f"{row.what}: the page says\n{row.next}\nand Python\n{told}")

    def is_passed_on(self, row, told):
        need(told.get("status", 200) >= 400, f"{row.what}: {told}")
        need((told["code"], told.get("limit")) == (row.code, row.limit), f"{row.what}: {told}")
        need(begins(row.says, told["message"]) and whole(row.next, told.get("hint", "")), f"{row.what}: {told}")

    def answered(self, model="lab/tiny", home=None):
        self.federation.run("--home", home or self.home, "chat", model, PROMPT, "--max-tokens", 20)

    def limits(self, name, amount):
        self.federation.run("--home", self.home, "wallet", "limits", f"--{name}", amount)

    def finish(self):
        self.federation.run("--home", self.home, "wallet", "finish")

    def new(self, name, *options):
        """Somebody with a profile, and their key."""
        federation = self.federation
        roster = federation.home("roster") / "roster.cbor"
        said = federation.run("--home", federation.home(name), "init", "--roster", roster, "--entry", federation.hub, *options)
        return federation.home(name), next(word for word in said.split() if word.startswith("did:key:"))


def whole(pattern, text):
    return re.fullmatch(".*?".join(re.escape(part) for part in pattern.split("…")), text.strip(), re.DOTALL) is not None


def this_computer(walk):
    home = walk.home
    profile, key = home / "profile.toml", home / "member.key"
    written, seed = profile.read_text(), key.read_text()
    here = (SHELL, PACKAGE)
    profile.unlink()
    walk.meets("There is no profile", by=here)
    profile.write_text("colour = 1\n" + written)
    walk.meets("The profile has something wrong in it", by=here)
    profile.write_text(written.replace("project =", "#"))
    walk.meets("The profile names no project")
    profile.write_text(written.replace("member_key =", "#"))
    walk.meets("The profile names no key")
    profile.write_text(written.replace("roster.cbor", "lost.cbor"))
    walk.meets("The roster is gone", by=here)
    profile.write_text(written)
    roster = home / "roster.cbor"
    signed = roster.read_bytes()
    roster.write_text("<html>Not found</html>")
    walk.meets("The roster is something else", by=here)
    refused = subprocess.run(
        [walk.federation.binary, "--home", home / "never", "init", "--roster", roster, "--entry", walk.federation.hub], capture_output=True
    )
    need(refused.returncode == 1 and not (home / "never").exists(), "a profile is made with a roster that stands, or not at all")
    roster.write_bytes(signed)
    key.unlink()
    walk.meets("The key is lost", by=here)
    key.write_text(seed[:40])
    walk.meets("The key's file is broken", by=here)
    key.write_text("11" * 32)
    walk.meets("The house does not know the key")
    key.write_text(seed)
    walk.federation.start_proxy(home, name="another")
    walk.meets("Another program uses the wallet", by=here)
    walk.federation.end("another")
    broken, _ = walk.new("broken")
    (broken / "wallet.journal").write_text("{}\n")
    walk.meets("The wallet's journal is broken", home=broken, by=here)


def the_clock(walk):
    if not sys.platform.startswith("linux"):
        # Elsewhere a process is not given another clock so easily.
        walk.met.update(what for what in walk.rows if "clock" in what)
        return
    shim = walk.federation.folder / "clock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", shim, HERE / "clock.c"], check=True)
    off = lambda seconds: {"LD_PRELOAD": str(shim), "COMITY_TEST_CLOCK_OFF_S": str(seconds)}
    walk.meets("The clock is behind", environment=off(-600))
    walk.meets("The clock is ahead", environment=off(600))
    walk.meets("The clock is weeks ahead", environment=off(30 * DAY_S))
    walk.answered()


def limits_and_calls(walk):
    walk.finish()
    walk.limits("token", "60")
    walk.meets("A token may not hold as much")
    walk.limits("token", "1cr")
    walk.answered()
    walk.limits("day", "60")
    walk.meets("The day's limit is used up")
    walk.limits("day", "none")
    walk.finish()
    walk.limits("total", "60")
    walk.meets("All that the wallet may spend is drawn")
    walk.limits("total", "20cr")
    walk.meets("You said that it may cost less", by=(SHELL,), options=("--max-charge", 1))
    walk.meets("There is no such model", model="lab/none")
    walk.meets("The request is larger than its owner allows", prompt=PROMPT * 3_000)
    walk.meets("Prompt and answer do not fit the model", prompt=PROMPT * 200)


def the_project(walk, project):
    federation, house = walk.federation, walk.federation.home("house")
    broke, _ = federation.project("broke", credits=0)
    walk.meets("The project has no credits", home=broke)
    # The last of an award is spent, too, where tokens are larger than it.
    thin, _ = federation.project("thin", credits=1)
    federation.run("--home", thin, "wallet", "limits", "--token", "2cr")
    walk.answered(home=thin)
    walk.meets("The project's purpose is none of the model's", model="lab/purpose")
    walk.meets("The tier asks for more vetting", model="lab/vetted")

    lead = json.loads(federation.run("--home", walk.home, "whoami", "--json"))["key"]
    federation.run("clearing", "project", "member", "--home", house, project, "--add", lead, "--role", "pi")
    member, key = walk.new("member", "--project", project)
    federation.run("clearing", "project", "member", "--home", house, project, "--add", key, "--role", "member")
    walk.meets("A member has no mandate", home=member)
    mandate = federation.folder / "mandate.cbor"
    federation.run("--home", walk.home, "mandate", "sign", "--member", key, "--cap", 300, "--cap-per-day", 100, "--out", mandate)
    federation.run("--home", member, "mandate", "redeem", mandate)
    walk.meets("The cap of a mandate or a class is reached", home=member)

    walk.answered()
    token = next(one["token"] for one in json.loads(federation.run("--home", walk.home, "wallet", "status", "--json")) if one["open"])
    student, _ = walk.new("student")
    chain, holder = federation.folder / "part.chain", federation.folder / "part.key"
    made = ("delegate", token, "--cap", 100, "--hours", 8, "--out", chain)
    subprocess.run([federation.binary, "--home", walk.home, *map(str, made)], cwd=federation.folder, check=True, capture_output=True)
    federation.run("--home", student, "wallet", "adopt", chain, "--key", holder)
    walk.meets("Of what somebody handed you too little is left", home=student)

    federation.run("clearing", "revoke", "--home", house, "--token", token)
    eventually("the node knows", lambda: revoked(walk))
    walk.met.add("The token was revoked")

    federation.run("clearing", "project", "freeze", "--home", house, project)
    walk.meets("The project is frozen", model="school/tiny")
    federation.run("clearing", "project", "freeze", "--home", house, project, "--resume")


def revoked(walk):
    """Told once: with the next call the wallet draws another."""
    command = [walk.federation.binary, "--home", walk.home, "chat", "lab/tiny", PROMPT, "--max-tokens", "4"]
    done = subprocess.run(list(map(str, command)), env=walk.environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    need(done.returncode == 1, "it is answered still")
    walk.is_told(walk.rows["The token was revoked"], done.stderr)


def the_owner(walk, offer, stage):
    federation, lab = walk.federation, walk.federation.home("lab")
    # Each model takes a token of a credit, and there are ten.
    walk.finish()
    walk.meets("The owner decides project by project", model="lab/granted")
    walk.answered("lab/busy")
    walk.meets("The owner's pace is used up", model="lab/busy")
    walk.meets("The model's server is down", model="lab/down")
    walk.meets("The model's server broke", model="lab/broken")

    (lab / "terms").mkdir(exist_ok=True)
    (lab / "terms" / "research.md").write_text("# Research use\n\nNobody is harmed.\n")
    agreed = offer(stage.behind.root).replace('name = "tiny"', 'name = "terms"')
    (lab / "models" / "terms.toml").write_text(f'{agreed}\n[[policy.terms]]\ntier = "t1"\nfile = "terms/research.md"\n')
    federation.run("model", "publish", "--home", lab)
    eventually("the new model", lambda: federation.run("--home", walk.home, "quote", "lab/terms"))
    walk.meets("The owner asks you to agree to terms", model="lab/terms")

    walk.finish()
    walk.answered("lab/gone")
    (lab / "models" / "gone.toml").unlink()
    federation.run("model", "publish", "--home", lab)
    walk.meets("The owner took the model away", model="lab/gone")
    federation.run("node", "stop", "--home", lab, "--model", "lab/tiny", "--reason", "maintenance", "--by", "Ada")
    time.sleep(1.5)
    walk.meets("The owner stopped the model")
    federation.run("node", "resume", "--home", lab, "--model", "lab/tiny", "--reason", "done", "--by", "Ada")


def what_goes_away(walk):
    federation = walk.federation
    asking = subprocess.Popen(
        [federation.binary, "--home", str(walk.home), "chat", "works/slow", PROMPT, "--max-tokens", "40"],
        env=walk.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    need(asking.stdout.read(4) == "Well", "the answer has begun")
    federation.kill("works")
    GO_ON.set()
    walk.is_told(walk.rows["The node went away in the middle of an answer"], asking.communicate()[1])
    walk.met.add("The node went away in the middle of an answer")
    walk.meets("The node is gone", model="works/slow")

    eventually("after the stop", walk.answered)
    # Where the first entry is gone, the next is asked: for a call, and for a card.
    profile = walk.home / "profile.toml"
    written = profile.read_text()
    profile.write_text(written.replace("entry = [", 'entry = ["https://127.0.0.1:1", '))
    walk.answered()
    federation.run("--home", walk.home, "models", "show", "lab/tiny")
    profile.write_text(written)
    federation.kill("house")
    # What was drawn before is spent all the same.
    walk.answered()
    walk.meets("The clearing house is gone, and there is no token left", model="school/tiny")
    federation.kill("hub")
    walk.meets("The hub is gone")


def play(stage):
    wheel = os.environ.get("COMITY_WHEEL")
    need(wheel, "COMITY_WHEEL names the wheel that was built: cargo xtask test tools")
    place = stage.federation.folder / "venv"
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel], check=True)
    walk = Walk(stage, python)
    project = next(line.split('"')[1] for line in (stage.home / "profile.toml").read_text().splitlines() if line.startswith("project"))
    begun = time.monotonic()
    from play import offer

    this_computer(walk)
    the_clock(walk)
    limits_and_calls(walk)
    the_project(walk, project)
    the_owner(walk, offer, stage)
    what_goes_away(walk)
    need(walk.met == set(walk.rows), f"rows that nobody brought about: {set(walk.rows) - walk.met}")
    # House and hub are dead: the books are others' story.
    stage.federation.kill_all()
    return {"rows": len(walk.met), "walked_s": round(time.monotonic() - begun, 1)}
