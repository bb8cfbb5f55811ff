"""Answers, with what proves them."""

import base64
import json

from ._amount import Amount
from ._show import fact_list


class Receipt:
    """A node's signed word on one call: what was asked, what it cost, which release answered.

    `id` is its content id, `object` what it says, `signed` its bytes (COSE).
    """

    def __init__(self, made):
        self.id, self.object = made["id"], made["object"]
        self.signed = base64.urlsafe_b64decode(made["signed"] + "==") if "signed" in made else None

    @property
    def charge(self):
        return Amount(self.object["charge"])

    @property
    def model(self):
        return self.object["model"]

    @property
    def at(self):
        return self.object["at"]

    def __repr__(self):
        return f"Receipt({self.id[:12]}…, {self.model}, {self.charge})"


class Noted:
    """Who answered, and what was said beside it: `served_by` the node, `door` how it was reached; `ignored` names fields that the
    owner's node dropped, `clipped` a limit that shortened the answer. Where the call left its model open (`same:`, `any:`), `asked`
    says how, and `tried` which models did not answer, why, and what that cost.
    """

    served_by = door = ignored = clipped = asked = None

    def _note(self, notes):
        self.served_by, self.door = notes["served_by"], notes["door"]
        self.ignored, self.clipped = notes["ignored"], notes["clipped"]
        self.asked, self.tried = notes["asked"], notes["tried"]


class Answer(Noted):
    """What a model said, what it cost, and the receipt.

    `text` is the first choice's; `body` is all that the node sent, in OpenAI's shape; `model` which one answered. Besides, who served
    it: `served_by`, `door`, `ignored`, `clipped`, `asked`, `tried`, as `Noted` has them.
    """

    def __init__(self, made):
        self.body, self.text = made["body"], made.get("text")
        self.receipt = Receipt(made["receipt"])
        self._note(made["notes"])

    @property
    def cost(self):
        return self.receipt.charge

    @property
    def model(self):
        return self.receipt.model

    @property
    def usage(self):
        """Counted units, as the receipt has them."""
        return dict(self.receipt.object.get("meters", {}))

    def __str__(self):
        return self.text if self.text is not None else json.dumps(self.body)

    def __repr__(self):
        return f"{self.text!r}  ({self.model}, {self.cost}, receipt {self.receipt.id[:12]}…)"

    def _repr_html_(self):
        return fact_list(
            str(self),
            {"model": self.model, "cost": str(self.cost), "served by": self.served_by or "", "receipt": self.receipt.id},
        )


class Embeddings(Answer):
    """Vectors, in the order of the inputs. `len`, iteration and `[n]` are of them."""

    @property
    def vectors(self):
        return [item["embedding"] for item in sorted(self.body["data"], key=lambda item: item["index"])]

    def __len__(self):
        return len(self.body["data"])

    def __iter__(self):
        return iter(self.vectors)

    def __getitem__(self, at):
        return self.vectors[at]

    def __str__(self):
        return f"{len(self)} vectors of {len(self.vectors[0]) if len(self) else 0} numbers"


class Streamed(Noted):
    """What came of a stream so far. Who serves it (`served_by`, `tried`, …) is known from the first piece on; `receipt`, `model` and
    `cost` after the last.
    """

    def __init__(self, core):
        self._core, self.receipt, self._text, self.tried = core, None, [], []

    def _take(self, made):
        """The text of what came next; None where it has none."""
        kind, text = made
        if kind == "notes":
            self._note(json.loads(text))
        elif kind == "receipt":
            self.receipt = Receipt(json.loads(text))
        elif said := _piece(text):
            self._text.append(said)
            return said
        return None

    @property
    def text(self):
        """What came so far."""
        return "".join(self._text)

    @property
    def cost(self):
        return self.receipt.charge if self.receipt else None

    @property
    def model(self):
        return self.receipt.model if self.receipt else None


def _piece(payload):
    """The text of one frame of a stream."""
    choices = json.loads(payload).get("choices") or [{}]
    return (choices[0].get("delta") or {}).get("content") or choices[0].get("text") or ""
