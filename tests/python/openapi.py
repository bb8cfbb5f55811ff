"""schemathesis against a real clearing house with money in its books: openapi.py COMITY_BINARY [--examples N] [--seed N]

Every route of `/v1/openapi.json` as it is served, each call signed (`openapi_hooks.py`), what is asked for chosen from the document:
what fits it, and what does not. Then a script of an accountant's reads every list to its end, a page at a time. Prints counts; exits
non-zero on the first broken promise.
"""

import argparse
import json
import os
import pathlib
import ssl
import subprocess
import sys
import tempfile
import urllib.request

from federation import Broken, Federation, OFFERS, eventually, need, show_logs
from signing import Key

SEED, EXAMPLES = 2026, 8
#: Not `positive_data_acceptance`: text that fits the schema of a signed object is not one.
#: Not `object_level_authorization`, `use_after_free`, `ensure_resource_availability`: they follow what a route creates and deletes; here
#: nothing is deleted, and what is created is named by its caller.
CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
          "response_schema_conformance", "negative_data_rejection", "missing_required_header", "unsupported_method",
          "allow_header_conformance", "ignored_auth")
LIMIT_S = 900


class House:
    """The house as a script of anybody's sees it. Its certificate is its own: here on loopback nobody stands between."""

    def __init__(self, door):
        self.door = door
        self.tls = ssl.create_default_context()
        self.tls.check_hostname, self.tls.verify_mode = False, ssl.CERT_NONE

    def get(self, path, key=None):
        url = self.door + path
        request = urllib.request.Request(url, headers=key.headers("GET", url) if key else {})
        with urllib.request.urlopen(request, timeout=60, context=self.tls) as reply:
            return json.load(reply), reply.headers

    def pages(self, path, key, limit):
        """Every page, by the `link` that each reply carries."""
        at, pages = f"{path}{'&' if '?' in path else '?'}limit={limit}", []
        while at:
            need(len(pages) < 10_000, f"{path} has no end")
            page, headers = self.get(at, key)
            pages.append(page)
            link = headers.get("link")
            need((link is None) == ("next" not in page), f"{at}: link and next disagree")
            at = link.split(">")[0].lstrip("<") if link else None
        return pages


def spend(federation):
    """A federation with one model, a few calls, and their settlement."""
    federation.set_up({"lab": {"model": (OFFERS / "lab.toml").read_text()}})
    home, project = federation.project()
    federation.open_doors("https")
    found = eventually("a model", lambda: json.loads(federation.run("--home", home, "models", "search", "--json")) or need(False, "none"))
    model = found[0]["model"]
    eventually("a price", lambda: federation.run("--home", home, "quote", model))
    base = federation.start_proxy(home)
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}).encode()

    def ask():
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(f"{base}/chat/completions", data=body, headers=headers)
        return urllib.request.urlopen(request, timeout=60).read()

    for _ in range(3):
        eventually("an answer", ask)
    return home, project, federation.close_books(home, project, len(federation.charged(home)) or 3)


def schemathesis(house, told, examples, seed):
    """Every check on every route. What it says is shown where something is wrong."""
    here = pathlib.Path(__file__).resolve().parent
    # One worker: Python before 3.11.9 counts the depth of `ast.parse` for all threads together (CPython issue 106905), and hypothesis
    # parses in each of them.
    command = [pathlib.Path(sys.executable).with_name("st"), "run", f"{house.door}/v1/openapi.json", "--tls-verify", "false",
               "--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing", "--mode", "all", "--workers", "1",
               "--max-examples", str(examples), "--seed", str(seed), "--request-timeout", "60", "--request-retries", "3", "--continue-on-failure", "--no-color",
               "--generation-database", "none", "--suppress-health-check", "all", "--warnings", "off"]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "openapi_hooks", "PYTHONPATH": str(here), "COMITY_OPENAPI": json.dumps(told),
                   "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, env=environment, cwd=told["folder"], capture_output=True, text=True, timeout=LIMIT_S)
    said = done.stdout + done.stderr
    need(done.returncode == 0, f"schemathesis:\n{said[-20_000:]}")
    return next((line.strip() for line in said.splitlines() if "generated" in line and "passed" in line), "")


def accountant(house, member, transport, project, node):
    """Reads each list whole, and one item at a time, and adds the statements up."""
    lists = {f"/v1/statement?project={project}": ("lines", member), f"/v1/statement?node={node}": ("lines", transport),
             f"/v1/projects/{project}/tokens": ("tokens", member), f"/v1/earnings?node={node}": ("earnings", transport),
             f"/v1/exceptions?project={project}": ("exceptions", member)}
    read = {}
    for path, (items, key) in lists.items():
        whole = [item for page in house.pages(path, key, 1000) for item in page[items]]
        pages = house.pages(path, key, 1)
        need([item for page in pages for item in page[items]] == whole, f"{path} is another in pages")
        if items == "lines":
            need(len(whole) > 0, f"{path} is empty")
            need(all(a["closing"] == b["opening"] for a, b in zip(pages, pages[1:])), f"{path}: a page opens elsewhere")
            balance = sum(-line["amount"] if line["debit"] else line["amount"] for line in whole)
            need(balance == pages[-1]["closing"], f"{path} closes at {pages[-1]['closing']}, and adds up to {balance}")
        read[path.split("?")[0].replace(project, "{id}")] = len(whole)
    status, _ = house.get(f"/v1/projects/{project}", member)
    need(house.pages(f"/v1/statement?project={project}", member, 1000)[-1]["closing"] == status["available"], "statement and status disagree")
    return read


def play(federation, options):
    home, project, closed = spend(federation)
    house = House(federation.house_door)
    node = json.loads(federation.run("clearing", "project", "show", "--home", federation.home("house"), project))["tokens"][0]["node"]
    keys = {"member_key": str(home / "member.key"), "transport_key": str(federation.home("lab") / "keys" / "transport.key")}
    member, transport = (Key(pathlib.Path(path)) for path in keys.values())
    size = house.get("/v1/log")[0]["size"]
    told = {**keys, "project": project, "node": node, "folder": str(federation.folder),
            "log": {"index": 0, "size": size, "from": 1, "to": size}}
    served, _ = house.get("/v1/openapi.json")
    said = schemathesis(house, told, options.examples, options.seed)
    read = accountant(house, member, transport, project, node)
    federation.run("ledger", "audit", "--home", federation.home("house"), "--json")
    return {"routes": sum(len(methods) for methods in served["paths"].values()), "schemathesis": said, "read": read,
            "settled_ucr": closed["settled_ucr"]}


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("binary", type=pathlib.Path)
    arguments.add_argument("--examples", type=int, default=EXAMPLES)
    arguments.add_argument("--seed", type=int, default=SEED)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="comity-openapi-") as folder:
        folder = pathlib.Path(folder)
        federation = Federation(options.binary.resolve(), folder)
        try:
            said = play(federation, options)
            federation.end_all()
            print(json.dumps(said), flush=True)
            return 0
        except Broken as error:
            print(f"error: {error}", file=sys.stderr)
            show_logs(folder)
            return 1
        finally:
            federation.kill_all()


if __name__ == "__main__":
    sys.exit(main())
