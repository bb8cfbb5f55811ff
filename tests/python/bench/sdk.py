"""The researcher's side beside its yardsticks:
sdk.py BINARY UPSTREAM [PART…] [--wheel FILE] [--catalogue PROGRAM] [--items N] [--models N] [--rounds N] [--json]

Parts: proxy, batch, search, wheel; without one it is all of them. Runs under a Python that has the package `openai`.

A search is made over a catalogue of its own: PROGRAM, `bench_catalogue`, signs its feeds, and a hub verifies and holds them.

Starts a federation of real processes on loopback. Its one laboratory has a server that answers at once and always the same: UPSTREAM,
`bench_gateway` started as an upstream. The proxy and a batch are held against the same server asked directly, in turns. Everything
shares the machine. Figures go to stdout, all else to stderr.
"""

import argparse
import contextlib
import importlib.metadata
import json
import os
import pathlib
import platform
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import process
from federation import Broken, Federation, need, with_federation
from figure import figure, show

OWNER = "lab"
MODEL = f"{OWNER}/model"
UPSTREAM_MODEL = "scripted"
PARTS = ("proxy", "batch", "search", "wheel")
MODELS_OF_AUTHOR = 1_000
AUTHOR = "author-000"
WORDS = ("clinical", "notes")
#: What a search shows at once.
PAGE = 20
#: Enough for a page of those words.
MODELS_MIN = 8_000
#: Calls of each side in a round of the one caller.
SINGLE = 200
WARM = 50
AT_ONCE = 16
MAX_TOKENS = 16
FEW_ITEMS = 1_000
STARTS = 15
FLUSHES = 100
FLUSHED_BYTES = 900
ROUNDS_MIN = 5


class Upstream:
    """The laboratory's server, in a process of its own, which ends when its stdin does."""

    def __init__(self, program):
        self.process = subprocess.Popen([program, "upstream"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        address = self.process.stdout.readline().strip()
        need(address, f"{program} did not come up")
        self.root = f"http://{address}"

    def end(self):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Bench:
    def __init__(self, arguments, upstream):
        self.rounds, self.items, self.wants, self.upstream = arguments.rounds, arguments.items, arguments.part, upstream
        self.figures = []

    def play(self, federation, home, _project):
        self.federation = federation
        if "proxy" in self.wants:
            self.figures.append(self.one_caller(home))
        if "batch" in self.wants:
            self.figures.extend(self.many_items())
        return {}

    def node_cpu_s(self):
        return process.cpu_s(self.federation.running[OWNER].pid)

    def one_caller(self, home):
        """Each proxied call stands beside a direct one, so what else the machine does falls on both."""
        import openai

        base_url = self.federation.start_proxy(home)
        proxy = self.federation.running["proxy"].pid
        sides = [(openai.OpenAI(base_url=url, api_key="unused", max_retries=0), model)
                 for url, model in ((base_url, MODEL), (f"{self.upstream.root}/v1", UPSTREAM_MODEL))]
        for _ in range(WARM):
            for client, model in sides:
                timed(client, model)
        proxied, direct, added = [], [], []
        before = process.cpu_s(proxy), self.node_cpu_s()
        for round in range(1, self.rounds + 1):
            pairs = [[timed(client, model) for client, model in sides] for _ in range(SINGLE)]
            through, straight = (statistics.median(ms) for ms in zip(*pairs))
            say(f"proxy, round {round} of {self.rounds}: p50 {through:.3f} ms, straight {straight:.3f} ms")
            proxied.append(through)
            direct.append(straight)
            added.append(through - straight)
        calls = self.rounds * SINGLE
        cpu = [1e6 * (now - then) / calls for now, then in zip((process.cpu_s(proxy), self.node_cpu_s()), before)]
        memory = process.memory_mb(proxy, "VmRSS")
        for client, _ in sides:
            client.close()
        self.federation.end("proxy")
        package = f"openai {importlib.metadata.version('openai')}"
        return figure(
            "proxy_added_p50_ms", statistics.median(added), "ms", calls,
            f"{self.rounds} rounds of {SINGLE}, call by call in turns; through proxy and node p50 {statistics.median(proxied):.3f} "
            f"ms; CPU µs a call: proxy {cpu[0]:.0f}, node {cpu[1]:.0f}; the proxy has {memory:.0f} MB after them; "
            f"to make a line durable here takes {flush_ms(self.federation.folder):.2f} ms; "
            f"load {process.load()}",
            (f"{package}, straight to the upstream, p50", statistics.median(direct)),
        )

    def many_items(self):
        """A wallet of its own for each batch: what was asked before would be read at its start."""
        folder = self.federation.folder
        few, many = (write_items(folder / f"items-{count}.jsonl", count) for count in (min(FEW_ITEMS, self.items), self.items))
        sides = {name: [] for name in ("batch", "openai", "sockets")}
        cpu, node_cpu, resident, resident_few = [], [], [], []
        for round in range(1, self.rounds + 1):
            small = self.batch(few, f"few-{round}")
            resident_few.append(small.rss_mb)

            def ours():
                node = self.node_cpu_s()
                ran = self.batch(many, f"many-{round}")
                cpu.append(1e6 * ran.cpu_s / self.items)
                node_cpu.append(1e6 * (self.node_cpu_s() - node) / self.items)
                resident.append(ran.rss_mb)
                return self.items / ran.seconds

            turns = {"batch": ours, **{kind: lambda kind=kind: self.asyncio(kind, many) for kind in ("openai", "sockets")}}
            # None is always the one that comes after another.
            names, first = list(turns), (round - 1) % len(turns)
            for name in names[first:] + names[:first]:
                sides[name].append(turns[name]())
            said = ", ".join(f"{name} {sides[name][-1]:.0f}/s" for name in sides)
            say(f"batch, round {round} of {self.rounds}: {said}; {resident_few[-1]:.0f} and {resident[-1]:.0f} MB")
        rate, package, sockets = (statistics.median(sides[name]) for name in ("batch", "openai", "sockets"))
        cpu, node_cpu = statistics.median(cpu), statistics.median(node_cpu)
        version = f"openai {importlib.metadata.version('openai')}"
        return [
            figure(
                "batch_items_vs_asyncio", rate, "1/s", self.rounds * self.items,
                f"{self.rounds} rounds of {self.items:,} items, {AT_ONCE} at once, start and end of `comity batch run` in its time, "
                f"of the others only the asking; HTTP by hand over asyncio's sockets: {sockets:.0f}/s, ratio {rate / sockets:.3f}; "
                f"CPU µs an item: batch {cpu:.0f}, node {node_cpu:.0f}; load {process.load()}",
                (f"{version} AsyncOpenAI, Python {platform.python_version()}, straight to the upstream", package),
            ),
            figure(
                "batch_rss_mb", statistics.median(resident), "MB", self.rounds,
                f"the highest of `comity batch run`, {self.items:,} items with a new wallet, MB of 10^6 bytes",
                (f"the same with {min(FEW_ITEMS, self.items):,} items", statistics.median(resident_few)),
            ),
        ]

    def batch(self, source, name):
        home, _ = self.federation.project(name)
        out = source.with_name(f"{name}.jsonl")
        command = [self.federation.binary, "--home", home, "batch", "run", source, "--model", MODEL, "--max-tokens", MAX_TOKENS,
                   "--at-once", AT_ONCE, "--out", out, "--json"]
        ran = process.run(command)
        said = json.loads(ran.out)
        need(said["answered"] == said["total"] == lines_of(source) == lines_of(out), f"not all were answered: {said}")
        self.federation.run("--home", home, "wallet", "finish")
        return ran

    def asyncio(self, kind, source):
        out = source.with_name(f"{kind}.jsonl")
        asked = (kind, f"{self.upstream.root}/v1", UPSTREAM_MODEL, AT_ONCE, MAX_TOKENS, source, out)
        seconds = json.loads(process.run([sys.executable, HERE / "asker.py", *asked]).out)["seconds"]
        need(lines_of(out) == lines_of(source), "not all were answered")
        return lines_of(source) / seconds


class Catalogue:
    """A hub with many models, a house, and a researcher with a project, whose `usable now` the house is asked for."""

    def __init__(self, binary, program, models):
        self.binary, self.program, self.models = binary, program, models
        self.authors = -(-models // MODELS_OF_AUTHOR)

    def figures(self):
        with tempfile.TemporaryDirectory(prefix="comity-catalogue-") as folder:
            federation = Federation(self.binary, pathlib.Path(folder))
            try:
                figures = self.measure(federation, pathlib.Path(folder))
                federation.end_all()
                return figures
            finally:
                federation.kill_all()

    def measure(self, federation, folder):
        cards = folder / "cards"
        cards.mkdir()
        process.run([self.program, "cards", cards, self.authors])

        def lay():
            # The hub makes its own store.
            federation.start("hub", "hub", "run", "--home", federation.home("hub"), "--listen", "127.0.0.1:0")
            federation.end("hub")
            store, roster = federation.home("hub") / "network.sqlite", federation.home("roster") / "roster.cbor"
            signed = process.run([self.program, "feeds", store, roster, self.authors, self.models])
            say(f"{self.models:,} models of {self.authors} authors are signed, in {signed.seconds:.0f} s; the hub verifies them")
            self.began = time.perf_counter()

        federation.set_up({}, cards=sorted(cards.iterdir()), before_hub=lay)
        say(f"hub and house run after {time.perf_counter() - self.began:.0f} s")
        home, _ = federation.project()
        comity = [federation.binary, "--home", home]
        words = [*comity, "models", "search", *WORDS, "--op", "chat", "--sort", "price"]
        held = self.held(federation)
        need(held == self.models, f"the hub holds {held} of {self.models} models")
        found = json.loads(process.run([*words, "--json"]).out)
        need(len(found) == PAGE and all(hit["usable"] for hit in found), f"{len(found)} were found, or not all are usable")
        need(prices(found) == sorted(prices(found)), "they are not sorted by price")
        more = json.loads(process.run([*words, "--page", "2", "--json"]).out)
        names = {hit["model"] for hit in (*found, *more)}
        # Gone past the end of a small catalogue the second page may be short, and never the first again.
        need(len(names) == len(found) + len(more), "the second page has models of the first")
        shown = f"{AUTHOR}/{self.kept(federation)}"
        need(shown in process.run([*comity, "models", "show", shown]).out, f"{shown} is not shown")
        commands = (words, [*words, "--page", "2"], [*comity, "models", "search", "--sort", "price"],
                    [*comity, "models", "show", shown], [federation.binary, "--version"])
        search, page, every, show, start = in_turns(*commands)
        of = f"{self.models:,} models of {self.authors} authors, from the shell to its prompt; "
        hub = federation.running["hub"].pid
        said = (("models_search_shell_ms", search, f"`{' '.join(WORDS)} --op chat --sort price`; "
                 f"the hub has {process.memory_mb(hub, 'VmRSS'):.0f} MB; "),
                ("models_search_page_ms", page, "the same with `--page 2`; "),
                ("models_search_all_ms", every, "`--sort price`, which all of them fit; "),
                ("models_show_shell_ms", show, "one of them; "))
        yardstick = ("`comity --version`", start)
        return [figure(name, ms, "ms", STARTS, f"{of}{note}load {process.load()}", yardstick) for name, ms, note in said]

    def held(self, federation):
        """By the hub's own word: what of the catalogue it verified."""
        return self.ask(federation, "q=&limit=1")["total"]

    def kept(self, federation):
        """The name of a model whose manifest the hub has: the author is not there to be asked."""
        hits = self.ask(federation, f"org={AUTHOR}&q=0000&limit=1")["hits"]
        need(hits, f"{AUTHOR} has no first model")
        return hits[0]["model"].partition("/")[2]

    def ask(self, federation, query):
        # A door is known by its key, which this question can do without.
        unknown = ssl._create_unverified_context()
        url = f"{federation.hub}/comity/v1/search?{query}"
        with urllib.request.urlopen(url, timeout=60, context=unknown) as reply:
            return json.load(reply)


def prices(found):
    return [sum(hit["price"].values()) for hit in found]


def timed(client, model):
    began = time.perf_counter()
    reply = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "What is the capital of France?"}], max_tokens=MAX_TOKENS
    )
    ms = 1e3 * (time.perf_counter() - began)
    need(reply.choices[0].message.content == "Paris.", f"{reply}")
    return ms


def flush_ms(folder):
    """p50 of a line that is appended and flushed: what the wallet does once a call, and the node once."""
    times = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(FLUSHES):
            began = time.perf_counter()
            os.write(file.fileno(), b"x" * FLUSHED_BYTES)
            os.fdatasync(file.fileno())
            times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times)


def write_items(path, count):
    lines = (json.dumps({"id": f"item-{number}", "prompt": f"What is {number} plus 3?"}) for number in range(count))
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def lines_of(path):
    with open(path, "rb") as file:
        return sum(1 for _ in file)


def in_turns(*commands):
    """ms of each, the median of its starts; the first starts, which bring files in from the disk, do not count."""
    times = [[1e3 * process.run(command).seconds for command in commands] for _ in range(STARTS + 1)]
    return [statistics.median(ms) for ms in zip(*times[1:])]


def wheel_figures(wheel):
    with tempfile.TemporaryDirectory(prefix="comity-wheel-") as folder:
        python = pathlib.Path(folder) / "bin" / "python"
        process.run([sys.executable, "-m", "venv", folder])
        process.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", wheel])
        imported, nothing = in_turns([python, "-c", "import comity"], [python, "-c", "pass"])
    return [
        figure("wheel_mb", wheel.stat().st_size / 1e6, "MB", 1, f"{wheel.name}, MB of 10^6 bytes"),
        figure("import_ms", imported - nothing, "ms", STARTS,
               f"`import comity` {imported:.1f} ms, less `pass`, in turns, only the wheel installed; load {process.load()}",
               (f"Python {platform.python_version()} doing nothing", nothing)),
    ]


def say(text):
    print(text, file=sys.stderr, flush=True)


def read_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=pathlib.Path)
    parser.add_argument("upstream", type=pathlib.Path)
    parser.add_argument("part", nargs="*", help=", ".join(PARTS))
    parser.add_argument("--wheel", type=pathlib.Path)
    parser.add_argument("--catalogue", type=pathlib.Path)
    parser.add_argument("--models", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=ROUNDS_MIN)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_intermixed_args()
    arguments.part = arguments.part or list(PARTS)
    unknown = [part for part in arguments.part if part not in PARTS]
    if unknown or arguments.items < 1 or arguments.rounds < 1:
        parser.error(f"no part is called {unknown[0]}" if unknown else "at least one item, and one round")
    if "wheel" in arguments.part and not arguments.wheel:
        parser.error("the part `wheel` needs --wheel FILE")
    if "search" in arguments.part and not (arguments.catalogue and arguments.models >= MODELS_MIN):
        parser.error(f"the part `search` needs --catalogue PROGRAM, and at least {MODELS_MIN} models")
    return arguments


def main():
    arguments = read_arguments()
    figures = []
    # Ended from outside it ends what it started, as by Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # Its own words are for a test's log.
    with contextlib.redirect_stdout(sys.stderr):
        if set(arguments.part) & {"proxy", "batch"}:
            upstream = Upstream(arguments.upstream)
            try:
                bench = Bench(arguments, upstream)
                offer = (HERE / "offer.toml").read_text().replace("UPSTREAM", upstream.root)
                failed = with_federation(arguments.binary, bench.play, lambda: {OWNER: {"model": offer}}, (MODEL,), ("https",))
            finally:
                upstream.end()
            if failed:
                return failed
            figures += bench.figures
        if "search" in arguments.part:
            figures += Catalogue(arguments.binary.resolve(), arguments.catalogue.resolve(), arguments.models).figures()
        if "wheel" in arguments.part:
            figures += wheel_figures(arguments.wheel)
    show(figures, arguments.json)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Broken as broken:
        say(f"error: {broken}")
        sys.exit(1)
