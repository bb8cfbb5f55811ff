"""What the protocol makes of bytes, for whoever checks by themselves: pure functions, offline, beside any wallet.

    from comity import protocol

    roster = protocol.Roster(pathlib.Path("roster.cbor").read_bytes())
    roster.add(certificate)                        # of the node that signed
    receipt = roster.receipt(answer.receipt.signed, node)
    request, response = protocol.salted(nonce, body)  # what the receipt names of the bytes that were sent

What does not stand raises `comity.ComityError`; its `code` is the one of the protocol's table of errors (`spec/errors.md`). A whole
bundle of evidence is checked by `comity receipts check`.
"""

import json

from . import _comity
from ._amount import Amount, micro
from ._answer import Receipt

__all__ = [
    "Roster",
    "Tariff",
    "canonical",
    "content_id",
    "goes_on",
    "includes",
    "key_name",
    "log_entry",
    "log_note",
    "read",
    "root",
    "salted",
    "verify",
]


def content_id(data):
    """SHA-256 of bytes, hexadecimal: what names an object that is not signed by itself. A signed one's id leaves its signature out:
    `read` gives it."""
    return _comity.content_id(bytes(data))


def canonical(data, *, bytes_max=8192, items_max=1024):
    """Raises where bytes are not CBOR in the one form that the protocol takes (`malformed`, `non_deterministic`, `too_deep`,
    `too_large`)."""
    _comity.canonical(bytes(data), bytes_max, items_max)


def key_name(data):
    """`did:key:…` of the 32 bytes of a public key."""
    return _comity.key_name(bytes(data))


def verify(key, message, signature):
    """Raises where an Ed25519 signature is not this public key's over this message."""
    _comity.verify(bytes(key), bytes(message), bytes(signature))


def read(kind, data, key=None):
    """`{"id": …, "view": …}` of an object: `read("manifest", signed, key)`.

    `key` (`did:key:…`) is the one that must have signed it. What is not signed by itself (`index`, `release`, `plan`, `terms-of-use`,
    `chain`) is read without.
    """
    return json.loads(_comity.read(kind, bytes(data), key))


def salted(nonce, data):
    """What a receipt names of a request with these bytes, and of a response: two digests under the call's nonce (16 bytes)."""
    return _comity.salted(bytes(nonce), bytes(data))


class Tariff:
    """Prices, in the bytes that their owner signed. Amounts are micro-credits."""

    def __init__(self, signed):
        self._signed = bytes(signed)

    def exact(self, op, meters):
        """What measured units cost, in millionths of a micro-credit: before it is rounded up, once for a lane."""
        return int(self._price(op=op, meters=meters)["exact"])

    def charge(self, op, meters):
        """The same as an amount: what a call costs that is alone in its lane."""
        return Amount(self._price(op=op, meters=meters)["ceil"])

    def worst_case(self, op, input_bytes, output_tokens, choices=1):
        """The most that a call may cost, which is what it is signed for."""
        return Amount(self._price(op=op, input_bytes=input_bytes, output_tokens=output_tokens, choices=choices)["amount"])

    def bounds(self, op, input_bytes, output_tokens, choices=1):
        """`amount` (the most), `least`, and the `meters` of the most."""
        return self._price(op=op, input_bytes=input_bytes, output_tokens=output_tokens, choices=choices)

    def affordable(self, op, input_bytes, output_tokens, max_charge, choices=1):
        """How many tokens of an answer an amount buys, at most `output_tokens`. Raises `too_dear` where it buys none."""
        asked = {"op": op, "input_bytes": input_bytes, "output_tokens": output_tokens, "choices": choices}
        return self._price(**asked, max=micro(max_charge))["output_tokens"]

    def _price(self, **asked):
        return json.loads(_comity.price(self._signed, json.dumps(asked)))


class Roster:
    """A federation's roster, and what stands under it. `before`: the version before, whose signers must have signed this one."""

    def __init__(self, data, before=None):
        self._roster = _comity.Roster(bytes(data), None if before is None else bytes(before))

    @property
    def id(self):
        return self._roster.id

    @property
    def version(self):
        return self._roster.version

    def add(self, signed):
        """Takes in a certificate, manifest, tariff, policy or revocation list. Raises where it does not verify."""
        self._roster.add(bytes(signed))

    def receipt(self, signed, node):
        """A receipt that this node signed, verified with a key of its certificate. Its `exact` is what its lane cost so far, in
        millionths of a micro-credit."""
        signed = bytes(signed)
        made = json.loads(self._roster.receipt(signed, node))
        receipt = Receipt(made)
        receipt.signed, receipt.exact = signed, int(made["exact"])
        return receipt

    def chain(self, data, node, now):
        """What a token, or a part of one that somebody handed on, allows at a node at a time (seconds since 1970)."""
        return json.loads(self._roster.chain(bytes(data), node, now))

    def scope(self, data, node, now, model, op):
        """The release and tariff that it pins for a model and an op. Raises where it is not for those."""
        return json.loads(self._roster.chain(bytes(data), node, now, model, op))


def root(leaves):
    """The root of a Merkle tree over leaves, hexadecimal."""
    return _comity.root(list(leaves))


def includes(leaf, index, size, root, proof):
    """Whether a leaf stands at `index` of a log of `size` whose root is `root`."""
    return _comity.includes(leaf, index, size, root, list(proof))


def goes_on(size, root, new_size, new_root, proof):
    """Whether a longer log begins with all of a shorter one."""
    return _comity.goes_on(size, root, new_size, new_root, list(proof))


def log_entry(data):
    """`{"view": …, "leaf": …}` of an entry of a clearing house's log."""
    return json.loads(_comity.log_entry(bytes(data)))


def log_note(data, key):
    """A checkpoint that a log signed, or a witness (`cosigned_at`), verified with its key: origin, size and root."""
    return json.loads(_comity.log_note(bytes(data), key))
