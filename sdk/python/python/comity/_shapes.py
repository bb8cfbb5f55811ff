"""What goes into the extension module and what comes out of it: shared by the client that waits and the one that is awaited."""

import json

from ._amount import Amount, micro
from ._show import Table

CHAT = "/v1/chat/completions"


def messages_of(prompt, system=None):
    """A string is a question; a list is messages already."""
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    return [{"role": "system", "content": system}, *messages] if system else messages


def call(path, body, *, key=None, max_charge=None):
    body = {name: value for name, value in body.items() if value is not None}
    return {"path": path, "body": body, "key": key, "max_charge": micro(max_charge)}


def chat_body(model, prompt, system, fields):
    return {"model": model, "messages": messages_of(prompt, system), **fields}


def act(name, **arguments):
    return json.dumps({"do": name, **arguments})


def _price(row):
    hint = row["price"]
    if not hint:
        return "see its card"
    parts = [Amount(hint[f"{part}_ucr_per_million"]) for part in ("input", "output")]
    request = Amount(hint.get("request_ucr", 0))
    if not any([*parts, request]):
        return "free"
    each = f"{parts[0]} + {parts[1]} per 10⁶ tokens" if any(parts) else ""
    return ", ".join(part for part in (each, f"{request} a request" if request else "") if part)


def _usable(row):
    if row["usable"]:
        return "yes" if row["op"] == "chat" else f"yes: {row['op']}"
    return f"no: {row['missing']['message']}"


MODELS = {
    "model": lambda row: row["model"],
    "owner": lambda row: row.get("owner_title") or row["owner"],
    "price": _price,
    "prompts kept": lambda row: f"{row['retention_days']} days" if row["retention_days"] else "no",
    "usable now": _usable,
}

ESTIMATES = {
    "model": lambda row: row["model"],
    "calls": lambda row: row["calls"],
    "likely": lambda row: Amount(row["likely_ucr"]),
    "range": lambda row: f"{Amount(row['low_ucr'])} to {Amount(row['high_ucr'])}",
    "one call at most": lambda row: Amount(row["call_max_ucr"]),
}

PURSES = {
    "token": lambda row: row["token"],
    "budget": lambda row: Amount(row["budget"]),
    "spent": lambda row: Amount(row["spent"]),
    "open": lambda row: "asked for" if row["pending"] else "stopped" if row.get("stopped") else "yes" if row["open"] else "no",
    "expires": lambda row: row["expires_at"],
}

ENDED = {
    "token": lambda row: row["token"],
    "went home": lambda row: Amount(row["refunded_ucr"]),
    "challenged": lambda row: "; ".join(row["above"]),
    "not ended": lambda row: row["error"]["message"] if row["error"] else "",
}

RECEIPTS = {
    "at": lambda row: row["object"]["at"],
    "model": lambda row: row["object"]["model"],
    "charge": lambda row: Amount(row["object"]["charge"]),
    "receipt": lambda row: row["id"],
}


def table(text, columns):
    return Table(json.loads(text), columns)


def receipts(text):
    return table(text, RECEIPTS)


class Quote(dict):
    """A price that the clearing house pins for a while. `expires_at` in seconds since 1970."""

    def __repr__(self):
        scope = ", ".join(f"{row['model']} ({', '.join(row['ops'])})" for row in self["scope"])
        return f"Quote({scope}, until {self['expires_at']})"


