"""A federation of real processes, as operators start them, and a proxy in front of it.

As a script, `federation.py COMITY_BINARY COMMAND…` runs a command through each door, with `COMITY_BASE_URL` and `COMITY_DOOR` in its
environment, and compares what it says it got, `{"answered": N}` on its last line, with the receipts in the wallet and the books of
the clearing house. Uses nothing but Python's own library.
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import institute

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
# Of the demo, unless there is one here: its agency has no model that talks.
OFFERS = ROOT / "node" / "src" / "demo"
OWNERS = ("university", "lab", "agency")
#: By what `comity-door` says: how an owner's node is started so that it has this door and no other.
DOORS = {
    "relayed": ("--listen", "none"),
    "https": ("--listen", "127.0.0.1:0", "--quic", "none", "--no-relay"),
    "quic": ("--listen", "none", "--quic", "127.0.0.1:0", "--no-relay"),
}
START_S = 90
EVENTUALLY_S = 180


class Broken(Exception):
    """A promise that did not hold."""


def need(holds, what):
    if not holds:
        raise Broken(what)


class Federation:
    """Processes of the binary in a folder of their own. What was started is ended by its id."""

    def __init__(self, binary, folder):
        self.binary, self.folder, self.running, self.door, self.killed = str(binary), folder, {}, None, False

    def run(self, *arguments):
        done = subprocess.run([self.binary, *map(str, arguments)], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        need(done.returncode == 0, f"`comity {' '.join(map(str, arguments))}` failed:\n{done.stderr}")
        return done.stdout.strip()

    def start(self, name, *arguments):
        """Starts a process and gives the first line it prints."""
        log = open(self.folder / f"{name}.log", "ab")
        process = subprocess.Popen(
            [self.binary, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True
        )
        log.close()
        self.running[name] = process
        lines = []
        reader = threading.Thread(target=lambda: lines.append(process.stdout.readline()), daemon=True)
        reader.start()
        reader.join(START_S)
        if not lines or not lines[0].strip():
            raise Broken(f"{name} did not come up:\n{(self.folder / f'{name}.log').read_text()}")
        threading.Thread(target=process.stdout.read, daemon=True).start()
        return lines[0].strip()

    def end(self, name):
        process = self.running.pop(name)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise Broken(f"{name} did not end within 30 s of being asked") from None

    def kill(self, name):
        """As the machine would: no warning, no last word."""
        process = self.running.pop(name)
        process.kill()
        process.wait()
        self.killed = True

    def receipts(self, home):
        return json.loads(self.run("--home", home, "receipts", "list", "--json"))

    def charged(self, home):
        """The receipts that charge something."""
        return [receipt for receipt in self.receipts(home) if receipt["charge"] > 0]

    def start_proxy(self, home, *arguments, name="proxy"):
        return self.start(name, "--home", home, "proxy", *(arguments or ("--listen", "127.0.0.1:0")))

    def known(self, home, quoted, count):
        """The models have to reach the hub before they are found, and the house before they have a price."""
        found = json.loads(self.run("--home", home, "models", "search", "--json"))
        need(len(found) >= count, f"{len(found)} models found")
        for model in quoted:
            self.run("--home", home, "quote", model)

    def open_doors(self, door):
        """Starts the owners' nodes, or starts them again, each with this door and no other."""
        for owner in self.owners:
            if owner in self.running:
                self.end(owner)
        for owner in self.owners:
            self.start(owner, "node", "run", "--home", self.home(owner), *self.dial, *DOORS[door])
        self.door = door

    def came_by(self, headers):
        """What came beside a reply names the door that it came by."""
        need(headers.get("comity-door") == self.door, f"door {self.door} was due: {headers.get('comity-door')}")

    def close_books(self, home, project, answered):
        """Ends the proxy, and gives what was charged: by as many receipts as were answered, each verified, all settled."""
        # The wallet has one user at a time. Ending the proxy sends what was not spent home.
        if "proxy" in self.running:
            self.end("proxy")
        receipts = self.receipts(home)
        charged = self.charged(home)
        need(len(charged) == answered, f"{answered} calls were to be charged, {len(charged)} receipts charge")
        verified = json.loads(self.run("--home", home, "receipts", "verify", "--json"))
        need(verified["verified"] == len(receipts), f"{verified} of {len(receipts)} receipts verify")
        total = verified["charged_ucr"]
        need(total > 0, "nothing was charged")

        def books():
            account = json.loads(self.run("clearing", "project", "show", "--home", self.home("house"), project))
            need(account["in_escrow"] == 0, f"{account['in_escrow']} µcr still in escrow")
            return account

        account = eventually("an empty escrow", books)
        need(account["settled"] == total, f"receipts charge {total} µcr, {account['settled']} µcr were settled")
        need(account["awarded"] == account["settled"] + account["available"], f"the account does not add up: {account}")
        self.run("ledger", "audit", "--home", self.home("house"), "--json")
        return {"answered": answered, "receipts_verified": len(receipts), "charged_ucr": total,
                "settled_ucr": account["settled"]}

    def end_all(self):
        """In order. Where a caller was killed, nodes wait half a minute for what it left, and nothing is learned by waiting too."""
        for name in reversed(list(self.running)) if not self.killed else ():
            self.end(name)

    def kill_all(self):
        for process in self.running.values():
            if process.poll() is None:
                process.kill()
                process.wait()
        self.running.clear()

    def home(self, name):
        return self.folder / name

    def set_up(self, offers, amie=None, cards=(), before_hub=lambda: None):
        """`offers`: of each owner, its models' files by name. `amie`: where the house serves AMIE. `cards`: of others on the roster.
        `before_hub`: called once the roster is there and nobody runs yet."""
        self.owners = owners = tuple(offers)
        for noun, name in [("clearing", "house"), ("hub", "hub"), *(("node", owner) for owner in owners)]:
            self.run(noun, "init", "--home", self.home(name), "--name", name, "--title", name)
        for owner, models in offers.items():
            for name, offer in models.items():
                (self.home(owner) / "models" / f"{name}.toml").write_text(offer)
        members = ("house", "hub", *owners)
        roster = self.home("roster")
        self.run("roster", "init", "--home", roster)
        self.run("roster", "add", "--home", roster, *(self.home(name) / "organisation.json" for name in members), *cards)
        self.run("roster", "sign", "--home", roster)
        for name in members:
            shutil.copy(roster / "roster.cbor", self.home(name))
        before_hub()
        listen = ("--listen", "127.0.0.1:0")
        hub = json.loads(self.start("hub", "hub", "run", "--home", self.home("hub"), *listen))
        address = next(address for address in hub["libp2p"] if "/tcp/" in address)
        self.dial = ("--hub", f"{address}@{hub['node']}")
        served = ("--amie", amie) if amie else ()
        house = json.loads(self.start("house", "clearing", "run", "--home", self.home("house"), *listen, *self.dial, *served))
        self.house_door = house["door"]
        self.hub = hub["door"]

    def project(self, name="researcher", credits=10):
        """A researcher's profile, and a registered project, with an award where there are credits."""
        home, house = self.home(name), self.home("house")
        said = self.run("--home", home, "init", "--roster", self.home("roster") / "roster.cbor", "--entry", self.hub)
        key = next(word for word in said.split() if word.startswith("did:key:"))
        add = ("clearing", "project", "add", "--home", house, "--title", "Python", "--purpose", "research", "--member", key)
        project = self.run(*add)
        self.run("clearing", "project", "vet", "--home", house, project, "registered")
        if credits:
            award = ("--credits", credits, "--funder", "F", "--award", "1")
            self.run("clearing", "project", "award", "--home", house, project, *award)
        profile = home / "profile.toml"
        profile.write_text(f'project = "{project}"\n' + profile.read_text())
        return home, project


def eventually(what, ask, also=()):
    until, seen = time.monotonic() + EVENTUALLY_S, None
    while time.monotonic() < until:
        try:
            return ask()
        except (Broken, OSError, *also) as error:
            seen = error
        time.sleep(0.3)
    raise Broken(f"{what}, within {EVENTUALLY_S} s: {seen}")


def demo_offers():
    """Those of the demo's three owners, and of the institute."""
    def offer(owner):
        here = HERE / f"{owner}.toml"
        return (here if here.exists() else OFFERS / f"{owner}.toml").read_text()

    offers = {owner: {"model": offer(owner)} for owner in OWNERS}
    return {**offers, institute.NAME: dict(institute.offers(institute.Server().url))}


#: What of the demo's models has a price.
DEMO_QUOTED = ("lab/tiny-b", "agency/tiny-c", institute.LETTERS, institute.SELDOM, institute.SCORED)


def with_federation(binary, play, offers=demo_offers, quoted=DEMO_QUOTED, doors=tuple(DOORS)):
    """Runs `play(federation, home, project)` through each door, with a wallet and a project for each, in a federation that ends
    with it; prints the logs where it fails."""
    # Nothing of the environment may bend a package or the proxy.
    kept = ("COMITY_NODE_MODULES", "COMITY_OPENCODE", "COMITY_WHEEL")
    for name in [name for name in os.environ if name not in kept and name.startswith(("OPENAI_", "COMITY_"))]:
        del os.environ[name]
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="comity-clients-") as folder:
        folder = pathlib.Path(folder)
        federation = Federation(pathlib.Path(binary).resolve(), folder)
        try:
            offered = offers()
            federation.set_up(offered)
            count = sum(len(models) for models in offered.values())
            for door in doors:
                began = time.monotonic()
                federation.open_doors(door)
                home, project = federation.project(f"researcher-{door}")
                eventually("every model at hub and house", lambda: federation.known(home, quoted, count))
                said = play(federation, home, project)
                print(json.dumps({"door": door, "seconds": round(time.monotonic() - began, 1), **said}), flush=True)
            federation.end_all()
            return 0
        except Broken as error:
            print(f"error: {error}", file=sys.stderr)
            show_logs(folder)
            return 1
        except BaseException:
            show_logs(folder)
            raise
        finally:
            federation.kill_all()


def show_logs(folder):
    for log in sorted(folder.glob("*.log")):
        print(f"--- {log.name}\n{log.read_text()[-3000:]}", file=sys.stderr)


def run_command(federation, home, project, command):
    base_url = federation.start_proxy(home)
    environment = {**os.environ, "COMITY_BASE_URL": base_url, "COMITY_DOOR": federation.door}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
    need(done.returncode == 0, f"{command[0]} ended with {done.returncode}")
    said = json.loads(done.stdout.strip().splitlines()[-1])
    return {**said, **federation.close_books(home, project, said["answered"])}


def main():
    if len(sys.argv) < 3:
        print(__doc__, file=sys.stderr)
        return 2
    command = sys.argv[2:]
    return with_federation(sys.argv[1], lambda *world: run_command(*world, command))


if __name__ == "__main__":
    sys.exit(main())
