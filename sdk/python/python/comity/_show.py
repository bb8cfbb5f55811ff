"""How things look in a notebook: plain HTML that needs nothing beside it, and text where there is no notebook."""

from html import escape as _escape

_STYLE = "text-align:left;padding:2px 10px 2px 0;vertical-align:top"


def escape(value):
    """Text for a page: what a stranger wrote moves nothing on it."""
    hidden = {ord(c): "\ufffd" for c in "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}
    return _escape(str(value).translate(hidden))


def fact_list(text, facts):
    rows = "".join(
        f'<tr><th style="{_STYLE}">{escape(name)}</th><td style="{_STYLE}">{escape(value)}</td></tr>'
        for name, value in facts.items()
    )
    return (
        f'<div style="white-space:pre-wrap;border-left:3px solid #3b6ea8;padding-left:10px">{escape(text)}</div>'
        f'<details><summary>{escape(facts.get("cost", ""))}</summary><table>{rows}</table></details>'
    )


def html_table(head, rows):
    cells = lambda tag, row: "".join(f'<{tag} style="{_STYLE}">{escape(cell)}</{tag}>' for cell in row)
    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<table><thead><tr>{cells('th', head)}</tr></thead><tbody>{body}</tbody></table>"


def text_table(head, rows):
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[at]) for row in [list(head), *rows]) for at in range(len(head))]
    line = lambda row: "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
    return "\n".join(line(row) for row in [list(head), *rows])


class Table(list):
    """A list of dicts that shows itself as a table, and becomes a `pandas.DataFrame`."""

    def __init__(self, rows, columns):
        super().__init__(rows)
        self._columns = columns

    def __reduce__(self):
        # How it shows itself is code; what it holds is what is kept.
        return list, (list(self),)

    def _cells(self):
        return list(self._columns), [[show(row) for show in self._columns.values()] for row in self]

    def __repr__(self):
        return text_table(*self._cells()) if self else "nothing"

    def _repr_html_(self):
        return html_table(*self._cells())

    def to_pandas(self):
        """Needs `pandas`."""
        import pandas

        return pandas.json_normalize(list(self))
