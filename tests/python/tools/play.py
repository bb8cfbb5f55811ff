"""Tools as they come from their packages, through `comity proxy`: play.py COMITY_BINARY TOOL

Runs under the Python that has the tool. Starts a federation of real processes whose laboratory serves the model of `server.py`, plays
the tool's page of docs/start against it, and holds what came against the same model asked directly. Each call that was answered
must have left a receipt, and the books must add up. Prints counts; exits non-zero on the first broken promise.
"""

import os
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import server
from federation import Broken, eventually, with_federation
from model import Model
from page import Reader

OPS = ("chat", "completions", "logprobs", "prompt_logprobs", "tokenize")
TOOLS = ("curl", "compare", "routing", "openai", "quickstart", "trouble", "cookbook", "python", "langchain", "inspect", "lm-eval", "agent")


class Stage:
    """A laboratory's server, the same server for those who ask it directly, and readers of pages for both."""

    def __init__(self, binary):
        model = Model()
        self.binary = pathlib.Path(binary).resolve()
        self.behind, self.direct = server.Server(model), server.Server(model)

    def offers(self):
        return {"lab": {"tiny": offer(self.behind.root)}}

    def set_up(self, federation, home):
        self.federation, self.home = federation, home
        # Probes of the node's start are no calls of a tool.
        self.behind.answered, self.behind.asked = 0, []
        tools = federation.folder / "bin"
        tools.mkdir()
        (tools / "comity").symlink_to(self.binary)
        path = os.pathsep.join([str(tools), str(pathlib.Path(sys.executable).parent), os.environ["PATH"]])
        self.environment = {"PATH": path, "COMITY_HOME": str(home), "HOME": str(federation.folder)}

    def start_proxy(self, words):
        return self.federation.start_proxy(self.home, *words, "--listen", "127.0.0.1:0")

    def reader(self, name, **how):
        return Reader(self.federation.folder / name, self.environment, **how)

    def through_the_proxy(self):
        return self.reader("proxied", start_proxy=self.start_proxy)

    def asks_directly(self):
        return self.reader("direct", address=self.direct.root)


def offer(root):
    """Tokens cost 1 µcr in and 2 out; the tokenizer is free."""
    rules = "".join(
        f'[[policy.rules]]\nop = "{op}"\ntier = "t1"\ninput_bytes_max = 65_536\noutput_tokens_max = 512\nchoices_max = 1\n'
        "logprobs_max = 5\n\n" for op in OPS
    )
    rates = "".join(
        f'  {{ meter = "{meter}", steps = [{{ from = 0, ucr_per_million = {ucr}_000_000 }}] }},\n'
        for meter, ucr in (("input_tokens", 1), ("output_tokens", 2))
    )
    prices = "".join(
        f'[[tariff.prices]]\nop = "{op}"\nminimum = 0\nrates = [\n{rates if op != "tokenize" else ""}]\n\n' for op in OPS
    )
    text = (HERE / "offer.toml").read_text()
    return text.replace("UPSTREAM", root).replace("RULES\n", rules).replace("PRICES\n", prices)


def main():
    if len(sys.argv) != 3 or sys.argv[2] not in TOOLS:
        print(__doc__, f"Tools: {', '.join(TOOLS)}", file=sys.stderr)
        return 2
    stage = Stage(sys.argv[1])
    story = __import__("with_" + sys.argv[2].replace("-", "_"))
    if hasattr(story, "play_alone"):
        return story.play_alone(stage.binary)

    def play(federation, home, project):
        stage.set_up(federation, home)
        said = story.play(stage)
        # Where the house itself is killed, or others answered too, the story looks at the books by itself.
        books = {} if getattr(story, "CLOSES_NO_BOOKS", False) else federation.close_books(home, project, stage.behind.answered)
        return {"tool": sys.argv[2], **said, **books}

    offers = (lambda: story.offers(offer, stage)) if hasattr(story, "offers") else stage.offers
    quoted = getattr(story, "QUOTED", (server.NAME,))
    return with_federation(stage.binary, play, offers, quoted, ("https",))


if __name__ == "__main__":
    sys.exit(main())
