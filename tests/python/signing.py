"""Calls to the house, signed as spec/05-request.md §5.1 has it (RFC 9421, tag `comity-api-v1`)."""

import base64
import hashlib
import os
import time
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def base58(data):
    number, text = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = ALPHABET[digit] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text


class Key:
    """A key file of Comity's: 32 bytes in hex."""

    def __init__(self, path):
        self.secret = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(path.read_text().strip()))
        self.did = "did:key:z" + base58(b"\xed\x01" + self.secret.public_key().public_bytes_raw())

    def headers(self, method, url, body=b""):
        """What has to stand beside a call."""
        address = urlsplit(url)
        digest = f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"
        nonce = base64.b64encode(os.urandom(16)).decode()
        parameters = (f'("@method" "@path" "@query" "content-digest");created={int(time.time())};nonce="{nonce}"'
                      f';keyid="{self.did}";alg="ed25519";tag="comity-api-v1"')
        lines = {"@method": method, "@path": address.path or "/", "@query": f"?{address.query}", "content-digest": digest}
        base = "".join(f'"{name}": {value}\n' for name, value in lines.items()) + f'"@signature-params": {parameters}'
        signature = base64.b64encode(self.secret.sign(base.encode())).decode()
        return {"content-digest": digest, "signature-input": f"comity={parameters}", "signature": f"comity=:{signature}:"}
