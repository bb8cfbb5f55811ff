"""Whether the model behind a name is still the one that it was: fingerprints, taken once and checked later."""

import json
import os
import pathlib

from ._amount import Amount, micro
from ._show import fact_list


class Fingerprint:
    """What a model answers to small questions, each asked three times. `path` is the file to keep and to give away: it shows its
    prompts, and whoever sees them before a check could prepare for them.

    `facts` has `release`, `taken` (first and last answer, in seconds since 1970), `prompts`, `by` (`tokens` or `words`), `found_from`
    (from which part on that answers otherwise a change is told of) and `rates`; it is None while rounds are left (`rounds_left`).
    `own_roster`: it was read under the file's own roster, which anybody can make.
    """

    def __init__(self, made):
        self.model, self.path, self.facts = made["model"], pathlib.Path(made["path"]), made["facts"]
        self.rounds_left, self.own_roster = made.get("rounds_left", 0), made.get("own_roster")
        self.cost = Amount(self.facts["charge_ucr"] if self.facts else made["spent_ucr"])
        self._text = made["text"] or (
            f"{self.model}: {made['done']} of {made['of']} calls are answered, {self.cost} spent; "
            f"{self.rounds_left} rounds are left: the same call goes on, now or another day"
        )

    def __fspath__(self):
        return os.fspath(self.path)

    def __str__(self):
        return self._text

    __repr__ = __str__

    def _repr_html_(self):
        facts = self.facts or {}
        taken = {"release": facts["release"], "prompts": facts["prompts"], "by": facts["by"]} if facts else {}
        roster = {"under the file's own roster": self.own_roster} if self.own_roster else {}
        return fact_list(self._text, {"cost": str(self.cost), "model": self.model, **taken, "file": self.path, **roster})


class Check:
    """What a check came to. `verdict` is `same`, `changed` (said of a model that has not changed at most once in 10,000 checks),
    `cannot_tell`, or `changed_openly` (its owner has published another release: nothing was asked).

    `why` and `hint` say what it rests on and what comes next, unless it is the same; `openly` is what the owner changed in public;
    `asked` of `of` questions were asked, for `cost`; `folder` has the answers with their receipts; `report` is all of it.
    """

    def __init__(self, made):
        self.model, self.verdict, self.report = made["model"], made["verdict"], made["report"]
        self.why, self.hint, self.openly = made["why"], made["hint"], made["openly"]
        self.asked, self.of, self.cost = made["asked"], made["of"], Amount(made["spent_ucr"])
        self.folder = pathlib.Path(made["folder"]) if made["folder"] else None
        self._text = made["text"]

    @property
    def same(self):
        """Whether it answers as it did. False says nothing by itself: `verdict` does."""
        return self.verdict == "same"

    def __str__(self):
        return "\n".join(part for part in (self._text, self.why, self.hint) if part)

    __repr__ = __str__

    def _repr_html_(self):
        facts = {"cost": str(self.cost), "model": self.model, "verdict": self.verdict.replace("_", " ")}
        asked = {"asked": f"{self.asked} of {self.of}", "answers": self.folder} if self.folder else {}
        return fact_list(str(self), {**facts, **asked})


class Fingerprints:
    """Fingerprints of models. A stop by Ctrl-C, a kill or the cap loses nothing: the same call goes on."""

    def __init__(self, client):
        self._client = client

    def take(
        self, model, *, cap=None, out=None, prompts=128, max_tokens=24, logprobs=None, rounds=3, at_once=8, told=None, quiet=False, _stop=None
    ):
        """Asks small questions three times, into the folder `out` (`NAME.fingerprint`), and keeps what is answered.

        `cap` is what all of it may cost (else `limits.total` of the profile); what it will cost, likely and at most, is said first.
        Where the cap stops it, `errors.StoppedError` is raised. `logprobs`: alternatives of each token; 0 compares words alone, None
        is what the owner's rules give. With `rounds=1` (2, 3) it stops after so many, to go on at another hour. `told(counts)` hears
        how far it is; the first counts have `likely_ucr` and `most_ucr`.
        """
        asked = {"model": model, "folder": None if out is None else os.fspath(out), "prompts": prompts, "max_tokens": max_tokens}
        asked.update(logprobs=logprobs, rounds=rounds, cap=micro(cap), at_once=at_once)
        return Fingerprint(json.loads(self._client._run(self._client._core.take, asked, told, quiet, _stop)))

    def show(self, file, *, model=None, roster=None):
        """What a fingerprint is of, and what a check by it would find. Asks nobody. Without `roster` it is believed under its own."""
        return Fingerprint(json.loads(self._client._act("fingerprint", named=named(file, model, roster))))

    def check(
        self, file, *, cap=None, model=None, roster=None, out=None, anyway=False, at_once=8, told=None, quiet=False, _stop=None
    ):
        """Asks the model again, until it is sure. `file`: a `Fingerprint`, its file, its folder, or a file of evidence that has one.

        Whoever made the file chose how much there is to ask, so `cap` is what it cost to take unless you name another. `roster`: the one
        that you trust (else your profile's). Another release that the owner published is told of and not asked, but for `anyway`.
        """
        asked = {"named": named(file, model, roster), "folder": None if out is None else os.fspath(out)}
        asked.update(anyway=anyway, cap=micro(cap), at_once=at_once)
        return Check(json.loads(self._client._run(self._client._core.check, asked, told, quiet, _stop)))


def named(file, model, roster):
    return {"file": os.fspath(file), "model": model, "roster": None if roster is None else os.fspath(roster)}
