"""The house's books, re-footed by hledger: software that knows nothing of Comity."""

import json
import subprocess
from decimal import Decimal

from federation import need


def hledger(journal, *words):
    ran = subprocess.run(("hledger", "-f", journal, *words), capture_output=True, text=True)
    need(ran.returncode == 0, f"hledger {' '.join(words)}: {ran.stderr}")
    return ran.stdout


def refoot(federation):
    """How many transfers hledger added up to the same balances as the house's own trial balance."""
    house = federation.home("house")
    report = lambda *words: federation.run("clearing", "report", *words, "--home", house)
    journal = federation.folder / f"books-{federation.door}.journal"
    journal.write_text(report("journal") + "\n")
    hledger(journal, "check")
    rows = json.loads(hledger(journal, "balance", "--depth", "1", "--flat", "--no-total", "--empty", "-O", "json"))[0]
    # hledger's debits are positive; a balance of ours is credits less debits.
    amount = lambda row: -sum(Decimal(str(part["aquantity"]["decimalMantissa"])).scaleb(-part["aquantity"]["decimalPlaces"]) for part in row[3])
    theirs = {row[0]: int(amount(row) * 1_000_000) for row in rows}
    trial = json.loads(report("trial-balance"))
    ours = {row["account"]: row["balance_ucr"] for row in trial["rows"] if row["debits_ucr"] or row["credits_ucr"]}
    need(theirs == ours, f"hledger says {theirs}, the house {ours}")
    need(sum(ours.values()) == 0 and trial["total"]["balance_ucr"] == 0, "the balances do not sum to zero")
    rolled = json.loads(report("roll-forward"))["total"]["closing_ucr"]
    need(rolled == sum(ours.get(account, 0) for account in ("allocation", "unreleased", "escrow")), f"{rolled} rolled forward")
    return journal.read_text().count("seq:")
