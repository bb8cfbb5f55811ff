"""Two houses as processes, of which one is a resource of the other by AMIE: access.py COMITY_BINARY

The first gives awards as it always does. The second asks it, under a key that stands in a file; its officers approve what is granted,
its operator binds keys, and it is killed without warning again and again. Each packet is answered once, no credits come without two
officers, and the key is in no log. Uses nothing but Python's own library. Prints counts; exits non-zero on the first broken promise.
"""

import json
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import time

from federation import Broken, Federation, eventually, need, show_logs

SITE, RESOURCE = "COMITY", "comity.example.org"
#: Rounds in which the second house is killed.
KILLS = 8


class Central:
    """The first house, and one project of it."""

    def __init__(self, federation):
        self.federation = federation
        federation.set_up({"lab": {}}, amie="127.0.0.1:0")
        log = (federation.folder / "house.log").read_text()
        self.base = re.search(r"amie: (http://\S+)/amie/v0.10/", log).group(1)
        self.path = federation.home("house")
        self.lab = json.loads((federation.home("lab") / "organisation.json").read_text())["organisation"]
        _, self.project = federation.project(credits=0)
        self.key = json.loads(
            self.amie("site", "add", "--name", SITE, "--organisation", self.lab, "--resource", RESOURCE)
        )["key"]

    def amie(self, *words):
        at = next((index for index, word in enumerate(words) if word.startswith("-")), len(words))
        return self.federation.run("clearing", "amie", *words[:at], "--home", self.path, *words[at:])

    def project_do(self, verb, *words):
        extra = ("--funder", "F") if verb == "award" else ()
        return self.federation.run("clearing", "project", verb, "--home", self.path, self.project, *words, *extra)

    def completed(self, flows):
        """All of these, in the order in which they began, and none else."""
        rows = list(reversed(json.loads(self.amie("transactions"))))
        rows.sort(key=lambda row: row["transaction"])
        seen = [(row["flow"], row["state"]) for row in rows]
        need(seen == [(flow, "completed") for flow in flows], f"{seen}, not {flows}")


class Resource:
    """The second house."""

    def __init__(self, federation, central):
        self.federation, self.central = federation, central
        federation.set_up({})
        self.path = federation.home("house")
        federation.end("house")
        self.officers = [federation.folder / name for name in ("ann", "bob")]
        self.configure()

    def configure(self):
        (self.path / "clearing.toml").write_text(
            f'[central]\nname = "access"\nsite = "{SITE}"\nresource = "{RESOURCE}"\nfunder = "NSF ACCESS"\nlisting = "47.070"\n'
            f'amie_url = "{self.central.base}/amie/v0.10/"\nusage_url = "{self.central.base}/amie/usage/api/v1/"\n'
            'key_file = "keys/amie-central.key"\nucr_per_service_unit = 2000000\npurposes = ["research"]\nevery_s = 1\n'
        )
        key = self.path / "keys" / "amie-central.key"
        key.write_text(self.central.key + "\n")
        # What others can read is no secret, and ends the start.
        key.chmod(0o644)
        command = [self.federation.binary, "clearing", "run", "--home", self.path, "--listen", "127.0.0.1:0", *self.federation.dial]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
        need(done.returncode != 0 and "can be read by others" in done.stderr, f"a key for everybody was taken:\n{done.stderr}")
        need(self.central.key not in done.stderr + done.stdout, "a refusal shows the key")
        key.chmod(0o600)

    def start(self):
        self.federation.start(
            "house", "clearing", "run", "--home", self.path, "--listen", "127.0.0.1:0", *self.federation.dial
        )

    def run(self, *words):
        """The words of a command; its options come behind the home."""
        at = next((index for index, word in enumerate(words) if str(word).startswith("-")), len(words))
        return self.federation.run("clearing", *words[:at], "--home", self.path, *words[at:])

    def hire(self):
        for folder in self.officers:
            key = self.federation.run("clearing", "officer", "key", folder)
            self.run("officer", "add", key, "--name", folder.name, "--reason", "hired")

    def packets(self):
        return json.loads(self.run("amie", "central", "list"))

    def waiting(self):
        waiting = [packet for packet in self.packets() if packet["whose_move"].startswith("the officers'")]
        need(len(waiting) == 1, f"{len(waiting)} packets wait for officers")
        return waiting[0]["packet"]

    def approve(self, packet, folder):
        return json.loads(self.run("amie", "central", "approve", packet, "--officer", folder / "keys" / "officer.key"))

    def account(self, project):
        return json.loads(self.run("project", "show", project))


def play(central, resource):
    flows = ["project_create"]
    resource.start()
    resource.hire()
    central.project_do("award", "--award", "A-1", "--credits", "1.5", "--owner", central.lab)
    packet = eventually("the grant at the second house", resource.waiting)
    ann, bob = resource.officers
    need(not resource.approve(packet, ann)["done"], "one officer gave credits")
    resource.federation.kill("house")
    resource.start()
    act = next(one for one in resource.packets() if one["packet"] == packet)
    project = json.loads(act["act_body"])["project"]
    need(resource.account(project)["awarded"] == 0, "credits came before the second officer")
    need(resource.approve(packet, bob)["done"], "two officers are not enough")
    need(resource.account(project)["awarded"] == 3_000_000, resource.account(project))
    eventually("an answer", lambda: central.completed(flows))

    key = resource.federation.run(
        "--home", resource.federation.home("pi"), "init", "--roster", resource.federation.home("roster") / "roster.cbor",
        "--entry", resource.federation.hub,
    )
    key = next(word for word in key.split() if word.startswith("did:key:"))
    [account] = json.loads(resource.run("amie", "central", "accounts"))
    need("member" not in account, "an account that nobody bound has a key")
    bind = ["amie", "central", "bind", account["person"], key, "--reason", "their letter", "--officer"]
    need(not json.loads(resource.run(*bind, ann / "keys" / "officer.key"))["done"], "one officer gave a key the grant")
    need("member" not in json.loads(resource.run("amie", "central", "accounts"))[0], "a key has the grant before the second officer")
    need(json.loads(resource.run(*bind, bob / "keys" / "officer.key"))["done"], "two officers are not enough to bind a key")
    [account] = json.loads(resource.run("amie", "central", "accounts"))
    need(account["member"] == key and account["active"], account)

    chance = random.Random(7)
    for kill in range(KILLS):
        resume = kill % 2 == 1
        central.project_do("freeze", *(["--resume"] if resume else []))
        flows.append("project_reactivate" if resume else "project_inactivate")
        # Somewhere between the ask and the last answer.
        time.sleep(chance.uniform(0, 1.5))
        resource.federation.kill("house")
        resource.start()
        eventually("all of it answered", lambda: central.completed(flows))
    packets = eventually("nobody's move", lambda: settled(resource))
    log = (resource.federation.folder / "house.log").read_text()
    need("a resource of a central site" in log, "the log says nothing of a central site")
    need(central.key not in log, "the log shows the key")
    arguments = pathlib.Path(f"/proc/{resource.federation.running['house'].pid}/cmdline")
    need(not arguments.exists() or central.key.encode() not in arguments.read_bytes(), "the key is an argument")
    resource.federation.run("ledger", "audit", "--home", resource.path, "--json")
    return {"transactions": len(flows), "packets": len(packets), "kills": KILLS + 1}


def settled(resource):
    packets = resource.packets()
    open_ones = [one for one in packets if not one["whose_move"].startswith("nobody's") or not one["done"]]
    need(not open_ones, f"still open: {open_ones}")
    return packets


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    # All that the wire could say, so that a key in a log would be seen.
    os.environ["COMITY_LOG"] = "info,comity=trace,comity_node=trace,comity_clearing=trace,reqwest=trace,hyper=trace,hyper_util=trace"
    with tempfile.TemporaryDirectory(prefix="comity-access-") as folder:
        folder, federations = pathlib.Path(folder), []
        try:
            for name in ("central", "resource"):
                (folder / name).mkdir()
                federations.append(Federation(pathlib.Path(sys.argv[1]).resolve(), folder / name))
            central = Central(federations[0])
            said = play(central, Resource(federations[1], central))
            for federation in federations:
                federation.end_all()
            print(json.dumps(said), flush=True)
            return 0
        except Broken as error:
            print(f"error: {error}", file=sys.stderr)
            for federation in federations:
                show_logs(federation.folder)
            return 1
        finally:
            for federation in federations:
                federation.kill_all()


if __name__ == "__main__":
    sys.exit(main())
