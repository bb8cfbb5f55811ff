"""A page of docs/start, played: every fenced block of it, in order, as a reader would.

- `sh` is typed into one shell, `python` into one interpreter, from the first block of a kind to the last; `js` is a module of its own.
- A block whose first line is a comment with nothing but the name of a file (`# capitals.yaml`) is that file.
- `text` is what the block before it prints, the answer or what stands beside it on stderr. `…` stands for anything, also for nothing.
- `comity proxy …` is started with a port of its own, and whatever else the page says on that line. From there on, the page's address
  (`http://127.0.0.1:8899`) means the address that it printed.
- `cargo demo …` is started with whatever else the page says on that line, and `/tmp/comity-demo-…/notebook` means the home that it
  printed.
- `./sdk/python` means the wheel that was built from there, where the reader has one.
- Nothing else is replaced. A block of any other kind is a mistake.
"""

import os
import pathlib
import re
import shlex
import subprocess
import sys
import threading

from federation import Broken, need

PAGES = pathlib.Path(__file__).resolve().parents[3] / "docs" / "start"
ADDRESS = "http://127.0.0.1:8899"
SOURCES = "./sdk/python"
DEMO_HOME = "/tmp/comity-demo-…/notebook"
KINDS = ("sh", "python", "js", "yaml", "text")
FILE = re.compile(r"^(?:#|//) ([\w.-]+\.\w+)\n")
BLOCK_S = 180
PYTHON = """
import sys, traceback
names = {"__name__": "__main__"}
for line in sys.stdin:
    path, ended = line.split()
    status = 0
    try:
        exec(compile(open(path).read(), path, "exec"), names)
    except BaseException:
        traceback.print_exc()
        status = 1
    print(f"\\n{ended} {status}", flush=True)
"""


class Block:
    def __init__(self, kind, text, place):
        self.kind, self.text, self.place = kind, text, place
        named = FILE.match(text)
        self.file = named[1] if named and kind != "sh" else None

    @property
    def is_demo(self):
        return self.kind == "sh" and self.text.startswith("cargo demo")

    @property
    def is_proxy(self):
        return self.kind == "sh" and self.text.startswith("comity proxy")


def blocks(name):
    """The fenced blocks of a page, none left out."""
    found, kind, lines, begun = [], None, [], 0
    for number, line in enumerate((PAGES / name).read_text().splitlines(), 1):
        fence = line.strip()
        if not fence.startswith("```"):
            lines.append(line)
        elif kind is None:
            kind, lines, begun = fence.removeprefix("```"), [], number
        else:
            place = f"{name}:{begun}"
            need(kind in KINDS, f"{place}: a block of kind {kind!r}, which nobody plays")
            found.append(Block(kind, "\n".join(lines) + "\n", place))
            kind = None
    need(kind is None and found, f"{name}: it has blocks, and each ends")
    return found


class Reader:
    """Somebody with a folder who plays a page. `start_proxy` gets the words behind `comity proxy` and gives an address; without it the
    reader asks the server at `address`, and types no command of ours. `start_demo` gets those behind `cargo`, and gives a home."""

    def __init__(self, folder, environment, start_proxy=None, address=None, wheel=None, start_demo=None):
        self.folder, self.start_proxy, self.address, self.wheel = folder, start_proxy, address, wheel
        self.start_demo, self.home = start_demo, None
        self.python = sys.executable
        self.environment = {**os.environ, **environment}
        self.lines, self.said, self.beside, self.played = {}, "", "", 0
        folder.mkdir()

    def play(self, name, also=()):
        """`also`: blocks that a test has beside the page's."""
        try:
            for block in blocks(name):
                self.one(block)
                self.played += 1
            for block in also:
                self.one(block)
        finally:
            for line in self.lines.values():
                line.end()
        need(self.played == (PAGES / name).read_text().count("```") // 2, f"{name}: {self.played} blocks were played")

    def one(self, block):
        if block.kind == "text":
            printed = f"{block.place}: the page says\n{block.text}\nand it printed\n{self.said}\nand beside it\n{self.beside}"
            need(matches(block.text, self.said) or matches(block.text, self.beside), printed)
        elif block.is_demo:
            self.home = self.start_demo(shlex.split(block.text, comments=True)[1:])
        elif block.is_proxy:
            if self.start_proxy:
                _, _, *words = shlex.split(block.text, comments=True)
                self.address = self.start_proxy(words).removesuffix("/v1")
            self.said = self.address + "/v1\n"
        elif block.file:
            (self.folder / block.file).write_text(self.text(block))
        else:
            need(block.kind != "yaml", f"{block.place}: a block of YAML is a file, with its name as a comment before it")
            line = self.line(block.kind)
            before = len(line.log.read_text())
            self.said = line.run(self.text(block), block.place, self.folder)
            self.beside = line.log.read_text()[before:]

    def text(self, block):
        text = block.text.replace(ADDRESS, self.address) if self.address else block.text
        text = text.replace(DEMO_HOME, self.home) if self.home else text
        return text.replace(SOURCES, self.wheel) if self.wheel else text

    def line(self, kind):
        if kind == "js" and kind in self.lines:
            self.lines.pop(kind).end()
        if kind not in self.lines:
            self.lines[kind] = Line(kind, self.folder, self.environment, self.python)
        return self.lines[kind]


class Line:
    """A shell, an interpreter: it is told of blocks by the files they are in, and says when it is through with one."""

    ENDED = "=== the block has ended:"

    def __init__(self, kind, folder, environment, python):
        self.kind, self.count, self.log = kind, 0, folder / f"{kind}.log"
        command = {"sh": ["bash", "--noprofile", "--norc"], "python": [python, "-c", PYTHON], "js": ["bash"]}[kind]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, cwd=folder, env=environment, text=True, bufsize=1, stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, stderr=log)

    def run(self, text, place, folder):
        self.count += 1
        ending = {"sh": "sh", "python": "py", "js": "mjs"}[self.kind]
        path = folder / f"block-{self.count}.{ending}"
        path.write_text(f"set -e\n{text}" if self.kind == "sh" else text)
        mark = f"{self.ENDED}{self.count}".replace(" ", "_")
        if self.kind == "python":
            self.process.stdin.write(f"{path} {mark}\n")
        else:
            how = "." if self.kind == "sh" else "node"
            self.process.stdin.write(f"{how} {path} </dev/null; echo; echo {mark} $?\n")
        return self.heard(mark, place)

    def heard(self, mark, place):
        late = threading.Timer(BLOCK_S, self.process.kill)
        late.start()
        lines = []
        try:
            for line in self.process.stdout:
                if line.startswith(mark):
                    need(line.split()[1] == "0", f"{place}: it failed\n{''.join(lines)}{self.log.read_text()[-4000:]}")
                    return "".join(lines)[:-1]
                lines.append(line)
        finally:
            late.cancel()
        raise Broken(f"{place}: it failed, or took more than {BLOCK_S} s\n{''.join(lines)}{self.log.read_text()[-4000:]}")

    def end(self):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def matches(pattern, text):
    """Blanks at the ends of lines are what no page shows."""
    pattern, text = ("\n".join(line.rstrip() for line in one.strip().splitlines()) for one in (pattern, text))
    parts = (re.escape(part) for part in pattern.split("…"))
    return re.fullmatch(".*".join(parts), text, re.DOTALL) is not None
