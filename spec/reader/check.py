"""Works each kind of vector out. A function returns the details that stand, or raises Refused."""

import base64
import hashlib
import json

from http_message_signatures import HTTPMessageVerifier, algorithms
from http_message_signatures.exceptions import HTTPMessageSignaturesException
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

import grammar
import log
from grammar import ENUMERATIONS, id_text
from strict import Refused, check_key, decode, did, encode, key_of, public, sha256, to_be_signed, header, verify
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

SKEW_S, DAY_S = 60, 86_400
AMOUNT_MAX = 2**63 - 1


def cbor(v, _):
    decode(bytes.fromhex(v["hex"]), v.get("bytes_max", 8192), v.get("items_max", 1024))
    return {}


def key(v, _):
    raw = check_key(bytes.fromhex(v["hex"]))
    if "seed" in v:
        made = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(v["seed"])).public_key()
        assert made.public_bytes(Encoding.Raw, PublicFormat.Raw) == raw
    return {"did": did(raw)}


def ed25519(v, _):
    verify(check_key(bytes.fromhex(v["key"])), bytes.fromhex(v["message"]), bytes.fromhex(v["signature"]))
    return {}


def object_(v, _):
    data, kind = bytes.fromhex(v["hex"]), v["object"]
    if kind == "chain":
        return {"parts": len(grammar.chain_parts(data))}
    if "key" not in v:
        return {"view": grammar.plain(kind, data), "id": sha256(data).hex()}
    signed = grammar.signed(kind, data).verify(key_of(v["key"]))
    assert encode(decode(signed.payload, 2**21, 2**15)) == signed.payload
    return {"view": signed.value, "id": signed.id.hex()}


# Rosters and what a node knows.


def roster_threshold(payload, signatures, view):
    good = 0
    for text in view["signers"]:
        raw = key_of(text)
        if raw in signatures:
            try:
                verify(raw, to_be_signed("roster", header("roster", raw), payload), signatures[raw])
                good += 1
            except Refused:
                pass
    return good


def accept_roster(data):
    payload, signatures, view = grammar.roster_file(data)
    if roster_threshold(payload, signatures, view) < view["threshold"]:
        raise Refused("roster_threshold")
    return payload, view


def hasty(view, have):
    """An issuer key whose first use is less than 48 h after its publication (K-7)."""
    known = {}
    for org in have["organisations"]:
        for entry in org["issuers"]:
            at = (org["id"], entry["key"], entry["use"])
            known[at] = min(entry["from"], known.get(at, entry["from"]))
    return any(entry["from"] < view["issued_at"] + 2 * DAY_S and entry["from"] < known.get((org["id"], entry["key"], entry["use"]), 2**63)
               for org in view["organisations"] for entry in org["issuers"])


def roster(v, _):
    data = bytes.fromhex(v["hex"])
    if "have" in v:
        _, have = accept_roster(bytes.fromhex(v["have"]))
        payload, signatures, view = grammar.roster_file(data)
        if view["federation"] != have["federation"]:
            raise Refused("wrong_federation")
        if view["version"] != have["version"] + 1:
            raise Refused("roster_version")
        if any(roster_threshold(payload, signatures, judge) < judge["threshold"] for judge in (have, view)):
            raise Refused("roster_threshold")
        if hasty(view, have):
            raise Refused("wrong_issuer")
    else:
        payload, view = accept_roster(data)
    return {"id": sha256(payload).hex(), "version": view["version"]}


class State:
    """The roster and the objects that a vector's node knows, each verified as it comes in."""

    def __init__(self, state):
        _, self.roster = accept_roster(bytes.fromhex(state["roster"]))
        self.orgs = {org["id"]: org for org in self.roster["organisations"]}
        self.certificates, self.lists, writers = {}, {}, {}
        for text in state["objects"]:
            data = bytes.fromhex(text)
            kind = decode(decode(data[1:], 2**21, 8)[0], 256, 16)[16].split(".")[2]
            signed = grammar.signed(kind, data)
            org = self.orgs[signed.value["org"]]
            if kind in ("node-certificate", "writer-certificate"):
                signed.verify(key_of(org["key"]))
            elif kind == "revocation-list":
                keys = [key_of(issuer["key"]) for issuer in org["issuers"]] + [writers.get(org["id"])]
                assert signed.kid in keys
                signed.verify(signed.kid)
            else:
                signed.verify(writers[org["id"]])
            if kind == "node-certificate":
                self.certificates[signed.value["node"]] = signed.value
            elif kind == "writer-certificate":
                writers[org["id"]] = key_of(signed.value["key"])
            elif kind == "revocation-list":
                self.lists[org["id"]] = signed.value


# Chains.


class Chain:
    def __init__(self, data, state):
        parts = grammar.chain_parts(data)
        token = grammar.signed("token", parts[0])
        blocks = [grammar.signed("delegation", part) for part in parts[1:]]
        self.token, self.blocks = token.value, [block.value for block in blocks]
        self._issuer(token, state)
        before, holder = token.id, key_of(self.token["holder"])
        self.ids, self.keys = [before], [holder]
        for place, block in enumerate(blocks, 1):
            if block.value["index"] != place:
                raise Refused("block_order")
            if block.value["previous"] != before.hex():
                raise Refused("block_spliced")
            block.verify(holder)
            before, holder = block.id, key_of(block.value["next"])
            self.ids.append(before)
            self.keys.append(holder)
        self._narrow()

    def _issuer(self, token, state):
        claims, version = self.token, state.roster["version"]
        issuers = state.orgs.get(claims["issuer"], {"issuers": []})["issuers"]
        entry = next((entry for entry in issuers if key_of(entry["key"]) == token.kid), None)
        if entry is None:
            raise Refused("roster_behind" if claims["terms"]["roster_version"] > version else "wrong_issuer")
        if entry["status"] == "compromised":
            raise Refused("wrong_issuer")
        token.verify(token.kid)
        if claims["terms"]["roster_version"] > version:
            raise Refused("roster_behind")
        late = entry["retired_at"] is not None and claims["issued_at"] > entry["retired_at"]
        if claims["issued_at"] < entry["from"] or late:
            raise Refused("wrong_issuer")
        if entry["use"] == "own_node":
            certificate = state.certificates.get(claims["audience"])
            own = certificate is not None and certificate["org"] == claims["issuer"]
            thumbprint = sha256(key_of(claims["holder"])).hex()
            plain = claims["terms"]["budget"] == 0 and claims["terms"]["vetting"] == "none" and claims["subject"] == thumbprint
            if not (own and plain):
                raise Refused("wrong_issuer")

    def _narrow(self):
        terms = self.token["terms"]
        self.models = {scope["model"] for scope in terms["scope"]}
        self.ops = {op for scope in terms["scope"] for op in scope["ops"]}
        self.caps, self.expires_at = [terms["budget"]], self.token["expires_at"]
        self.lanes, depth = terms["lanes_max"], terms["depth"]
        for block in self.blocks:
            lanes, deeper = block["lanes"] or 1, block["depth"] or 0
            good = (block["cap"] <= self.caps[-1] and block["expires_at"] <= self.expires_at and lanes <= self.lanes
                    and deeper < depth and set(block["models"]) <= self.models and set(block["ops"]) <= self.ops)
            if not good:
                raise Refused("block_widens")
            self.caps.append(block["cap"])
            self.expires_at, self.lanes, depth = block["expires_at"], lanes, deeper
            self.models = set(block["models"]) or self.models
            self.ops = set(block["ops"]) or self.ops

    def judge(self, v, state):
        now = v["now"]
        if self.token["audience"] != v["node"]:
            raise Refused("wrong_audience")
        if now >= state.roster["expires_at"]:
            raise Refused("roster_expired")
        if now + SKEW_S < max(self.token["not_before"], self.token["issued_at"]):
            raise Refused("not_yet_valid")
        if now >= self.expires_at + SKEW_S:
            raise Refused("expired")
        listed = state.lists.get(self.token["issuer"])
        if listed is None or now - listed["issued_at"] > DAY_S or listed["issued_at"] > now + SKEW_S:
            raise Refused("standing_stale")
        certificate = state.certificates.get(self.token["audience"])
        subjects = [("token", self.token["id"]), ("node", self.token["audience"]), ("organisation", self.token["issuer"])]
        subjects += [("block", block.hex()) for block in self.ids[1:]]
        subjects += [("organisation", certificate["org"])] if certificate else []
        if any((entry["kind"], entry["subject"]) in subjects for entry in listed["entries"]):
            raise Refused("revoked")
        self.standing = listed["number"]
        return self


def judged(v, states):
    state = states[v["state"]]
    return Chain(bytes.fromhex(v["hex"]), state).judge(v, state)


def chain(v, states):
    c = judged(v, states)
    path = [{"id": at.hex(), "cap": cap} for at, cap in zip(c.ids, c.caps)]
    return {"token": c.token["id"], "leaf": c.ids[-1].hex(), "holder": did(c.keys[-1]), "path": path,
            "expires_at": c.expires_at, "lanes": c.lanes, "standing": c.standing}


def scope(v, states):
    c = judged(v, states)
    row = next((row for row in c.token["terms"]["scope"] if row["model"] == v["model"]), None)
    if row is None or v["model"] not in c.models:
        raise Refused("model_not_in_scope")
    if v["op"] not in row["ops"] or v["op"] not in c.ops:
        raise Refused("op_not_in_scope")
    return {"release": row["release"], "tariff": row["tariff"]}


# Requests.

COVERED = {
    "request": ["@method", "@path", "@query", "content-digest", "comity-token-ref", "comity-lane", "comity-seq", "comity-tariff", "comity-max-charge"],
    "call": ["@method", "@path", "@query", "content-digest"],
}
TAGS = {"request": "comity-req-v1", "call": "comity-api-v1"}


class Message:
    def __init__(self, v):
        query = f"?{v['query']}" if v["query"] else ""
        self.method, self.url, self.headers = v["method"], f"https://node.invalid{v['path']}{query}", dict(v["headers"])


class Resolver:
    def resolve_public_key(self, key_id):
        return Ed25519PublicKey.from_public_bytes(key_of(key_id))


class Verifier(HTTPMessageVerifier):
    def validate_created_and_expires(self, sig_input, max_age=None):
        """The clock is the vector's; it is looked at after the signature."""


def sf_bytes(text):
    if len(text) < 2 or text[0] != ":" or text[-1] != ":":
        raise Refused("malformed", "byte sequence")
    try:
        raw = base64.b64decode(text[1:-1], validate=True)
    except ValueError:
        raise Refused("malformed", "base64") from None
    if base64.b64encode(raw).decode() != text[1:-1]:
        raise Refused("malformed", "base64 form")
    return raw


def digest_of(text):
    raw = sf_bytes(text)
    if len(raw) != 32:
        raise Refused("malformed", "digest")
    return raw


def number(text, most=2**63 - 1):
    if not text.isascii() or not text.isdigit() or str(int(text)) != text or int(text) > most:
        raise Refused("malformed", f"number {text}")
    return int(text)


def presented(v, kind):
    """The closed profile, read by comparing with the one form."""
    fields = {}
    for name, value in v["headers"]:
        if name in fields:
            raise Refused("malformed", f"{name} twice")
        fields[name] = value
    if "signature-input" not in fields or "signature" not in fields:
        raise Refused("unsigned")
    text = fields["signature-input"]
    if not text.startswith("comity="):
        raise Refused("not_covered", "label")
    if not text.startswith("comity=("):
        raise Refused("malformed")
    components, _, rest = text[len("comity=("):].partition(")")
    values = []
    for before, after in ((";created=", ";nonce=\""), ("", "\";keyid=\""), ("", "\";alg=\""), ("", "\";tag=\"")):
        if not rest.startswith(before) or after not in rest:
            raise Refused("not_covered", "parameters")
        value, _, rest = rest[len(before):].partition(after)
        values.append(value)
    created, nonce, keyid, alg = values
    if not rest.endswith("\""):
        raise Refused("not_covered", "tag")
    if rest[:-1] != TAGS[kind]:
        raise Refused("not_covered", "tag")
    if alg != "ed25519":
        raise Refused("not_covered", "alg")
    if components != " ".join(f'"{name}"' for name in COVERED[kind]):
        raise Refused("not_covered", "components")
    created = number(created, 2**64 - 1)
    try:
        raw = base64.b64decode(nonce, validate=True)
    except ValueError:
        raw = b""
    if len(raw) != 16 or base64.b64encode(raw).decode() != nonce:
        raise Refused("malformed", "nonce")
    signer = key_of(keyid)
    if did(signer) != keyid:
        raise Refused("malformed", "keyid form")
    signature = fields["signature"]
    if not signature.startswith("comity=") or len(sf_bytes(signature[len("comity="):])) != 64:
        raise Refused("malformed", "signature")
    for name in COVERED[kind][3:]:
        if name not in fields:
            raise Refused("not_covered", name)
    return fields, created, raw, signer


def finish(v, kind, created, signer, holder):
    """The key, the signature by an independent library, then the time."""
    if signer != holder:
        raise Refused("wrong_key")
    verifier = Verifier(signature_algorithm=algorithms.ED25519, key_resolver=Resolver())
    try:
        (result,) = verifier.verify(Message(v), max_age=None, expect_tag=TAGS[kind])
    except HTTPMessageSignaturesException:
        raise Refused("bad_signature") from None
    if abs(v["now"] - created) > SKEW_S:
        raise Refused("stale")
    return "\n".join(f"{name}: {value}" for name, value in result.covered_components.items())


def body_digest(fields, v):
    text = fields["content-digest"]
    if not text.startswith("sha-256="):
        raise Refused("malformed", "content-digest")
    named = digest_of(text[len("sha-256="):])
    if named != hashlib.sha256(bytes.fromhex(v["body"])).digest():
        raise Refused("body_altered")
    return named


def request(v, _):
    fields, created, nonce, signer = presented(v, "request")
    leaf = digest_of(fields["comity-token-ref"])
    lane, seq = number(fields["comity-lane"], 65535), number(fields["comity-seq"])
    if seq == 0:
        raise Refused("malformed", "seq")
    tariff, most = digest_of(fields["comity-tariff"]), number(fields["comity-max-charge"])
    content = body_digest(fields, v)
    base = finish(v, "request", created, signer, key_of(v["holder"]))
    named = authority_id(leaf, lane, seq, v["method"], v["path"], v["query"], content, tariff, most, nonce)
    return {"authority": named, "leaf": leaf.hex(), "lane": lane, "seq": seq, "tariff": tariff.hex(), "max": most,
            "nonce": nonce.hex(), "created": created, "base": base}


def call(v, _):
    fields, created, nonce, signer = presented(v, "call")
    body_digest(fields, v)
    finish(v, "call", created, signer, signer)
    return {"key": did(signer), "nonce": nonce.hex(), "created": created}


def authority_id(*parts):
    return sha256(encode(["comity/v1/request", *parts])).hex()


def authority(v, _):
    raw = {name: bytes.fromhex(v[name]) for name in ("leaf", "content_digest", "tariff", "nonce")}
    return {"id": authority_id(raw["leaf"], v["lane"], v["seq"], v["method"], v["path"], v["query"], raw["content_digest"],
                               raw["tariff"], v["max"], raw["nonce"])}


def salted(v, _):
    nonce, body = bytes.fromhex(v["nonce"]), bytes.fromhex(v["hex"])
    return {name: sha256(f"comity/v1/{name}-digest".encode(), nonce, body).hex() for name in ("request", "response")}


# Evidence.


def receipt(v, states):
    certificate = states[v["state"]].certificates[v["node"]]
    signed = grammar.signed("receipt", bytes.fromhex(v["hex"]))
    view = signed.value
    keys = [key_of(entry["key"]) for entry in certificate["receipt_keys"] if entry["from"] <= view["at"] < entry["until"]]
    if signed.kid not in keys:
        raise Refused("wrong_key")
    signed.verify(signed.kid)
    if view["node"] != certificate["node"]:
        raise Refused("wrong_issuer")
    return {"id": signed.id.hex(), "n": view["n"], "total": view["total"], "exact": str(view["total"] * 10**6 - view["remainder"])}


def acknowledgement(v, states):
    held = Chain(bytes.fromhex(v["chain"]), states[v["state"]])
    signed = grammar.signed("acknowledgement", bytes.fromhex(v["hex"]))
    if signed.kid not in held.keys:
        raise Refused("wrong_key")
    signed.verify(signed.kid)
    place, ids = held.keys.index(signed.kid), [at.hex() for at in held.ids]
    if signed.value["token"] != held.token["id"] or any(lane["leaf"] not in ids[place:] for lane in signed.value["lanes"]):
        raise Refused("wrong_key")
    return {"id": signed.id.hex(), "signer": did(signed.kid)}


# Money.


def tariff_of(v):
    return grammar.signed("tariff", bytes.fromhex(v["tariff"])).value


def exact_sum(tariff, op, meters):
    price = next((price for price in tariff["prices"] if price["op"] == op), None)
    if price is None:
        raise Refused("no_price")
    total = 0
    for rate in price["rates"]:
        units, steps = meters.get(rate["meter"], 0), rate["steps"]
        for at, step in enumerate(steps):
            end = steps[at + 1]["from"] if at + 1 < len(steps) else units
            total += max(0, min(units, end) - step["from"]) * step["ucr_per_million"]
    return max(total, price["minimum"] * 10**6)


def ceil(exact):
    amount = -(-exact // 10**6)
    if amount > AMOUNT_MAX:
        raise Refused("overflow")
    return amount


def exact(v, _):
    total = exact_sum(tariff_of(v), v["op"], v["meters"])
    return {"exact": str(total), "ceil": ceil(total)}


def worst_meters(tariff, v, output):
    tokens = v["choices"] * output
    requests = v["choices"] if v["op"] == "predict" else 1
    meters = {"requests": requests, "input_bytes": v["input_bytes"], "output_bytes": tokens * tariff["output_bytes_per_token"],
              "input_tokens": v["input_bytes"] + tariff["overhead_tokens"], "output_tokens": tokens}
    if max(meters.values()) > AMOUNT_MAX:
        raise Refused("overflow")
    return {name: units for name, units in meters.items() if units}


def worst(tariff, v, output):
    return ceil(exact_sum(tariff, v["op"], worst_meters(tariff, v, output)))


def worst_case(v, _):
    tariff = tariff_of(v)
    meters = worst_meters(tariff, v, v["output_tokens"])
    return {"amount": worst(tariff, v, v["output_tokens"]), "least": ceil(exact_sum(tariff, v["op"], {"requests": 1})), "meters": meters}


def affordable(v, _):
    tariff = tariff_of(v)
    fitting = [output for output in range(v["output_tokens"] + 1) if worst(tariff, v, output) <= v["max"]]
    if not fitting:
        raise Refused("too_dear")
    return {"output_tokens": fitting[-1]}


def rounding(v, _):
    total_exact, before, lines = 0, 0, []
    for text in v["exact"]:
        total_exact += int(text)
        total = ceil(total_exact)
        assert total - before <= ceil(int(text))
        lines.append([total, total - before, total * 10**6 - total_exact])
        before = total
    return {"lines": lines}


# RFC 6962.


def tree(leaves):
    if not leaves:
        return sha256(b"")
    if len(leaves) == 1:
        return sha256(b"\0", leaves[0])
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\1", tree(leaves[:k]), tree(leaves[k:]))


def path_of(leaves, at):
    if len(leaves) < 2:
        return []
    k = 1 << (len(leaves) - 1).bit_length() - 1
    if at < k:
        return path_of(leaves[:k], at) + [tree(leaves[k:])]
    return path_of(leaves[k:], at - k) + [tree(leaves[:k])]


def raw_leaves(v):
    return [bytes.fromhex(leaf) for leaf in v["leaves"]]


def root(v, _):
    return {"root": tree(raw_leaves(v)).hex()}


def lane_proof(v, _):
    leaves, at = raw_leaves(v), v["settled"] - 1
    proof = path_of(leaves, at)
    assert continues(at, tree(leaves[:at]), leaves[at], len(leaves), tree(leaves), proof)
    return {"proof": [step.hex() for step in proof], "before": tree(leaves[:at]).hex(), "history": tree(leaves).hex()}


def continues(at, before, receipt, size, history, proof):
    """RFC 6962 2.1.1 backwards: rebuilt along the path of the definition, once with the receipt and once without it."""
    steps = list(proof)

    def walk(at, size):
        if size == 1:
            return None, sha256(b"\0", receipt)
        k = 1 << (size - 1).bit_length() - 1
        if at < k:
            left, whole = walk(at, k)
            return left, sha256(b"\1", whole, steps.pop(0))
        left, whole = walk(at - k, size - k)
        step = steps.pop(0)
        return (step if left is None else sha256(b"\1", step, left)), sha256(b"\1", step, whole)

    if not 0 <= at < size:
        return False
    try:
        left, whole = walk(at, size)
    except IndexError:
        return False
    return not steps and whole == history and (tree([]) if left is None else left) == before


def lane_proof_check(v, _):
    before, receipt, history = (bytes.fromhex(v[name]) for name in ("before", "receipt", "history"))
    if not continues(v["settled"] - 1, before, receipt, v["n"] - 1, history, [bytes.fromhex(step) for step in v["proof"]]):
        raise Refused("broken_history")
    return {}


# The access decision.


def in_hours(hours, now):
    day = ENUMERATIONS["Day"][1].split()[(now // 86_400 + 3) % 7]
    return (not hours["days"] or day in hours["days"]) and hours["from"] * 60 <= now % 86_400 < hours["until"] * 60


def policy(v, _):
    held = grammar.signed("policy", bytes.fromhex(v["hex"])).value
    grants = [grammar.signed("grant", bytes.fromhex(text)).value for text in v["grants"]]
    known = {hashlib.sha256(bytes.fromhex(text)).hexdigest(): grammar.plain("plan", bytes.fromhex(text)) for text in v.get("plans", [])}
    tiers, levels = ENUMERATIONS["Tier"][1].split(), ENUMERATIONS["Vetting"][1].split()
    if v["model"] not in held["models"]:
        raise Refused("model_not_found")

    def opens(grant, tier):
        return (grant["org"] == held["org"] and v["model"] in grant["models"] and (not grant["ops"] or v["op"] in grant["ops"])
                and tiers.index(grant["tier"]) >= tiers.index(tier) and grant["not_before"] <= v["now"] < grant["not_after"]
                and (tier != "t3" or grant["plan"]))

    def approves(grant):
        """What a grant that names a plan opens of this call: the plan's row, or why not."""
        plan = known.get(grant["plan"])
        row = plan and v["model"] in plan["models"] and next((row for row in plan["ops"] if row["op"] == v["op"]), None)
        if not row:
            return "grant_required"
        return row if v.get("run") else "run_required"

    def granted(tier):
        """(missing, grant, row): a grant without a plan opens by itself, else the latest approval."""
        held = [grant for grant in grants if opens(grant, tier)]
        if any(not grant["plan"] for grant in held):
            return None, None, None
        said = [(grant, approves(grant)) for grant in held]
        approved = [(grant, row) for grant, row in said if not isinstance(row, str)]
        if approved:
            return (None, *max(approved, key=lambda pair: (pair[0]["not_before"], pair[0]["id"])))
        return ("run_required" if "run_required" in [row for _, row in said] else "grant_required"), None, None

    def terms(rule):
        """The terms of use of which one must have been agreed to; none: nothing is asked for."""
        asked, before = rule["terms"], rule["terms_before"]
        if not asked or not (rule["terms_from"] and v["now"] < rule["terms_from"]):
            return [asked] if asked else []
        return [asked, before] if before else []

    best, first = None, "op_not_offered"
    for row in sorted((row for row in held["rules"] if row["op"] == v["op"]), key=lambda row: tiers.index(row["tier"])):
        rule, missing = next(rule for rule in held["tiers"] if rule["tier"] == row["tier"]), None
        if levels.index(v["vetting"]) < levels.index(rule["vetting"]):
            missing = "vetting_too_low"
        approval, limits = None, None
        if missing is None and (rule["grant"] or row["tier"] == "t3"):
            missing, approval, limits = granted(row["tier"])
        if missing is not None:
            pass
        elif rule["purposes"] and not set(rule["purposes"]) & set(v["purposes"]):
            missing = "purpose_not_allowed"
        elif v["delegated"] and rule["delegates"] != "all":
            missing = "delegate_not_allowed"
        elif terms(rule) and not set(terms(rule)) & set(v.get("agreed", [])):
            missing = "terms_not_signed"
        elif rule["hours"] and not any(in_hours(hours, v["now"]) for hours in rule["hours"]):
            missing = "outside_hours"
        if missing is None:
            best = (row, approval, limits)
        elif first == "op_not_offered":
            first = missing
    if best is None:
        raise Refused(first)
    row, approval, limits = best
    if approval is None:
        return {"tier": row["tier"], "output_tokens_max": row["output_tokens_max"]}
    least = {name: min(most for most in (row[name], limits[name]) if most is not None) for name in ("output_tokens_max", "logprobs_max")}
    return {"tier": row["tier"], **least, "plan": approval["plan"], "executions": approval["executions"] or 1}


def acts(v, _):
    """11-access.md 11.9, D-7: each act names the link of the one before it."""
    before, links = bytes(32).hex(), []
    for n, text in enumerate(v["acts"], 1):
        act = json.loads(text)
        if act["n"] != n or act["before"] != before:
            raise Refused("broken_history")
        before = sha256(b"comity/v1/operator-act\0", text.encode()).hex()
        links.append(before)
    return {"links": links, "leaves": [sha256(b"\0", bytes.fromhex(link)).hex() for link in links]}


KINDS = {"cbor": cbor, "key": key, "ed25519": ed25519, "object": object_, "roster": roster, "chain": chain, "scope": scope,
         "request": request, "call": call, "authority": authority, "salted": salted, "receipt": receipt,
         "acknowledgement": acknowledgement, "exact": exact, "worst_case": worst_case, "affordable": affordable,
         "rounding": rounding, "root": root, "acts": acts, "lane_proof": lane_proof, "lane_proof_check": lane_proof_check, "policy": policy, **log.KINDS}
