"""Vectors made here, for the Rust side to verify: a federation, tokens and blocks signed by `cwt`, receipts, requests
signed by `http-message-signatures`. Fixed seeds, a fixed clock: the same bytes each time."""

import base64
import json

from http_message_signatures import HTTPMessageSigner, algorithms
from http_sf.compat import Item

import check
from check import COVERED, TAGS, Message, authority_id
from grammar import id_text
from strict import Refused, did, encode, header, public, secret, sha256, sign, to_be_signed

NOW, HOUR, DAY = 1_795_500_000, 3600, 86_400
HOUSE, OWNER, NODE, FED, TOKEN = (bytes([n]) * 16 for n in (0xA1, 0xA2, 0xB2, 0xAF, 0xC7))
BODY = '{"model":"college/mini","messages":[{"role":"user","content":"Où est la bibliothèque ?"}]}'.encode()


def roster():
    signers = sorted([public("python root 1"), public("python root 2")])
    issuer = {1: public("python issuer"), 2: 1, 3: 1, 4: NOW - 50 * DAY}
    house = {1: HOUSE, 2: "treasury", 3: "The treasury", 4: public("python house"), 5: [issuer]}
    owner = {1: OWNER, 2: "college", 3: "The college", 4: public("python owner")}
    payload = encode({1: FED, 2: 1, 3: NOW - 50 * DAY, 4: NOW + 50 * DAY, 5: 2, 6: signers, 7: [house, owner]})
    pairs = []
    for name in ("python root 1", "python root 2"):
        key = public(name)
        pairs.append([key, secret(name).sign(to_be_signed("roster", header("roster", key), payload))])
    return encode([payload, sorted(pairs)])


def state():
    window = {3: NOW - DAY, 4: NOW + 60 * DAY}
    receipt_key = {1: public("python receipt"), 2: NOW - DAY, 3: NOW + 60 * DAY}
    certificate = encode({1: OWNER, 2: NODE, 3: [public("python transport")], 4: [receipt_key], 5: window[3], 6: window[4], 7: 0})
    empty = encode({1: HOUSE, 2: 1, 3: NOW - 60})
    objects = [sign("node-certificate", certificate, "python owner"), sign("revocation-list", empty, "python issuer")]
    return {"roster": roster().hex(), "objects": [data.hex() for data in objects]}


def token(**changes):
    scope = {1: "college/mini", 2: sha256(b"release"), 3: [1, 2], 4: sha256(b"tariff")}
    terms = {1: 1, 2: [scope], 3: 2_000_000, 4: 2, 5: ["education"], 6: 500_000, 7: 4, 8: 60, 9: NOW + 40 * DAY, 10: 2}
    terms.update(changes.get("terms", {}))
    cnf = {1: {1: 1, -1: 6, -2: public("python pi")}}
    claims = {1: id_text("org", HOUSE), 2: "sub-" + "q" * 26, 3: id_text("node", NODE), 4: NOW + 8 * HOUR, 5: NOW - 60, 6: NOW - 60,
              7: TOKEN, 8: cnf, -70001: terms}
    claims.update(changes.get("claims", {}))
    return sign("token", encode(claims), changes.get("signer", "python issuer"))


def content_id(data):
    outer = check.decode(data[1:])
    return sha256(outer[0], outer[2])


def block(before, index, signer, holder, **changes):
    fields = {1: content_id(before), 2: index, 3: 1_000_000 // index, 4: NOW + 2 * HOUR, 9: public(holder)}
    if index == 1:
        fields[6] = 1
    fields.update(changes.get("fields", {}))
    return sign("delegation", encode(fields), signer)


class File:
    def __init__(self, about, with_state):
        self.file = {"about": about}
        if with_state:
            self.file["states"] = {"python": state()}
        self.states = {name: check.State(value) for name, value in self.file.get("states", {}).items()}
        self.file["vectors"] = []

    def add(self, name, kind, rule, note, error=None, **fields):
        vector = {"id": name, "kind": kind, "rule": rule, "note": note, **fields}
        try:
            found = {"ok": check.KINDS[kind](vector, self.states)}
        except Refused as refused:
            found = {"error": refused.code}
        assert found.get("error") == error, (name, found)
        self.file["vectors"].append({**vector, "expect": found})

    def text(self):
        return json.dumps(self.file, indent=2, ensure_ascii=False) + "\n"


def chains():
    file = File("Chains made by cwt and the reader's own encoder.", True)
    root = token()
    first = block(root, 1, "python pi", "python student")
    second = block(first, 2, "python student", "python job")

    def add(name, note, parts, error=None, rule="T-1", now=NOW, node=NODE):
        file.add(f"python-{name}", "chain", rule, note, error, state="python", node=id_text("node", node), now=now, hex=encode(parts).hex())

    add("root", "a token", [root])
    add("two-blocks", "PI to student to job", [root, first, second])
    add("free", "budget 0 by the house", [token(terms={3: 0})])
    add("expired", "now = exp + 60", [root], "expired", now=NOW + 8 * HOUR + 60)
    add("elsewhere", "for another node", [root], "wrong_audience", node=bytes(16))
    add("stranger", "an issuer that nobody knows", [token(signer="python stranger")], "wrong_issuer")
    add("newer", "a newer roster", [token(terms={1: 2})], "roster_behind")
    add("twice", "one block twice", [root, first, first], "block_order", "T-3")
    add("spliced", "a block of another token", [token(claims={7: bytes(16)}), first], "block_spliced", "T-3")
    add("not-the-holder", "signed by the next holder", [root, block(root, 1, "python student", "python job")], "wrong_key", "T-3")
    add("wider", "a higher cap", [root, block(root, 1, "python pi", "python job", fields={3: 2_000_001})], "block_widens", "T-4")
    add("another-model", "a model out of scope", [root, block(root, 1, "python pi", "python job", fields={7: ["college/maxi"]})], "block_widens", "T-4")
    add("lanes-of-one", "the default is left out", [root, block(root, 1, "python pi", "python job", fields={5: 1})], "malformed", "E-8")
    add("unknown-claim", "a claim that the grammar does not have", [token(claims={9: 1})], "unknown_field", "E-7")
    add("altered", "one bit", [root[:-1] + bytes([root[-1] ^ 1])], "bad_signature", "E-11")
    return file.text()


def receipts():
    file = File("Receipts made by cwt and the reader's own encoder.", True)

    def receipt(**changes):
        fields = {1: TOKEN, 2: content_id(token()), 3: 0, 4: 1, 5: 0, 6: 1, 7: 41, 8: 41, 9: 500_000, 10: {1: 1, 5: 81}, 11: {1: 1, 5: 81},
                  16: 2, 17: 1, 18: sha256(b"q"), 19: sha256(b"a"), 20: sha256(b"release"), 21: sha256(b"manifest"), 22: sha256(b"tariff"),
                  23: sha256(b""), 24: 1, 25: NODE, 26: NOW, 27: 0, 28: sha256(b"authority"), 29: "college/mini", 30: 1}
        fields.update({int(key[1:]): value for key, value in changes.items()})
        return fields

    def add(name, note, fields, error=None, signer="python receipt"):
        data = sign("receipt", encode(fields), signer)
        file.add(f"python-{name}", "receipt", "R-4", note, error, state="python", node=id_text("node", NODE), hex=data.hex())

    add("receipt", "the first of a lane", receipt())
    add("flags", "with flags, bytes out and rank", receipt(_12={1: 2, 7: 1}, _13={1: 2, 7: 1}, _14=1 << 40, _15=3))
    add("second", "the second of a lane", receipt(_4=9, _6=2, _8=80, _23=check.tree([sha256(b"first")])))
    add("by-transport", "signed by the transport key", receipt(), "wrong_key", "python transport")
    add("charge-above-total", "a charge above the total", receipt(_7=42), "malformed")
    add("zero-flag", "a count of zero", receipt(_12={1: 0}), "malformed")
    add("unknown-op", "an op that does not exist", receipt(_30=99), "malformed")
    add("history-of-first", "the first has no history", receipt(_23=sha256(b"x")), "malformed")
    return file.text()


class Keys:
    def __init__(self, name):
        self.name = name

    def resolve_private_key(self, _):
        return secret(self.name)


def sign_request(message, kind, created, nonce, name):
    """The library builds the base and its own signature; only the parameters' order is ours."""
    signer = HTTPMessageSigner(signature_algorithm=algorithms.ED25519, key_resolver=Keys(name))
    parameters = {"created": created, "nonce": base64.b64encode(nonce).decode(), "keyid": did(public(name)), "alg": "ed25519", "tag": TAGS[kind]}
    covered = [Item(component) for component in COVERED[kind]]
    base, node, _ = signer._build_signature_base(message, covered_component_ids=covered, signature_params=parameters)
    signature = algorithms.ED25519(private_key=secret(name)).sign(base.encode())
    message.headers["signature-input"] = f"comity={node}"
    message.headers["signature"] = f"comity=:{base64.b64encode(signature).decode()}:"


def sf(raw):
    return f":{base64.b64encode(raw).decode()}:"


def requests():
    file = File("Requests signed by http-message-signatures.", False)

    def add(name, note, kind="request", error=None, query="", created=NOW, holder="python pi", after=None, lane=0, seq=1, most=900):
        path = "/v1/chat/completions" if kind == "request" else "/comity/v1/finals"
        headers = [["content-digest", f"sha-256={sf(sha256(BODY))}"]]
        if kind == "request":
            headers += [["comity-token-ref", sf(content_id(token()))], ["comity-lane", str(lane)], ["comity-seq", str(seq)],
                        ["comity-tariff", sf(sha256(b"tariff"))], ["comity-max-charge", str(most)]]
        vector = {"method": "POST", "path": path, "query": query, "headers": headers}
        message = Message(vector)
        sign_request(message, kind, created, sha256(name.encode())[:16], "python pi")
        fields = dict(message.headers)
        fields.update(after or {})
        file.add(f"python-{name}", kind, "Q-3", note, error, method="POST", path=path, query=query,
                 headers=[list(pair) for pair in fields.items()], body=BODY.hex(), holder=did(public(holder)), now=NOW)

    add("request", "a chat request with letters beyond ASCII")
    add("query", "with a query", query="x=1&y=%C3%A9")
    add("numbers", "large numbers", lane=1023, seq=2**62, most=2**63 - 1)
    add("call", "a call to a control route", "call")
    add("late", "a minute and a second late", error="stale", created=NOW - 61)
    add("not-the-holder", "another holder's", error="wrong_key", holder="python job")
    add("raised", "the maximum raised on the way", error="bad_signature", after={"comity-max-charge": "901"})
    add("other-digest", "the digest of another body", error="body_altered", after={"content-digest": f"sha-256={sf(sha256(b'x'))}"})
    raw = [content_id(token()), 3, 77, "POST", "/v1/completions", "", sha256(BODY), sha256(b"tariff"), 5, bytes(range(16))]
    file.add("python-authority", "authority", "5.3", "an authority id", leaf=raw[0].hex(), lane=3, seq=77, method="POST", path="/v1/completions",
             query="", content_digest=raw[6].hex(), tariff=raw[7].hex(), max=5, nonce=raw[9].hex())
    assert file.file["vectors"][-1]["expect"]["ok"]["id"] == authority_id(*raw)
    return file.text()


def files():
    return {"chains.json": chains(), "receipts.json": receipts(), "requests.json": requests()}
