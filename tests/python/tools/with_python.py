"""docs/start/python.md: the wheel is installed into an environment of its own, as the page says, and plays the rest of it there.

In the same environment docs/start/fingerprint.md; what neither page shows (`beside.py`), the protocol's vectors (`vectors.py`), and the
tutorial notebook; at last, what a stream says where an owner is gone (`tried.py`).
"""

import os
import pathlib
import re
import subprocess

from federation import need
from page import PAGES

HERE = pathlib.Path(__file__).resolve().parent
PAGE = "python.md"
FINGERPRINT = "fingerprint.md"
OWNERS = ("lab", "works", "school")
QUOTED = tuple(f"{owner}/tiny" for owner in OWNERS)


def offers(offer, stage):
    """The laboratory has a price for what can wait."""
    made = {owner: offer(stage.behind.root) for owner in OWNERS}
    return {owner: {"tiny": waits(made[owner]) if owner == "lab" else made[owner]} for owner in OWNERS}


def waits(offer):
    """With a rule and a price of op `batch`: the chat's rule, half its price for answers."""
    rule, price = (re.search(start + r'\nop = "chat".*?\n\n', offer, re.S)[0] for start in (r"\[\[policy.rules\]\]", r"\[\[tariff.prices\]\]"))
    batch = lambda text: text.replace('"chat"', '"batch"').replace("ucr_per_million = 2_000_000", "ucr_per_million = 1_000_000")
    return offer.replace(rule, rule + batch(rule), 1).replace(price, price + batch(price), 1)


def play(stage):
    wheel = os.environ.get("COMITY_WHEEL")
    need(wheel, "COMITY_WHEEL names the wheel that was built: cargo xtask test tools")
    reader = stage.reader("proxied", wheel=wheel)
    reader.python = reader.folder / ".venv" / "bin" / "python"
    reader.play(PAGE)
    printed = stage.reader("printed")
    printed.python = reader.python
    printed.play(FINGERPRINT)
    beside(stage, reader, HERE / "beside.py")
    beside(stage, reader, HERE / "vectors.py", HERE.parents[2] / "spec" / "vectors")
    tutorial(stage, reader)
    gone(stage, reader)
    return {"blocks": reader.played + printed.played, "wheel_bytes": pathlib.Path(wheel).stat().st_size}


def gone(stage, reader):
    """The laboratory's node is killed, so that the hub still shows it; what was spent there is settled by then."""
    stage.federation.kill("lab")
    beside(stage, reader, HERE / "tried.py")


def beside(stage, reader, *command):
    environment = {**os.environ, **stage.environment, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [reader.python, *command], cwd=reader.folder, env=environment, text=True, capture_output=True, timeout=300
    )
    need(done.returncode == 0, f"{command[0]} failed:\n{done.stdout}\n{done.stderr}")


def tutorial(stage, reader):
    requirements = HERE.parent / "notebook.txt"
    beside(stage, reader, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements)
    beside(stage, reader, HERE / "notebook.py", PAGES / "tutorial.ipynb", reader.folder)
