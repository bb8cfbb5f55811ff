"""The lines of docs/operating/notices.md that verify a webhook, on the worked example of spec/12-notices.md: notices.py

Nothing but Python's own library. The same example is what our sender is compared with, byte for byte, in
crates/comity-access/tests/notices/webhook.rs. Prints what was tried; exits non-zero where a line of the page does not do what it says.
"""

import base64
import hmac
import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def block(path, language):
    found = re.search(rf"^```{language}\n(.*?)\n```$", (ROOT / path).read_text(), re.M | re.S)
    assert found, f"{path} has no block of {language}"
    return found[1]


def main():
    page = {"base64": base64, "hmac": hmac}
    exec(block("docs/operating/notices.md", "python"), page)
    verified = page["verified"]
    head, body = block("spec/12-notices.md", "http Example").split("\n\n")
    headers = dict(line.split(": ", 1) for line in head.splitlines()[1:])
    body = body.encode()
    secret = re.search(r"`(whsec_\S+)`", (ROOT / "spec/12-notices.md").read_text())[1]
    now = int(headers["webhook-timestamp"])
    assert json.loads(body)["id"] == headers["webhook-id"], "the id is not the notice's"
    right = headers["webhook-signature"]
    taken = {
        "as it is": (secret, headers, body, now),
        "five minutes later": (secret, headers, body, now + 300),
        "beside another secret's": (secret, headers | {"webhook-signature": f"v1,AAAA {right}"}, body, now),
    }
    refused = {
        "another body": (secret, headers, body + b" ", now),
        "another id": (secret, headers | {"webhook-id": headers["webhook-id"][:-1] + "0"}, body, now),
        "another time": (secret, headers | {"webhook-timestamp": str(now + 1)}, body, now),
        "another secret": ("whsec_" + base64.b64encode(bytes(32)).decode(), headers, body, now),
        "another version": (secret, headers | {"webhook-signature": right.replace("v1,", "v1a,")}, body, now),
        "too late": (secret, headers, body, now + 301),
        "too early": (secret, headers, body, now - 301),
    }
    wrong = [what for what, of in taken.items() if not verified(*of)] + [what for what, of in refused.items() if verified(*of)]
    print(json.dumps({"taken": len(taken), "refused": len(refused), "wrong": wrong}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
