"""docs/start/compare.md: prompts, costs, a comparison of three owners' models, a batch, limits and evidence, by the commands."""

import json

from federation import need

PAGE = "compare.md"
OWNERS = ("lab", "works", "school")
QUOTED = tuple(f"{owner}/tiny" for owner in OWNERS)
#: Three prompts to each of three models, and the batch. What goes on asks nothing that has an answer.
CALLS = 12


def offers(offer, stage):
    return {owner: {"tiny": offer(stage.behind.root)} for owner in OWNERS}


def play(stage):
    reader = stage.reader("proxied")
    reader.play(PAGE)
    need(stage.behind.answered == CALLS, f"{stage.behind.answered} calls reached the models")
    rows = [json.loads(line) for line in (reader.folder / "capitals" / "results.jsonl").read_text().splitlines()]
    need(len(rows) == 9 and all(row["answer"] for row in rows), "a row with an answer for each call")
    spent = sum(row["charge_ucr"] for row in rows)
    need(0 < spent <= 10_000, f"{spent} µcr were spent of a cap of 10,000")
    return {"blocks": reader.played, "compared_ucr": spent}
