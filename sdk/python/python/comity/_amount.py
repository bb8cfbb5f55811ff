"""Money: whole micro-credits."""

from decimal import Decimal

from .errors import InputError


class Amount(int):
    """An amount in micro-credits, 10⁶ to a credit. An `int` that reads as people write it."""

    @property
    def credits(self):
        """The same in credits, exact."""
        return Decimal(int(self)) / 1_000_000

    def __str__(self):
        if 0 < abs(self) < 1_000:
            return f"{int(self)} µcr"
        text = f"{self.credits:f}"
        return f"{text.rstrip('0').rstrip('.') if '.' in text else text} cr"

    __repr__ = __str__

    def __format__(self, spec):
        return format(int(self), spec) if spec else str(self)

    def __add__(self, other):
        return Amount(int(self) + int(other))

    __radd__ = __add__


def micro(amount):
    """Micro-credits of what a caller gave as an amount; None stays None. A fraction is a mistake: 0.1 would be nothing at all."""
    if amount is None:
        return None
    if isinstance(amount, bool) or not isinstance(amount, int):
        raise InputError(
            f"{amount!r} is no amount: whole micro-credits are", hint="comity.credits('0.1') is a tenth of a credit"
        )
    return int(amount)


def credits(number):
    """Credits as an `Amount`: `credits("0.25")`. A float is taken at its shortest decimal.

    Raises `ValueError` for what is finer than a micro-credit, or below nothing.
    """
    ucr = Decimal(str(number)) * 1_000_000
    if ucr != ucr.to_integral_value() or ucr < 0:
        raise ValueError(f"{number} is no amount of credits: at most six decimals, and not below 0")
    return Amount(int(ucr))
