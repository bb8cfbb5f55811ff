"""docs/start/openai.md, in Python and in Node: what its blocks print stands on the page."""

import os
import pathlib

from federation import need

PAGE = "openai.md"
#: In Python one from the environment, one, a stream, one with headers; in Node one and a stream. What was refused reached nobody.
CALLS = 6


def play(stage):
    modules = os.environ.get("COMITY_NODE_MODULES")
    need(modules, "COMITY_NODE_MODULES names the folder that `openai` of Node was installed into: cargo xtask test tools")
    reader = stage.through_the_proxy()
    (reader.folder / "node_modules").symlink_to(pathlib.Path(modules) / "node_modules")
    reader.play(PAGE)
    need(stage.behind.answered == CALLS, f"{stage.behind.answered} calls reached the model")
    return {"blocks": reader.played}
