"""The house's log, read and verified by `tlog_scales`: a package for C2SP's logs that knows nothing of Comity.

A node cosigns it, the operator exports it, and `comity audit` verifies it too. Then a byte is changed, and both must say so.
"""

import json

from tlog_scales.backend import LocalBackend
from tlog_scales.reader import TilesReader
from tlog_scales.signing import Vkey
from tlog_scales.tlog import InclusionProofInvalid
from tlog_scales.utils import sha256

from federation import Broken, eventually, need


def cosigned_copy(federation, copy):
    """Cosigned by the lab's node, which the house's operator let in; the keys of log and witness."""
    house, lab = federation.home("house"), federation.home("lab")
    log = json.loads(federation.run("clearing", "log", "show", "--home", house))["vkey"]
    witness = federation.run("node", "witness", "--home", lab, "--show-key")
    federation.run("clearing", "log", "witness", "--home", house, witness)
    door_key = json.loads((house / "organisation.json").read_text())["transport_key"]
    door = ("--door", federation.house_door, "--door-key", door_key, "--key", log)

    def both():
        # A checkpoint may be signed between the two.
        federation.run("node", "witness", "--home", lab, *door)
        federation.run("clearing", "log", "export", "--home", house, copy)
        return json.loads(federation.run("audit", copy, "--key", log, "--witness", witness, "--json"))

    audited = eventually("a cosigned copy", both)
    need(audited["holds"], f"the audit found {audited['breaks']}")
    at_the_door = json.loads(federation.run("audit", *door, "--json"))
    need(at_the_door["holds"] and at_the_door["entries"] >= audited["entries"], "the audit at the door")
    return log, witness, audited


def verify(federation):
    """How many entries were proved by code that is not ours."""
    copy = federation.folder / f"log-{federation.door}"
    log, witness, audited = cosigned_copy(federation, copy)
    reader = TilesReader(LocalBackend(copy))
    checkpoint = reader.get_checkpoint()
    checkpoint.verify(Vkey.from_string(log))
    checkpoint.verify(Vkey.from_string(witness))
    need(checkpoint.size == audited["entries"] > 4, f"{checkpoint.size} entries")
    need(reader.calculate_root_hash() == checkpoint.root_hash, "the tiles have another root")
    for index in range(checkpoint.size):
        leaf = sha256(b"\0" + reader.get_entry(index))
        reader.get_inclusion_proof(index, checkpoint.size).check(leaf, checkpoint.root_hash)
    for old in range(1, checkpoint.size):
        reader.get_consistency_proof(old, checkpoint.size).check(reader.mth(0, old), checkpoint.root_hash)
    altered(federation, copy, log, checkpoint)
    return checkpoint.size


def altered(federation, copy, log, checkpoint):
    """A byte of an entry, then of the checkpoint: seen by both."""
    bundle = next(path for path in (copy / "tile" / "entries").rglob("*") if path.is_file())
    bytes_ = bytearray(bundle.read_bytes())
    bytes_[-1] ^= 1
    bundle.write_bytes(bytes_)
    reader = TilesReader(LocalBackend(copy))
    size = reader.get_checkpoint().size
    last = sha256(b"\0" + reader.get_entry(min(size, 256) - 1))
    try:
        reader.get_inclusion_proof(min(size, 256) - 1, size).check(last, checkpoint.root_hash)
    except InclusionProofInvalid:
        pass
    else:
        raise Broken("an altered entry is still proved")
    try:
        federation.run("audit", copy, "--key", log, "--json")
    except Broken as said:
        need("tile_differs" in str(said) and "root_differs" in str(said), f"the audit says of an altered entry: {said}")
    else:
        raise Broken("the audit takes an altered entry")
