"""What a stream says of who answers it, where the first choice is gone: run by the interpreter that has the package."""

import asyncio

import comity

#: Of three with one price the first by name is asked first.
ASKED, GONE, OTHERS = "same:lab/tiny", "lab/tiny", ("school/tiny", "works/tiny")
QUESTION = "What is the capital of Peru?"


def says_who(answer):
    assert answer.asked == ASKED and answer.served_by.startswith("node-") and answer.model in OTHERS, vars(answer)
    (tried,) = answer.tried
    assert tried == {"model": GONE, "code": "node_unreachable", "cost": {"charged": 0}}, tried


def waiting():
    with comity.Client() as client:
        stream = client.stream(ASKED, QUESTION, max_tokens=9)
        assert (stream.served_by, stream.tried, stream.model) == (None, [], None), "before its first piece nobody knows"
        next(stream)
        assert stream.tried and stream.served_by, "with the first piece it is known"
        "".join(stream)
        says_who(stream)
        named = client.stream(OTHERS[1], QUESTION, max_tokens=9)
        "".join(named)
        assert (named.asked, named.tried, named.model) == (None, [], OTHERS[1]) and named.served_by, vars(named)


def whole():
    # A client of its own: one that knows of a death asks that model last for a while.
    with comity.Client() as client:
        says_who(client.chat(ASKED, QUESTION, max_tokens=9))


async def awaited():
    async with comity.AsyncClient() as client:
        stream = client.stream(ASKED, QUESTION, max_tokens=9)
        assert "".join([piece async for piece in stream]) == stream.text
        says_who(stream)


if __name__ == "__main__":
    waiting()
    whole()
    asyncio.run(awaited())
