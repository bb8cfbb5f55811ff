"""Comparisons and batches: many calls, each once, within a cap."""

import json
import pathlib
import sys
import time

from . import errors
from ._amount import Amount
from ._show import Table, escape


class Prompt(dict):
    """A prompt with a name: `Prompt("q1", "What is 2+2?", expected="4")`. `text` may be messages."""

    def __init__(self, id, text, expected=None):
        messages = [{"role": "user", "content": text}] if isinstance(text, str) else list(text)
        super().__init__(id=str(id), messages=messages, **({} if expected is None else {"expected": str(expected)}))


class Setting(dict):
    """A named way to ask: `Setting("warm", temperature=1, max_tokens=100)`."""

    def __init__(self, name="default", *, system=None, max_tokens=256, temperature=0, **fields):
        fields = {"temperature": temperature, "max_tokens": max_tokens, **fields}
        super().__init__(name=name, fields=fields, **({} if system is None else {"system": system}))


def prompts_of(prompts):
    if isinstance(prompts, str):
        prompts = [prompts]
    if isinstance(prompts, dict) and not isinstance(prompts, Prompt):
        prompts = [Prompt(id, text) for id, text in prompts.items()]
    if isinstance(prompts, Prompt):
        prompts = [prompts]
    return [prompt if isinstance(prompt, Prompt) else Prompt(at, prompt) for at, prompt in enumerate(prompts, 1)]


def grid_of(models, prompts, settings, repeats):
    models = [models] if isinstance(models, str) else list(models)
    settings = [settings] if isinstance(settings, Setting) else list(settings or [Setting()])
    return {"models": models, "prompts": prompts_of(prompts), "settings": settings, "repeats": repeats}


_COLUMNS = {
    "model": lambda row: row["model"],
    "answered": lambda row: f"{row['answered']} of {row['calls']}",
    "as expected": lambda row: f"{row['as_expected'] / row['judged']:.1%}" if row["judged"] else "–",
    "cost": lambda row: Amount(row["cost"]),
    "per answer": lambda row: f"{row['mean_cost_ucr']:.1f} µcr",
    "words": lambda row: f"{row['mean_words']:.1f} ± {row['sd_words']:.1f}",
    "median ms": lambda row: row["median_ms"],
}


class Comparison:
    """What came of a comparison. `rows` are the calls, `figures` a table for each model, `spent` what it cost so far."""

    def __init__(self, made):
        self._made = made
        self.folder, self.rows = pathlib.Path(made["folder"]), made["rows"]
        self.figures = Table(made["figures"], _COLUMNS)
        self.agreements, self.skipped = made["agreements"], made["skipped"]
        self.spent = Amount(made["spent_ucr"])

    @property
    def done(self):
        """Whether every call has an answer, or was paid for."""
        return self._made["done"] == self._made["of"]

    def answers(self, prompt=None):
        """`{model: text}` of one prompt by its id; of all, `{prompt: {model: text}}`. The first setting and repeat."""
        cells = {}
        for row in self.rows:
            cells.setdefault(row["prompt"], {}).setdefault(row["model"], row.get("answer"))
        return cells if prompt is None else cells.get(str(prompt), {})

    def to_pandas(self):
        """A row for each call. Needs `pandas`."""
        import pandas

        return pandas.json_normalize(self.rows)

    def to_csv(self, path):
        path = pathlib.Path(path)
        path.write_text(self._made["csv"], encoding="utf-8", newline="")
        return path

    def report(self, path=None):
        """Writes the page with everything side by side; gives its path."""
        path = pathlib.Path(path) if path else self.folder / "report.html"
        path.write_text(self._made["page"], encoding="utf-8")
        return path

    def __repr__(self):
        return f"{self.figures!r}\n{self._made['done']} of {self._made['of']} calls, {self.spent} spent, in {self.folder}"

    def _repr_html_(self):
        tail = f"{self._made['done']} of {self._made['of']} calls, {self.spent} spent, in {self.folder}"
        return f"{self.figures._repr_html_()}<p>{escape(tail)}</p>"


class Batch(dict):
    """How a batch ended: `total`, `answered`, `failed`, `spent`; `output` and `errors` are files."""

    @property
    def spent(self):
        return Amount(self["spent_ucr"])

    @property
    def output(self):
        return pathlib.Path(self["output"])

    def __iter__(self):
        """The output's lines, one by one."""
        with open(self["output"], encoding="utf-8") as lines:
            yield from map(json.loads, lines)

    def __repr__(self):
        return f"{self['answered']} of {self['total']} answered, {self.spent} spent, in {self['output']}"


class Progress:
    """A line on stderr that says how far it is and what it has cost. `stop`: an event that ends the asking."""

    def __init__(self, told=None, quiet=False, stop=None):
        self._stop = stop
        self._told, self._quiet, self._shown = told, quiet, False
        # Where nobody watches, a line is worth writing only where it takes a while.
        self._last = 0.0 if sys.stderr.isatty() else time.monotonic()

    def __call__(self, text):
        if self._stop is not None and self._stop.is_set():
            raise errors.ComityError("stopped before its end", code="stopped", hint="the same call goes on")
        if not text:
            return
        made = json.loads(text)
        row, counts = made if isinstance(made, list) else (None, made)
        if said := counts.get("note") or _foretold(counts):
            self.say(said)
        if "note" in counts:
            return
        if self._told:
            self._told(*([row, counts] if row is not None else [counts]))
        now = time.monotonic()
        if self._quiet or "likely_ucr" in counts or now - self._last < (0.1 if sys.stderr.isatty() else 10):
            return
        self._last, self._shown = now, True
        done = counts.get("done", counts.get("answered"))
        line = f"{done} of {counts['total']} answered; {Amount(counts['spent_ucr'])} spent"
        print(f"\r{line}\x1b[K" if sys.stderr.isatty() else line, end="" if sys.stderr.isatty() else "\n", file=sys.stderr)

    def say(self, text):
        """A line that stays."""
        if not self._quiet:
            self.end()
            print(text, file=sys.stderr)

    def end(self):
        if self._shown and sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr)


def _foretold(counts):
    """What it will cost, as far as that is known before anything is spent."""
    if "likely_ucr" not in counts:
        return None
    if counts["likely_ucr"] is None:
        return f"what it costs is not known: {counts['unknown']}; the cap is {Amount(counts['cap_ucr'])}"
    cost = f"likely {Amount(counts['likely_ucr'])}, at most {Amount(counts['most_ucr'])}"
    left = counts["total"] - counts["done"]
    return f"{left} calls; all {counts['total']} cost {cost}; the cap is {Amount(counts['cap_ucr'])}"


def compared(text):
    """The result, or an error that has it where the cap stopped it."""
    made = json.loads(text)
    result = Comparison(made)
    result.report()
    result.to_csv(result.folder / "results.csv")
    if made["ended"]["how"] == "cap":
        raise _at_the_cap(made["ended"]["message"], result)
    return result


def batched(text):
    made = Batch(json.loads(text))
    if made["capped"]:
        raise _at_the_cap(made["capped"], made)
    return made


def _at_the_cap(message, result):
    error = errors.StoppedError(
        f"stopped at the cap: {message}",
        code="cap",
        limit="cap",
        hint="the same call with a higher cap goes on where it stopped",
    )
    error.result = result
    return error
