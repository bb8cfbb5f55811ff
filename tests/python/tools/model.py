"""A language model small enough to be written down: how often a byte came after the bytes before it, in one text.

Orders are mixed as Witten and Bell do: what a longer context has seen counts, and what it has not seen is left to the next shorter
one, down to a uniform guess. So the numbers are probabilities: they sum to one whatever stands before, and the greedy answer is
the likeliest token. It knows by heart what it was taught and is otherwise often wrong, so that a score is neither 0 nor 1.
"""

import functools
import math
import pathlib
from collections import Counter, defaultdict

#: A token is a byte; one more ends a text.
END, TOKENS = 256, 257
ORDER = 16
TAUGHT = pathlib.Path(__file__).with_name("taught.txt")


class Model:
    def __init__(self, text=None):
        self.seen = defaultdict(Counter)
        # A blank line ends a text.
        for part in (text if text is not None else TAUGHT.read_text()).split("\n\n"):
            tokens = (END, *part.encode(), END)
            for at in range(1, len(tokens)):
                for order in range(min(at, ORDER) + 1):
                    self.seen[tokens[at - order:at]][tokens[at]] += 1
        self.after = functools.lru_cache(maxsize=100_000)(self._after)

    def _after(self, context):
        """Log-probabilities of every token after these, of which the last few count."""
        chances = [1 / TOKENS] * TOKENS
        for order in range(len(context) + 1):
            seen = self.seen.get(context[len(context) - order:])
            if seen is None:
                break
            kinds, whole = len(seen), sum(seen.values()) + len(seen)
            chances = [chance * kinds / whole for chance in chances]
            for token, count in seen.items():
                chances[token] += count / whole
        return [math.log(chance) for chance in chances]

    def row(self, tokens):
        """What may come after a text; a text begins behind the end of another."""
        return self.after(tuple((END, *tokens)[-ORDER:]))

    def goes_on(self, tokens, limit, stops):
        """The likeliest tokens, and why they end."""
        said = []
        while len(said) < limit:
            row = self.row((*tokens, *said))
            token = max(range(TOKENS), key=row.__getitem__)
            if token == END:
                return said, "stop"
            said.append(token)
            text = bytes(said)
            for stop in stops:
                if stop and text.endswith(stop.encode()):
                    return said[:len(said) - len(stop.encode())], "stop"
        return said, "length"
