"""docs/start/inspect.md, through the proxy and directly: nothing may differ but the door."""

import json
import math

from federation import need

PAGE = "inspect.md"
QUESTIONS = 4


def play(stage):
    proxied, direct = stage.through_the_proxy(), stage.asks_directly()
    for reader in (proxied, direct):
        reader.play(PAGE)
    need(stage.behind.answered == stage.direct.answered == QUESTIONS, f"{stage.behind.answered}, {stage.direct.answered} directly")
    (log, said), (its_log, wanted) = results(proxied.folder), results(direct.folder)
    need(said.keys() == wanted.keys() and len(said) == QUESTIONS, f"{said.keys()} {wanted.keys()}")
    for number, answer in said.items():
        need(answer == wanted[number], f"{number}: {answer}, directly {wanted[number]}")
    need(log["results"]["scores"] == its_log["results"]["scores"], f"{log['results']}, directly {its_log['results']}")
    return {"blocks": proxied.played, "log_probabilities": sum(len(answer[2]) for answer in said.values())}


def results(folder):
    """The log, and of each sample: its answer, how it was judged, the numbers of its tokens, and what it used."""
    [path] = (folder / "logs").glob("*.json")
    log = json.loads(path.read_text())
    need(log["status"] == "success", f"{log['status']}: {log.get('error')}")
    found = {}
    for sample in log["samples"]:
        [choice] = sample["output"]["choices"]
        numbers = choice["logprobs"]["content"]
        need(len(numbers) == len(choice["message"]["content"]) > 0, f"a number for each token: {choice}")
        need(all(len(one["top_logprobs"]) == 2 and math.isfinite(one["logprob"]) for one in numbers), f"{numbers}")
        judged, used = sample["scores"]["match"]["value"], sample["output"]["usage"]
        found[sample["id"]] = choice["message"]["content"], judged, numbers, choice["stop_reason"], used
    return log, found
