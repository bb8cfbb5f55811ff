"""docs/start/routing.md: two owners of one release, of which the first is gone; and what fits by its conditions."""

from federation import need

PAGE = "routing.md"
OWNERS = ("lab", "museum")
QUOTED = tuple(f"{owner}/tiny" for owner in OWNERS)
#: One by its release, one by conditions; what would be asked asks nobody.
CALLS = 2


def offers(offer, stage):
    """Of one release and one price: 1.5 credits for a million tokens each way, kept in the EU, with the context that the page asks for."""
    text = offer(stage.behind.root)
    for was, is_ in (("context_length = 4096", "context_length = 8192"), ("ucr_per_million = 1_000_000", "ucr_per_million = 500_000"),
                     ("ucr_per_million = 2_000_000", "ucr_per_million = 1_000_000"),
                     ('logging = "metadata"\n\n[[policy.tiers]]', 'logging = "metadata"\nresidency = ["DE"]\n\n[[policy.tiers]]')):
        need(was in text, f"the offer has {was!r}")
        text = text.replace(was, is_)
    return {owner: {"tiny": text} for owner in OWNERS}


def play(stage):
    stage.federation.kill("lab")
    reader = stage.reader("proxied")
    reader.play(PAGE)
    need(stage.behind.answered == CALLS, f"{stage.behind.answered} calls reached the models")
    charged = stage.federation.charged(stage.home)
    need({receipt["model"] for receipt in charged} == {"museum/tiny"}, f"the one that is there answered: {charged}")
    # What a chat drew stays for the next.
    stage.federation.run("--home", stage.home, "wallet", "finish")
    return {"blocks": reader.played}
