"""The unmodified `openai` package through `comity proxy`: run.py COMITY_BINARY

Starts a federation of real processes with the commands that operators use, then the proxy, and talks to it as any
OpenAI program would: through each door in turn, with nodes that have no other. Each call that was answered must have left a receipt, each receipt must verify, and what the
receipts charge must be what the clearing house has paid. Prints counts; exits non-zero on the first broken promise.
"""

import asyncio
import sys

import openai

import again
import batches
import books
import calls
import surface
import transparency
from federation import Broken, eventually, with_federation


def play(federation, home, project):
    base_url = federation.start_proxy(home)
    client = openai.OpenAI(base_url=base_url, api_key="unused", max_retries=0, timeout=60)
    eventually("a first answer", lambda: client.models.retrieve("lab/tiny-b"), also=(openai.APIError,))
    steps = [
        ("calls", lambda: calls.synchronous(client)),
        ("at once", lambda: asyncio.run(calls.asynchronous(base_url))),
        ("headers", lambda: calls.headers(client, base_url, federation)),
        ("refusals", lambda: calls.refusals(client)),
        ("left", lambda: calls.left(client, base_url, federation, home)),
        ("embeddings", lambda: surface.embeddings(client, federation, home)),
        ("completions", lambda: surface.completions(client, federation, home)),
        ("responses", lambda: surface.responses(client, federation, home)),
        ("moderations", lambda: surface.moderations(client, federation, home)),
        ("models", lambda: surface.models(client)),
        ("plain", lambda: surface.plain(base_url, federation, home)),
        ("limits", lambda: surface.limits(client)),
        ("typed", lambda: surface.typed(client)),
        ("penniless", lambda: surface.penniless(federation)),
        ("by key", lambda: again.by_key(client)),
        ("by the sdk", lambda: again.by_the_sdk(base_url)),
        ("impatient", lambda: again.impatient(base_url)),
        ("meant", lambda: again.meant(client)),
        ("batch", lambda: batches.whole(client)),
        ("wrong batch", lambda: batches.wrong(client)),
        ("cancelled batch", lambda: batches.cancelled(client)),
        ("killed proxy", lambda: again.after_a_kill(federation, home, base_url)),
        ("killed batch", lambda: batches.killed(federation, home, base_url)),
    ]
    answered, charged = {}, {}
    for name, step in steps:
        try:
            answered[name] = step()
        except (AssertionError, openai.APIError) as error:
            raise Broken(f"{name}: {error!r}") from error
        # Told where the books do not come out even: a receipt may also come a moment after its step.
        charged[name] = len(federation.charged(home)) - sum(charged.values())
    client.close()
    odd = {name: (answered[name], charged[name]) for name in answered if answered[name] != charged[name]}
    if odd:
        print(f"answered and charged when the step was over: {odd}", file=sys.stderr)
    closed = federation.close_books(home, project, sum(answered.values()))
    paid = books.pay_owners(federation, project)
    return {"openai": openai.__version__, **closed, "owners_paid": paid, "of": answered, "log_entries_proved": transparency.verify(federation),
            "transfers_refooted": books.refoot(federation)}


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    return with_federation(sys.argv[1], play)


if __name__ == "__main__":
    sys.exit(main())
