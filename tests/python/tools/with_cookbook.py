"""docs/start/cookbook.md: every recipe, in an environment that has the wheel, by the PI of a project; and what they left."""

import json
import os
import pathlib
import subprocess
import venv

import institute
from federation import eventually, need

PAGE = "cookbook.md"
OWNERS = ("lab", "works", "school")
QUOTED = (*(f"{owner}/tiny" for owner in OWNERS), institute.LETTERS)
LINES, FEW, AT_ONCE = 150, 5, 80
#: What was killed, and what the institute's own server answered, is in no count of the laboratory's server.
CLOSES_NO_BOOKS = True


def offers(offer, stage):
    letters = dict(institute.offers(institute.Server().url))["letters"]
    return {**{owner: {"tiny": offer(stage.behind.root)} for owner in OWNERS}, institute.NAME: {"letters": letters}}


def play(stage):
    wheel = os.environ.get("COMITY_WHEEL")
    need(wheel, "COMITY_WHEEL names the wheel that was built: cargo xtask test tools")
    federation, house = stage.federation, stage.federation.home("house")
    place = federation.folder / "venv"
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{wheel}[pandas]"]
    subprocess.run(install, check=True)
    lead = json.loads(federation.run("--home", stage.home, "whoami", "--json"))
    project = lead["projects"][0]["project"]
    federation.run("clearing", "project", "member", "--home", house, project, "--add", lead["key"], "--role", "pi")

    reader = stage.reader("proxied", start_proxy=stage.start_proxy)
    reader.python = python
    reader.play(PAGE)
    left = lambda name: [json.loads(line) for line in (reader.folder / name).read_text().splitlines()]
    many = left("many.out.jsonl")
    need(len({line["custom_id"] for line in many}) == LINES == len(many), f"{len(many)} lines, each once")
    need(len(left("job.out.jsonl")) == FEW, "the job answered its lines")
    job = json.loads(federation.run("--home", reader.folder / "job", "receipts", "list", "--json"))
    need(len(job) == FEW, f"{len(job)} receipts lie in the job's own folder")
    need(len(json.loads((reader.folder / "vectors.json").read_text())) == 40, "a vector for each text")
    federation.end("proxy")
    verified = json.loads(federation.run("--home", stage.home, "receipts", "verify", "--json"))
    need(verified["verified"] >= LINES + AT_ONCE and not verified["failures"], f"{verified}")
    of_job = json.loads(federation.run("--home", reader.folder / "job", "receipts", "verify", "--json"))
    charged = verified["charged_ucr"] + of_job["charged_ucr"]

    def books():
        account = json.loads(federation.run("clearing", "project", "show", "--home", house, project))
        need(account["in_escrow"] == 0, f"{account['in_escrow']} µcr still in escrow")
        return account

    settled = eventually("an empty escrow", books)["settled"]
    need(settled == charged, f"a kill has cost something: {settled} µcr were settled, receipts charge {charged} µcr")
    return {"blocks": reader.played, "receipts": verified["verified"], "settled_ucr": settled}
