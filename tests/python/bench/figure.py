"""One measured figure, printed for scripts and for people, as every bench does."""

import json


def figure(metric, value, unit, n, note, yardstick=None):
    """`yardstick`: its name, and its value."""
    name, beside = yardstick or (None, None)
    ratio = value / beside if beside and value is not None else None
    return {"metric": metric, "value": rounded(value), "unit": unit, "yardstick": name, "yardstick_value": rounded(beside),
            "ratio": rounded(ratio), "n": n, "note": note}


def rounded(value):
    return None if value is None else round(float(value), 3)


def show(figures, as_json):
    if as_json:
        for one in figures:
            print(json.dumps(one, ensure_ascii=False, separators=(",", ":")))
        return
    print(f"{'metric':<26} {'value':>12} {'unit':<4} {'yardstick':>12} {'ratio':>8} {'n':>8}  yardstick; note")
    for one in figures:
        value, beside, ratio = (number(one[key]) for key in ("value", "yardstick_value", "ratio"))
        said = "; ".join(text for text in (one["yardstick"], one["note"]) if text)
        print(f"{one['metric']:<26} {value:>12} {one['unit']:<4} {beside:>12} {ratio:>8} {one['n']:>8}  {said}")


def number(value):
    return "-" if value is None else f"{value:.3f}"
