"""docs/start/curl.md: what its blocks print stands on the page."""

from federation import need

PAGE = "curl.md"
#: One question, and a stream. What was refused reached nobody.
CALLS = 2


def play(stage):
    reader = stage.through_the_proxy()
    reader.play(PAGE)
    need(stage.behind.answered == CALLS, f"{stage.behind.answered} calls reached the model")
    return {"blocks": reader.played}
