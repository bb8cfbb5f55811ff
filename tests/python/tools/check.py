"""What plays the pages, looked at by itself: the reader of pages plays all of a page or fails, and the model is a language model."""

import json
import math
import pathlib
import sys
import tempfile
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import page
import server
from federation import Broken, need
from model import END, Model

FENCE = "```"


def fails(call, saying):
    try:
        call()
    except Broken as broken:
        need(saying in str(broken), f"{saying!r} was due: {broken}")
        return
    raise Broken(f"it was to fail: {saying}")


def played(folder, count, *parts):
    """A page of these blocks, played."""
    page.PAGES = folder
    (folder / "page.md").write_text("\n".join(f"{FENCE}{kind}\n{text}\n{FENCE}\n" for kind, text in parts))
    page.Reader(folder / f"at-{count}", {}, address="http://127.0.0.1:1").play("page.md")


def pages(folder):
    played(folder, 1, ("sh", "export A=1"), ("python", "b = 2"), ("sh", "echo $A\necho"), ("text", "1"), ("python", "print(b, 3)"),
           ("text", "2 …"))
    played(folder, 2, ("yaml", "# a.yaml\na: 1"), ("sh", "cat a.yaml"), ("text", "# a.yaml\na: 1"),
           ("sh", f"echo {page.ADDRESS}/v1"), ("text", "http://127.0.0.1:1/v1"))
    played(folder, 3, ("sh", "echo 1\necho told >&2"), ("text", "told"), ("text", "1"), ("sh", "echo 2"), ("text", "2"))
    wrong = [
        ("the page says", ("sh", "echo told >&2"), ("sh", "echo 1"), ("text", "told")),
        ("which nobody plays", ("console", "$ true")),
        ("which nobody plays", ("", "true")),
        ("it failed", ("sh", "false\ntrue")),
        ("it failed", ("sh", "exit 0")),
        ("it failed", ("python", "raise SystemExit(0)")),
        ("the page says", ("sh", "echo 11"), ("text", "1")),
        ("is a file", ("yaml", "a: 1")),
    ]
    for count, (saying, *parts) in enumerate(wrong, 4):
        fails(lambda: played(folder, count, *parts), saying)
    (folder / "page.md").write_text(f"{FENCE}sh\ntrue\n")
    fails(lambda: page.blocks("page.md"), "each ends")
    return 2 + len(wrong) + 1


def sums(model):
    """Numbers of a model: they sum to one, the greedy answer is the likeliest, and none knows what comes behind it."""
    texts = [b"", b"Q: What is the capital of France?\nA:", b"never seen \xff\x00", "Zürich".encode()]
    for text in texts:
        row = model.row(tuple(text))
        need(abs(math.fsum(map(math.exp, row)) - 1) < 1e-12 and max(row) < 0, f"{text}: {math.fsum(map(math.exp, row))}")
    answer, ended = model.goes_on(tuple(texts[1]), 16, [])
    need((bytes(answer), ended) == (b" Paris", "stop"), f"{bytes(answer)} {ended}")
    return len(texts)


def asked(one, path, body):
    request = urllib.request.Request(one.root + path, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as reply:
        return reply.read().decode()


def surface(model):
    """Whole and streamed, as text and as ids, the same numbers; what was said, as part of a prompt, keeps them."""
    one = server.Server(model)
    text = "Zürich: Paris is"
    ids = json.loads(asked(one, "/tokenize", {"prompt": text + server.END_WORD}))["tokens"]
    need(ids == [*text.encode(), END], f"{ids}")
    need(json.loads(asked(one, "/detokenize", {"tokens": ids}))["prompt"] == text + server.END_WORD, "tokens are text again")
    ask = {"model": server.NAME, "prompt": text, "echo": True, "logprobs": 2, "max_tokens": 4}
    whole = json.loads(asked(one, "/v1/completions", ask))["choices"][0]
    by_ids = json.loads(asked(one, "/v1/completions", {**ask, "prompt": [ids[:-1]]}))["choices"][0]
    need(whole == by_ids and whole["text"].startswith(text), f"{whole} {by_ids}")
    lines = asked(one, "/v1/completions", {**ask, "stream": True}).split("\n\n")
    frames = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    for name, values in whole["logprobs"].items():
        need(sum((frame["choices"][0]["logprobs"][name] for frame in frames), []) == values, f"{name}: {frames}")
    need("".join(frame["choices"][0]["text"] for frame in frames) == whole["text"], f"{frames}")
    again = json.loads(asked(one, "/v1/completions", {**ask, "prompt": whole["text"], "max_tokens": 0}))["choices"][0]
    need(again["logprobs"]["token_logprobs"] == whole["logprobs"]["token_logprobs"], f"{again} {whole}")
    one.end()
    return one.answered


def main():
    model = Model()
    with tempfile.TemporaryDirectory(prefix="comity-pages-") as folder:
        said = {"pages": pages(pathlib.Path(folder)), "sums": sums(model), "calls": surface(model)}
    print(json.dumps(said))
    return 0


if __name__ == "__main__":
    sys.exit(main())
