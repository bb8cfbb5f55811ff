"""The house's log (10-log.md), by the C2SP documents and RFC 6962 alone: notes, paths of tiles, proofs."""

import base64
import re

from grammar import log_entry, need
from strict import Refused, check_key, sha256, verify


def b64(text, size=None):
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        raise Refused("malformed", "base64") from None
    need(base64.b64encode(raw).decode() == text and size in (None, len(raw)), "base64")
    return raw


def is_name(text):
    return 0 < len(text.encode()) <= 255 and not any(c.isspace() or c == "+" or ord(c) < 32 or 127 <= ord(c) < 160 for c in text)


def vkey(text):
    """(name, key id, type, public key)."""
    parts = text.split("+", 2)
    need(len(parts) == 3 and is_name(parts[0]) and re.fullmatch("[0-9a-f]{8}", parts[1]), "vkey")
    raw = b64(parts[2])
    need(len(raw) == 33 and raw[0] in (1, 4), "vkey")
    need(sha256(parts[0].encode(), b"\n", raw)[:4].hex() == parts[1], "key id")
    return parts[0], bytes.fromhex(parts[1]), raw[0], check_key(raw[1:])


def note(data):
    """(text, [(name, key id, signature)])."""
    need(len(data) <= 128 * 1024, "size")
    try:
        whole = data.decode()
    except UnicodeDecodeError:
        raise Refused("malformed", "utf-8") from None
    need(not any(ord(c) < 32 and c != "\n" for c in whole) and "\n\n" in whole and whole.endswith("\n"), "note")
    at = whole.rindex("\n\n")
    lines = whole[at + 2:].split("\n")
    need(lines.pop() == "" and 1 <= len(lines) <= 32, "signatures")
    signatures = []
    for line in lines:
        parts = line.split(" ")
        need(len(parts) == 3 and parts[0] == "\u2014" and is_name(parts[1]), "signature line")
        raw = b64(parts[2])
        need(len(raw) >= 4, "signature")
        signatures.append((parts[1], raw[:4], raw[4:]))
    return whole[:at + 1], signatures


def checkpoint(text):
    need(text.endswith("\n"), "last line")
    lines = text[:-1].split("\n")
    need(len(lines) >= 3 and all(lines) and len(lines[0].encode()) <= 255, "lines")
    need(re.fullmatch("0|[1-9][0-9]*", lines[1]) and int(lines[1]) < 2**63, "size")
    return {"origin": lines[0], "size": int(lines[1]), "root": b64(lines[2], 32).hex()}


def signatures_of(key, signatures):
    found = [signature for name, id_, signature in signatures if (name, id_) == key[:2]]
    if not found:
        raise Refused("wrong_key")
    return found


def log_note(v, _):
    text, signatures = note(bytes.fromhex(v["hex"]))
    key = vkey(v["vkey"])
    view = checkpoint(text)
    if key[2] == 4:
        for signature in signatures_of(key, signatures):
            if len(signature) != 72 or not 0 < int.from_bytes(signature[:8], "big") < 2**63:
                raise Refused("bad_signature")
            at = int.from_bytes(signature[:8], "big")
            verify(key[3], f"cosignature/v1\ntime {at}\n{text}".encode(), signature[8:])
        return {**view, "cosigned_at": at}
    if view["origin"] != key[0]:
        raise Refused("wrong_key")
    for signature in signatures_of(key, signatures):
        if len(signature) != 64:
            raise Refused("bad_signature")
        verify(key[3], text.encode(), signature)
    return view


def log_entry_(v, _):
    data = bytes.fromhex(v["hex"])
    return {"view": log_entry(data), "leaf": sha256(b"\0", data).hex()}


def log_path(v, _):
    found = re.fullmatch(r"(entries|[0-9]|[1-5][0-9]|6[0-3])/((?:x[0-9]{3}/)*)([0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?", v["path"])
    need(found, "path")
    level, groups, last, width = found.groups()
    need(not groups.startswith("x000") and (width is None or int(width) < 256), "path")
    index = int(groups.replace("x", "").replace("/", "") + last)
    need(index < 2**64, "index")
    return {"level": None if level == "entries" else int(level), "index": index, "width": 256 if width is None else int(width)}


def split(size):
    return 1 << (size - 1).bit_length() - 1


def log_inclusion(v, _):
    steps = [bytes.fromhex(step) for step in v["proof"]]

    def walk(at, size):
        if size == 1:
            return bytes.fromhex(v["leaf"])
        k = split(size)
        if at < k:
            left = walk(at, k)
            return sha256(b"\1", left, steps.pop(0))
        right = walk(at - k, size - k)
        return sha256(b"\1", steps.pop(0), right)

    try:
        holds = v["index"] < v["size"] and walk(v["index"], v["size"]).hex() == v["root"] and not steps
    except IndexError:
        holds = False
    if not holds:
        raise Refused("broken_history")
    return {}


def log_consistency(v, _):
    old, size, before = v["from"], v["to"], bytes.fromhex(v["before"])
    steps = [bytes.fromhex(step) for step in v["proof"]]

    def walk(old, size, whole):
        """The roots of the first `old` and of all `size` leaves of a subtree."""
        if old == size:
            root = before if whole else steps.pop(0)
            return root, root
        k = split(size)
        if old <= k:
            was, now = walk(old, k, whole)
            return was, sha256(b"\1", now, steps.pop(0))
        was, now = walk(old - k, size - k, False)
        left = steps.pop(0)
        return sha256(b"\1", left, was), sha256(b"\1", left, now)

    try:
        if old == 0:
            holds = before == sha256(b"") and not steps
        else:
            holds = old <= size and walk(old, size, True) == (before, bytes.fromhex(v["root"])) and not steps
    except IndexError:
        holds = False
    if not holds:
        raise Refused("broken_history")
    return {}


KINDS = {"log_entry": log_entry_, "log_note": log_note, "log_path": log_path, "log_inclusion": log_inclusion,
         "log_consistency": log_consistency}
