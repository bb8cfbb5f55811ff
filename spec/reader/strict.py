"""Comity-CBOR (01-encoding.md, 1.1), keys (02-keys.md, 2.1) and signed objects (1.6), written from the text alone."""

import hashlib

import cbor2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cwt import COSE, COSEKey

DEPTH_MAX = 8
INTEGER_MAX = 2**63 - 1


class Refused(Exception):
    """A refusal with its stable code."""

    def __init__(self, code, why=""):
        super().__init__(f"{code}: {why}")
        self.code = code


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


class Scanner:
    """Reads one item; the first fault in reading order is reported."""

    def __init__(self, data, items_max):
        self.data, self.at, self.items = data, 0, items_max

    def head(self):
        if self.at >= len(self.data):
            raise Refused("malformed", "the bytes end")
        first = self.data[self.at]
        major, low = first >> 5, first & 31
        self.at += 1
        if low < 24:
            return major, low
        if low > 27 or major == 7:
            raise Refused("non_deterministic", "indefinite, float or simple")
        width = 1 << (low - 24)
        tail = self.data[self.at:self.at + width]
        if len(tail) < width:
            raise Refused("malformed", "the bytes end")
        self.at += width
        value = int.from_bytes(tail, "big")
        if value < (24, 1 << 8, 1 << 16, 1 << 32)[low - 24]:
            raise Refused("non_deterministic", "not the shortest head")
        if major < 2 and value > INTEGER_MAX:
            raise Refused("malformed", "integer range")
        return major, value

    def room(self, claimed):
        if claimed > len(self.data) - self.at:
            raise Refused("malformed", "a length beyond the end")
        return claimed

    def item(self, depth=0):
        if self.items == 0:
            raise Refused("too_large", "too many items")
        self.items -= 1
        major, value = self.head()
        if major == 0:
            return value
        if major == 1:
            return -1 - value
        if major in (2, 3):
            end = self.at + self.room(value)
            chunk, self.at = self.data[self.at:end], end
            if major == 2:
                return chunk
            try:
                return chunk.decode("utf-8")
            except UnicodeDecodeError:
                raise Refused("malformed", "not UTF-8") from None
        if major in (4, 5) and depth == DEPTH_MAX:
            raise Refused("too_deep")
        if major == 4:
            return [self.item(depth + 1) for _ in range(self.room(value))]
        if major == 5:
            return self.map(self.room(value), depth)
        if major == 7 and value in (20, 21):
            return value == 21
        raise Refused("non_deterministic", "a tag or a simple value")

    def map(self, pairs, depth):
        result, before = {}, None
        for _ in range(pairs):
            start = self.at
            if start >= len(self.data):
                raise Refused("malformed", "the bytes end")
            if self.data[start] >> 5 > 1:
                raise Refused("malformed", "a key that is no integer")
            key = self.item(depth + 1)
            form = self.data[start:self.at]
            if before is not None and before >= form:
                raise Refused("non_deterministic", "order of keys")
            before, result[key] = form, self.item(depth + 1)
        return result


def decode(data, bytes_max=8192, items_max=1024):
    """One item and nothing after it."""
    if len(data) > bytes_max:
        raise Refused("too_large")
    scanner = Scanner(data, items_max)
    value = scanner.item()
    if scanner.at < len(data):
        raise Refused("malformed", "trailing bytes")
    # A general decoder must agree on what the strict one takes.
    assert cbor2.loads(data) == value, data.hex()
    return value


def encode(value):
    """The one encoding; maps are sorted here."""
    if isinstance(value, bool):
        return b"\xf5" if value else b"\xf4"
    if isinstance(value, int):
        return _head(0, value) if value >= 0 else _head(1, -1 - value)
    if isinstance(value, bytes):
        return _head(2, len(value)) + value
    if isinstance(value, str):
        text = value.encode()
        return _head(3, len(text)) + text
    if isinstance(value, list):
        return _head(4, len(value)) + b"".join(map(encode, value))
    pairs = sorted((encode(key), encode(item)) for key, item in value.items())
    return _head(5, len(pairs)) + b"".join(key + item for key, item in pairs)


def _head(major, value):
    if value < 24:
        return bytes([major << 5 | value])
    for low, width in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if value < 1 << 8 * width:
            return bytes([major << 5 | low]) + value.to_bytes(width, "big")
    raise ValueError(value)


# Keys.

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def check_key(key):
    """Canonical, on the curve, not of small order."""
    y = int.from_bytes(key, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    if y >= P:
        raise Refused("invalid_key", "not canonical")
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if (x * x - square) % P or (x == 0 and sign):
        raise Refused("invalid_key", "no point")
    if x & 1 != sign:
        x = P - x
    for _ in range(3):
        product = D * x * x * y * y % P
        x, y = 2 * x * y * pow(1 + product, -1, P) % P, (y * y + x * x) * pow(1 - product, -1, P) % P
    if (x, y) == (0, 1):
        raise Refused("invalid_key", "small order")
    return key


def did(key):
    number, text = int.from_bytes(b"\xed\x01" + key, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = ALPHABET[digit] + text
    return "did:key:z" + text


def key_of(text):
    number = 0
    if not text.startswith("did:key:z"):
        raise Refused("invalid_key", "no did:key")
    for digit in text[9:]:
        if digit not in ALPHABET:
            raise Refused("invalid_key", "no base58")
        number = number * 58 + ALPHABET.index(digit)
    if number.bit_length() > 272 or number >> 256 != 0xED01:
        raise Refused("invalid_key", "no Ed25519 key")
    return check_key((number & (2**256 - 1)).to_bytes(32, "big"))


def verify(key, message, signature):
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature:
        raise Refused("bad_signature") from None


def seed_of(name):
    return sha256(b"comity/vectors/" + name.encode())


def secret(name):
    return Ed25519PrivateKey.from_private_bytes(seed_of(name))


def public(name):
    return secret(name).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


# Signed objects.


def typ(kind):
    return f"application/vnd.comity.{kind}.v1"


def header(kind, key):
    return encode({1: -19, 4: key, 16: typ(kind)})


def to_be_signed(kind, protected, payload):
    return encode(["Signature1", protected, b"comity/v1/" + kind.encode(), payload])


def cose_key(key, private=None):
    fields = {1: 1, 3: -19, -1: 6, -2: key, 2: key}
    if private is not None:
        fields[-4] = private
    return COSEKey.new(fields)


def sign(kind, payload, name):
    """Signed by an independent COSE library, then held against our own form of it."""
    key = public(name)
    ours = {1: -19, 4: key, 16: typ(kind)}
    data = COSE.new(deterministic_header=True).encode_and_sign(
        payload, cose_key(key, seed_of(name)), protected=ours, unprotected={}, external_aad=b"comity/v1/" + kind.encode())
    signature = secret(name).sign(to_be_signed(kind, header(kind, key), payload))
    form = b"\xd2" + encode([header(kind, key), {}, payload, signature])
    assert data == form, "cwt and the text of the specification disagree"
    return data


class Signed:
    """Well-formed bytes of a kind; nobody has looked at the signature."""

    def __init__(self, data, kind, bytes_max, items_max, read):
        if len(data) > bytes_max:
            raise Refused("too_large")
        if data[:1] != b"\xd2":
            raise Refused("malformed", "tag 18")
        outer = decode(data[1:], bytes_max, 8)
        if not isinstance(outer, list) or len(outer) != 4:
            raise Refused("malformed", "four parts")
        self.protected, unprotected, self.payload, self.signature = outer
        if not isinstance(self.protected, bytes) or unprotected != {} or not isinstance(unprotected, dict):
            raise Refused("malformed", "headers")
        if not isinstance(self.payload, bytes) or not isinstance(self.signature, bytes) or len(self.signature) != 64:
            raise Refused("malformed", "payload or signature")
        self.kind, self.data = kind, data
        self.kid = self._header()
        self.value = read(decode(self.payload, bytes_max, items_max))
        self.id = sha256(self.protected, self.payload)

    def _header(self):
        labels = decode(self.protected, 256, 16)
        if not isinstance(labels, dict):
            raise Refused("malformed", "protected header")
        for label, value in labels.items():
            if label not in (1, 4, 16):
                raise Refused("unknown_field", f"label {label}")
            if label == 4 and (not isinstance(value, bytes) or len(value) != 32):
                raise Refused("malformed", "kid")
            if label != 4 and (isinstance(value, bool) or not isinstance(value, (int, str))):
                raise Refused("malformed", "alg or typ")
        if 16 not in labels:
            raise Refused("malformed", "typ")
        if labels[16] != typ(self.kind):
            raise Refused("wrong_kind")
        if labels.get(1, -19) != -19:
            raise Refused("wrong_algorithm")
        if 1 not in labels or 4 not in labels:
            raise Refused("malformed", "alg or kid")
        return labels[4]

    def verify(self, key):
        if key != self.kid:
            raise Refused("wrong_key")
        verify(key, to_be_signed(self.kind, self.protected, self.payload), self.signature)
        aad = b"comity/v1/" + self.kind.encode()
        assert COSE.new().decode(self.data, cose_key(key), external_aad=aad) == self.payload, "cwt agrees"
        return self
