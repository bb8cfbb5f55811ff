"""The demonstration model behind a real llama.cpp and behind the engine: llama_server.py COMITY_BINARY [--table]

`comity model export` writes it as GGUF, the server of the package `llama-cpp-python` serves it, and a node stands before that as
docs/start/servers.md says. Another node has the engine. The unmodified `openai` package asks both the same, through one proxy:
greedy answers must be the same text, log-probabilities nearly the same numbers, and the books must add up. Prints one figure,
and how many answers and tokens it rests on.
"""

import contextlib
import io
import json
import math
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from importlib.metadata import version

import openai

from federation import Broken, eventually, need, with_federation

NAME = "comity-tiny"
ENGINE, SERVER = "lab/tiny", "workshop/tiny"
#: Nats. llama.cpp multiplies in f16 and keeps keys and values in f16, the engine computes in f32 throughout; 0.03 was seen. With its
#: rows or its template wrong, or a penalty that nobody asked for, other text comes.
APART_MAX = 0.05
TOP = 5
#: A server that loads a megabyte and a half.
START_S = 120

CHATS = (
    "What is the capital of France?",
    "On which continent is Peru?",
    "What is the opposite of hot?",
    "What is 3 + 4?",
    "What is 7 + 8 mod 10?",
    "Which is larger, 34 or 71?",
    "Repeat: kvtuq",
    "Continue: x y z x y",
    "k=4, t=9. What is t?",
    "Positive or negative? The soup was awful.",
    "Who are you?",
    # More bytes than letters, blanks that a tokenizer of words would join, and lines that the template has to fold.
    "Wie heißt die Hauptstadt von Perú? 東京 🦀",
    "  Repeat:\t a  b \r\n c\n",
)
TEXTS = ("The capital of France is", "Q: What is 2 + 2?\nA:", "One,  two,\tthree\n\n", "Zürich ▁ 東京")
SYSTEM = "Answer in one word."


class Server:
    """`llama_cpp.server` on a port of loopback that was free a moment ago."""

    def __init__(self, folder, model):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.log = folder / "llama.log"
        command = [sys.executable, "-m", "llama_cpp.server", "--model", model, "--model_alias", NAME, "--n_ctx", "1024",
                   "--host", "127.0.0.1", "--port", str(self.port)]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self.until_ready()
        except BaseException:
            self.end()
            raise

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    def until_ready(self):
        until = time.monotonic() + START_S
        while True:
            need(self.process.poll() is None and time.monotonic() < until, f"no llama.cpp:\n{self.log.read_text()[-3000:]}")
            try:
                with urllib.request.urlopen(f"{self.url}/models", timeout=5) as reply:
                    need(NAME in reply.read().decode(), "it serves the model under its name")
                    return
            except OSError:
                time.sleep(0.2)

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def offer(binary, upstream):
    """What `comity model example` prints, for a toy: log-probabilities allowed and priced, and the example's names replaced."""
    said = subprocess.run(
        [binary, "model", "example", "--dialect", "llama_cpp_python", "--upstream", "http://127.0.0.1:9/v1", "--model", NAME],
        capture_output=True, text=True, check=True,
    ).stdout
    text = re.sub(r'(?m)^name = "[^"]*"', 'name = "tiny"', said, count=1)
    text = re.sub(r"(?m)^context_length = \d+", "context_length = 1024", text)
    text = re.sub(r"(?m)^output_tokens_max = 2048", "output_tokens_max = 64", text)
    text = text.replace("logprobs_max = 0", f"logprobs_max = {TOP}").replace("choices_max = 4", "choices_max = 1")
    # A token of this model is a byte; what the example's own window allows would be used up here.
    text = re.sub(r"(?ms)^windows = \[.*?^\]$", "", text, count=1)
    text = re.sub(r"(?m)^slots = 64 .*$", "slots = 1", text)
    rule = f'[[policy.rules]]\nop = "logprobs"\ntier = "t1"\ninput_bytes_max = 65_536\noutput_tokens_max = 64\nchoices_max = 1\nlogprobs_max = {TOP}\n\n'
    text = text.replace("[tariff]\n", f'{rule}[tariff]\n')
    text += '\n[[tariff.prices]]\nop = "logprobs"\nminimum = 0\n'
    if upstream is None:
        text = re.sub(r'(?m)^upstream = .*$', f'upstream = "engine:{NAME}"', text, count=1)
        text = re.sub(r'(?m)^(upstream_model|dialect) = .*$', "", text)
        return re.sub(r"(?ms)^\[release\].*?(?=^\[data_policy\])", "", text)
    return text.replace("http://127.0.0.1:9/v1", upstream)


def asked(client, model, chat=None, text=None):
    """Text, how it ended, and of each token its name, its number, and the numbers of the likeliest."""
    if chat is not None:
        reply = client.chat.completions.create(
            model=model, messages=[{"role": "system", "content": SYSTEM}, {"role": "user", "content": chat}],
            max_tokens=40, temperature=0, logprobs=True, top_logprobs=TOP,
        )
        choice = reply.choices[0]
        rows = [(row.token, row.logprob, {top.token: top.logprob for top in row.top_logprobs}) for row in choice.logprobs.content]
        return choice.message.content, choice.finish_reason, rows
    reply = client.completions.create(model=model, prompt=text, max_tokens=24, temperature=0, logprobs=TOP)
    choice, said = reply.choices[0], reply.choices[0].logprobs
    return choice.text, choice.finish_reason, list(zip(said.tokens, said.token_logprobs, said.top_logprobs))


def apart(question, own, other):
    """The largest difference of any number that both have."""
    need(own[:2] == other[:2], f"{question!r}: the engine says {own[:2]}, llama.cpp {other[:2]}")
    need(len(own[2]) == len(other[2]) > 0, f"{question!r}: {len(own[2])} and {len(other[2])} tokens")
    worst = 0.0
    for (token, number, tops), (named, its, its_tops) in zip(own[2], other[2]):
        # A byte that is no letter by itself has a name of each server's own.
        need(token == named or token.startswith("<0x"), f"{question!r}: {token!r} and {named!r}")
        need(all(math.isfinite(value) for value in (number, its)), f"{question!r}: {number}, {its}")
        both = [(number, its), *((tops[name], its_tops[name]) for name in tops.keys() & its_tops.keys() if name)]
        need(len(both) >= 3, f"{question!r}: hardly any alternative in common: {tops}, {its_tops}")
        worst = max(worst, *(abs(a - b) for a, b in both))
    need(worst <= APART_MAX, f"{question!r}: log-probabilities are {worst} nats apart, {APART_MAX} are allowed")
    return worst


def play(federation, home, project):
    base_url = federation.start_proxy(home)
    client = openai.OpenAI(base_url=base_url, api_key="unused", max_retries=0, timeout=120)
    for model in (ENGINE, SERVER):
        eventually(f"{model} is served", lambda: client.models.retrieve(model), also=(openai.APIError,))
    questions = [("chat", chat) for chat in CHATS] + [("text", text) for text in TEXTS]
    worst, tokens = 0.0, 0
    for kind, question in questions:
        try:
            own, other = (asked(client, model, **{kind: question}) for model in (ENGINE, SERVER))
        except openai.APIError as error:
            raise Broken(f"{question!r}: {error!r}") from error
        by = apart(question, own, other)
        worst, tokens = max(worst, by), tokens + len(own[2])
        print(f"    {question!r}: {own[0]!r}, {by:.5f} nats", file=sys.stderr)
    client.close()
    books = federation.close_books(home, project, 2 * len(questions))
    note = f"llama-cpp-python {version('llama-cpp-python')}; {len(questions)} greedy answers the same; at most {APART_MAX}; {books}"
    return {"metric": "interop_llama_cpp_nats_apart", "value": round(worst, 6), "unit": "nat", "yardstick": None,
            "yardstick_value": None, "ratio": None, "n": tokens, "note": note}


def main():
    if len(sys.argv) not in (2, 3) or sys.argv[2:] not in ([], ["--table"]):
        print(__doc__, file=sys.stderr)
        return 2
    binary = str(pathlib.Path(sys.argv[1]).resolve())
    with tempfile.TemporaryDirectory(prefix="comity-llama-") as folder:
        folder = pathlib.Path(folder)
        model = str(folder / f"{NAME}.gguf")
        subprocess.run([binary, "model", "export", NAME, "--gguf", model], check=True, stdout=subprocess.DEVNULL)
        try:
            server = Server(folder, model)
        except Broken as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        said = io.StringIO()
        try:
            offers = {"lab": {"tiny": offer(binary, None)}, "workshop": {"tiny": offer(binary, server.url)}}
            with contextlib.redirect_stdout(said):
                ended = with_federation(binary, play, lambda: offers, (ENGINE, SERVER), ("https",))
        finally:
            server.end()
    if ended == 0:
        figure = json.loads(said.getvalue())
        for of_the_harness in ("door", "seconds"):
            figure.pop(of_the_harness)
        is_table = len(sys.argv) == 3
        print("{metric}  {value} {unit}  n {n}  {note}".format(**figure) if is_table else json.dumps(figure))
    return ended


if __name__ == "__main__":
    sys.exit(main())
