"""docs/start/python.md: the wheel is installed into an environment of its own, as the page says, and plays the rest of it there.

In the same environment what the page does not show (`beside.py`), the protocol's vectors (`vectors.py`), and the
tutorial notebook; at last, what a stream says where an owner is gone (`tried.py`).
"""

import os
import pathlib
import subprocess

from federation import need
from page import PAGES

HERE = pathlib.Path(__file__).resolve().parent
PAGE = "python.md"
OWNERS = ("lab", "works", "school")
QUOTED = tuple(f"{owner}/tiny" for owner in OWNERS)


def offers(offer, stage):
    return {owner: {"tiny": offer(stage.behind.root)} for owner in OWNERS}


def play(stage):
    wheel = os.environ.get("COMITY_WHEEL")
    need(wheel, "COMITY_WHEEL names the wheel that was built: cargo xtask test tools")
    reader = stage.reader("proxied", wheel=wheel)
    reader.python = reader.folder / ".venv" / "bin" / "python"
    reader.play(PAGE)
    beside(stage, reader, HERE / "beside.py")
    beside(stage, reader, HERE / "vectors.py", HERE.parents[2] / "spec" / "vectors")
    tutorial(stage, reader)
    gone(stage, reader)
    return {"blocks": reader.played, "wheel_bytes": pathlib.Path(wheel).stat().st_size}


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
