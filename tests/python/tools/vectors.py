"""The protocol's vectors through `comity.protocol`: vectors.py SPEC_VECTORS. Run by the interpreter that has the package.

Every file is read, and every kind of vector is either played here or stands in `ELSEWHERE` with the reason why the package has no
function for it; a kind that nobody thought of is a failure. Rust plays all of them (`tests/it/conformance.rs`).
"""

import json
import pathlib
import sys
from collections import Counter

import comity
from comity import protocol

#: Kinds that the package has no function for, and why.
ELSEWHERE = {
    "authority": "what a request is signed for is made within a call, by the wallet",
    "request": "signed requests are made by the wallet and checked by nodes",
    "call": "signed control calls are made by the client and checked by nodes and houses",
    "acknowledgement": "a holder's word to a node: the wallet signs it within the next call",
    "rounding": "the sum of a lane is kept by the wallet, which holds each receipt against it",
    "lane_proof": "a node proves a lane to a house",
    "lane_proof_check": "a house checks what a node proves",
    "acts": "the register of an owner's operators: `comity access proof`",
    "policy": "decided at the node, and for the client's own project by `models.search()`",
    "log_path": "where a log's files lie: `comity audit`",
}

raw = bytes.fromhex


def key(vector, _):
    return {"did": protocol.key_name(raw(vector["hex"]))}


def ed25519(vector, _):
    protocol.verify(*(raw(vector[part]) for part in ("key", "message", "signature")))
    return {}


def cbor(vector, _):
    bounds = {name: vector[name] for name in ("bytes_max", "items_max") if name in vector}
    protocol.canonical(raw(vector["hex"]), **bounds)
    return {}


def read(vector, _):
    return protocol.read(vector["object"], raw(vector["hex"]), vector.get("key"))


def chain(vector, states):
    return states[vector["state"]].chain(raw(vector["hex"]), vector["node"], vector["now"])


def scope(vector, states):
    return states[vector["state"]].scope(raw(vector["hex"]), vector["node"], vector["now"], vector["model"], vector["op"])


def salted(vector, _):
    request, response = protocol.salted(raw(vector["nonce"]), raw(vector["hex"]))
    return {"request": request, "response": response}


def receipt(vector, states):
    data = raw(vector["hex"])
    made = states[vector["state"]].receipt(data, vector["node"])
    assert made.signed == data and isinstance(made.charge, comity.Amount)
    return {"id": made.id, "n": made.object["n"], "total": made.object["total"], "exact": str(made.exact)}


def exact(vector, _):
    tariff = protocol.Tariff(raw(vector["tariff"]))
    asked = vector["op"], vector["meters"]
    return {"exact": str(tariff.exact(*asked)), "ceil": int(tariff.charge(*asked))}


def demand(vector):
    return {name: vector[name] for name in ("op", "input_bytes", "output_tokens", "choices")}


def worst_case(vector, _):
    tariff = protocol.Tariff(raw(vector["tariff"]))
    made = tariff.bounds(**demand(vector))
    assert tariff.worst_case(**demand(vector)) == made["amount"]
    return made


def affordable(vector, _):
    tariff = protocol.Tariff(raw(vector["tariff"]))
    return {"output_tokens": tariff.affordable(**demand(vector), max_charge=vector["max"])}


def root(vector, _):
    return {"root": protocol.root(vector["leaves"])}


def roster(vector, _):
    made = protocol.Roster(raw(vector["hex"]), raw(vector["have"]) if "have" in vector else None)
    return {"id": made.id, "version": made.version}


def log_entry(vector, _):
    return protocol.log_entry(raw(vector["hex"]))


def log_note(vector, _):
    return protocol.log_note(raw(vector["hex"]), vector["vkey"])


def holds(answer):
    if not answer:
        raise comity.ComityError("it does not hold", code="broken_history")
    return {}


def log_inclusion(vector, _):
    return holds(protocol.includes(*(vector[name] for name in ("leaf", "index", "size", "root", "proof"))))


def log_consistency(vector, _):
    return holds(protocol.goes_on(*(vector[name] for name in ("from", "before", "to", "root", "proof"))))


KINDS = {
    "cbor": cbor, "key": key, "ed25519": ed25519, "object": read, "chain": chain, "scope": scope, "salted": salted, "receipt": receipt,
    "exact": exact, "worst_case": worst_case, "affordable": affordable, "root": root, "roster": roster, "log_entry": log_entry,
    "log_note": log_note, "log_inclusion": log_inclusion, "log_consistency": log_consistency,
}


def state(made):
    roster = protocol.Roster(raw(made["roster"]))
    for signed in made["objects"]:
        roster.add(raw(signed))
    return roster


def outcome(vector, states):
    try:
        return {"ok": KINDS[vector["kind"]](vector, states)}
    except comity.ComityError as error:
        return {"error": error.code}


def differs(expect, found):
    if "error" in expect or "error" in found:
        return expect != found
    return any(found["ok"].get(name, "nothing") != value for name, value in expect["ok"].items())


def main():
    folder = pathlib.Path(sys.argv[1])
    problems, played, left = [], Counter(), Counter()
    for path in sorted(folder.rglob("*.json")):
        if path.name == "README.json":
            continue
        file = json.loads(path.read_text())
        states = {name: state(made) for name, made in file.get("states", {}).items()}
        for vector in file["vectors"]:
            kind = vector["kind"]
            if kind in ELSEWHERE:
                left[kind] += 1
            elif kind not in KINDS:
                problems.append(f"{path.name}: vectors of kind {kind}, which nobody plays, and without a reason")
            elif differs(vector["expect"], found := outcome(vector, states)):
                problems.append(f"{path.name} {vector['id']}: {json.dumps(found)[:300]}, stated {json.dumps(vector['expect'])[:300]}")
            played[kind] += kind in KINDS
    unused = (set(KINDS) | set(ELSEWHERE)) - set(played)
    problems += [f"there is no vector of kind {kind}" for kind in sorted(unused)]
    for problem in problems:
        print(problem)
    count = sum(played.values())
    print(f"{count} vectors played, {sum(left.values())} left to others, {len(problems)} problems")
    return 1 if problems or count < 400 else 0


if __name__ == "__main__":
    sys.exit(main())
