"""docs/start/langchain.md: what its blocks print stands on the page."""

from federation import need

PAGE = "langchain.md"
#: One question, a stream, three at once, log-probabilities, a price. What was refused reached nobody.
CALLS = 7


def play(stage):
    reader = stage.through_the_proxy()
    reader.play(PAGE)
    need(stage.behind.answered == CALLS, f"{stage.behind.answered} calls reached the model")
    return {"blocks": reader.played}
