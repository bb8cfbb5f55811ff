"""docs/start/quickstart.md: somebody who has nothing but a checkout comes to three models side by side. The federation is the demo's own.

What building takes is no part of it: the wheel is there, and the program. The rest has to fit into the five minutes that the page's
title promises, with much to spare.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time

from federation import Broken, need
from page import Reader

PAGE = "quickstart.md"
MODELS = {"university/tiny", "lab/tiny-b", "lab/tiny-c"}
QUESTIONS = 4
#: Without what is built; five minutes are promised with it.
SECONDS_MAX = 120
EXPORT = "export COMITY_HOME="


class Demo:
    """`comity demo …` as a process that stays."""

    def __init__(self, binary):
        self.binary, self.process, self.lines, self.home = binary, None, [], threading.Event()

    def start(self, words):
        self.process = subprocess.Popen(
            [self.binary, *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        threading.Thread(target=self.hear, daemon=True).start()
        need(self.home.wait(180), "the demo did not say where its researcher's home is:\n" + "".join(self.lines))
        exported = next(line for line in self.lines if EXPORT in line)
        return exported.split(EXPORT, 1)[1].strip()

    def hear(self):
        for line in self.process.stderr:
            self.lines.append(line)
            if EXPORT in line:
                self.home.set()

    def end(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(60)
            need(self.process.returncode == 0, f"Ctrl-C ends the demo well: {self.process.returncode}")


def play_alone(binary):
    wheel = os.environ.get("COMITY_WHEEL")
    need(wheel, "COMITY_WHEEL names the wheel that was built: cargo xtask test tools")
    demo = Demo(binary)
    with tempfile.TemporaryDirectory(prefix="comity-quickstart-") as folder:
        folder = pathlib.Path(folder)
        # Nothing of ours, and no home: a new user.
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("COMITY_", "XDG_", "OPENAI_"))}
        for name in set(os.environ) - set(kept):
            del os.environ[name]
        try:
            begun = time.monotonic()
            reader = Reader(folder / "checkout", {"HOME": str(folder)}, wheel=wheel, start_demo=demo.start)
            reader.play(PAGE)
            took = time.monotonic() - begun
            rows = [json.loads(line) for line in (reader.folder / "capitals" / "results.jsonl").read_text().splitlines()]
            need({row["model"] for row in rows} == MODELS, f"three models stand in the table: {rows}")
            need(len(rows) == QUESTIONS * len(MODELS) and all(row["answer"] for row in rows), f"each answered each question: {rows}")
            need("<table" in (reader.folder / "capitals" / "report.html").read_text(), "a report with the table")
            need(took < SECONDS_MAX, f"{took:.0f} s for what is no building")
            demo.end()
        except Broken as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        finally:
            if demo.process and demo.process.poll() is None:
                demo.process.kill()
                demo.process.wait()
    print(json.dumps({"tool": "quickstart", "blocks": reader.played, "seconds": round(took, 1)}))
    return 0
