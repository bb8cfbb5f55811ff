"""docs/start/lm-eval.md, through the proxy and directly, and more kinds of tasks than the page has: nothing may differ but the door."""

import json
import pathlib
import urllib.request

from federation import need
from page import Block
from server import NAME

PAGE = "lm-eval.md"
TASKS = pathlib.Path(__file__).resolve().parent / "tasks"
#: Left to right windows, sums, several prompts in one call, a generation from token ids.
MORE = f"""cp {TASKS}/* .
lm_eval --model local-completions --tasks prose last_word continued --include_path . --output_path more --log_samples --batch_size 3 \\
  --model_args model={NAME},base_url=http://127.0.0.1:8899/v1/completions,tokenizer_backend=remote,max_length=64
"""
#: By task: how many answers it has, and the metric that has to be neither its worst nor its best.
EXPECTED = {"capitals": (4, "acc"), "said": (4, "exact_match"), "prose": (8, "bits_per_byte"), "last_word": (8, "acc"),
            "continued": (8, "exact_match")}


def play(stage):
    proxied, direct = stage.through_the_proxy(), stage.asks_directly()
    for reader in (proxied, direct):
        reader.play(PAGE, also=[Block("sh", MORE, "more tasks")])
    need(stage.behind.answered == stage.direct.answered, f"{stage.behind.answered} calls, {stage.direct.answered} directly")
    said, wanted = results(proxied.folder), results(direct.folder)
    need(said.keys() == wanted.keys() == EXPECTED.keys(), f"{said.keys()} {wanted.keys()}")
    for task, (count, metric) in EXPECTED.items():
        same(task, said[task], wanted[task])
        scores, samples = said[task]
        need(len(samples) == count, f"{task}: {len(samples)} answers")
        need(0 < scores[f"{metric},none"] < {"bits_per_byte": 8}.get(metric, 1), f"{task}: a score that shows nothing: {scores}")
    tokens = token_by_token(stage, proxied.address)
    scores = {task: said[task][0][f"{metric},none"] for task, (_, metric) in EXPECTED.items()}
    return {"blocks": proxied.played, "tokens": tokens, "scores": scores}


def token_by_token(stage, address):
    """The harness keeps sums, in which the last bit of a small number is lost: what it asked is asked again, and each number read."""
    tokens = 0
    for body in list(stage.direct.asked):
        path = "/v1/chat/completions" if "messages" in body else "/v1/completions"
        said, wanted = (answer(root + path, body) for root in (address, stage.direct.root))
        need(said["usage"] == wanted["usage"] and len(said["choices"]) == len(wanted["choices"]), f"{said}, directly {wanted}")
        for choice, other in zip(said["choices"], wanted["choices"]):
            for field in ("index", "message", "text", "logprobs", "finish_reason"):
                one, its = (without_nothing(of.get(field)) for of in (choice, other))
                need(one == its, f"{body}: {field} is {one}, directly {its}")
            tokens += len((choice["logprobs"] or {}).get("token_logprobs", []))
    return tokens


def answer(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as reply:
        return json.loads(reply.read())


def without_nothing(value):
    """A list of no tools is as good as none."""
    return {name: one for name, one in value.items() if one != []} if isinstance(value, dict) else value


def results(folder):
    """By task: its scores, and its answers by their number."""
    found = {}
    for path in sorted(folder.glob("*/*/results_*.json")):
        for task, scores in json.loads(path.read_text())["results"].items():
            [samples] = path.parent.glob(f"samples_{task}_*.jsonl")
            rows = [json.loads(line) for line in samples.read_text().splitlines()]
            found[task] = scores, {row["doc_id"]: row for row in rows}
    return found


def same(task, said, wanted):
    """Equal as numbers: 64 bits are written so that they can be read again."""
    (scores, samples), (its_scores, its_samples) = said, wanted
    need(samples.keys() == its_samples.keys(), f"{task}: answers {samples.keys()}, {its_samples.keys()}")
    for number, row in samples.items():
        other = its_samples[number]
        for field in row.keys() | other.keys():
            need(row.get(field) == other.get(field), f"{task} {number}: {field} is {row.get(field)}, directly {other.get(field)}")
    need(scores == its_scores, f"{task}: {scores}, directly {its_scores}")
