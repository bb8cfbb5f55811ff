"""What can go wrong. Every error says what to do next.

A class for each kind of move: `BudgetError` (a limit stopped it, and `limit` names which), `AccessError` (somebody has to let you),
`UnavailableError` (waiting may help), `WalletError` (this computer's files or clock), `InputError` (the call itself), and `ComityError` above
them all.
"""

import json

__all__ = [
    "AccessError",
    "BudgetError",
    "ComityError",
    "EvidenceError",
    "InputError",
    "StoppedError",
    "UnavailableError",
    "WalletError",
    "made",
]


class ComityError(Exception):
    """Something did not happen.

    Attributes: `code` (a word for programs, as in the protocol's table of errors), `hint` (what to do next, or None), `limit` (the
    limit that stopped the call, by name, or None), `status` (the other side's HTTP status, or None), `retry_after_s`, `fields`
    (what the other side said beside it).
    """

    def __init__(self, message, *, code="failed", hint=None, limit=None, status=None, retry_after_s=None, fields=None):
        super().__init__(message)
        self.message, self.code, self.hint, self.limit = message, code, hint, limit
        self.status, self.retry_after_s = status, retry_after_s
        self.fields = fields if isinstance(fields, dict) else json.loads(fields) if fields else {}

    def __str__(self):
        parts = [f"{self.message} [{self.code}]"]
        if self.limit:
            parts.append(f"limit: {self.limit}")
        if self.hint:
            parts.append(f"hint: {self.hint}")
        return "\n".join(parts)

    def __reduce__(self):
        return _unpickled, (type(self), self.message, self.__dict__)


class BudgetError(ComityError):
    """A limit stopped it: yours, the token's, the project's or the owner's. Nothing was spent."""


class AccessError(ComityError):
    """The owner or the house does not let you, yet."""


class UnavailableError(ComityError):
    """The other side cannot now; what was sent is known to the wallet, and is not charged twice."""


class WalletError(ComityError):
    """This computer: its files (profile, key, wallet, the folder of a comparison, a fingerprint), or its clock."""


class EvidenceError(ComityError):
    """An owner's node broke a rule: nothing more is asked of it, and the wallet holds the proof."""


class InputError(ComityError, ValueError):
    """The call says something that cannot be asked."""


class StoppedError(BudgetError):
    """A comparison, a batch or a fingerprint stopped at its cap: what was answered is kept. `result` has it, but for a fingerprint,
    of which `fields` says how far it is.
    """

    result = None


def _unpickled(kind, message, state):
    error = kind(message)
    error.__dict__.update(state)
    return error


_INPUT = {"invalid_request", "malformed", "unknown_field", "too_large", "context_length_exceeded", "content_not_text"}
_WALLET = {"profile", "wallet", "comparison", "batch", "fingerprint", "stale"}


def made(message, *, code, **more):
    """The error of the class that fits. Called by the extension module."""
    status = more.get("status")
    if code == "cap":
        kind = StoppedError
    elif more.get("limit") or status == 402 or code == "wallet_limit":
        kind = BudgetError
    elif code in _WALLET:
        kind = WalletError
    elif code in ("receipt_missing", "receipt_wrong"):
        kind = EvidenceError
    elif code in _INPUT or status in (400, 413, 422):
        kind = InputError
    elif status in (401, 403, 404, 410) or code in ("model_not_found", "op_not_offered", "not_registered"):
        kind = AccessError
    elif status in (408, 409, 429) or (status or 0) >= 500 or code in ("upstream_failed", "node_unreachable"):
        kind = UnavailableError
    else:
        kind = ComityError
    return kind(message, code=code, **more)
