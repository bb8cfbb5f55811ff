"""The house's books, re-footed by hledger: software that knows nothing of Comity."""

import csv
import datetime
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


def pay_owners(federation, project):
    """Owners get terms, are paid, and exchange the rest: how many payments, each as its remittance file says it is."""
    house, door = federation.home("house"), federation.door
    clearing = lambda *words: federation.run("clearing", *words, "--home", house)
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    credits = lambda ucr: f"{ucr // 1_000_000}.{ucr % 1_000_000:06}"
    paid = 0
    for row in json.loads(clearing("report", "payables"))["rows"]:
        owner = row["owner"]
        if not row["terms"]:
            need(row["payable_ucr"] == 0 and row["reasons"].startswith("no_terms"), f"without terms: {row}")
            kind = (("commercial", "--contract", "C-1"), ("agency", "--agreement", "IAA-1"))[paid % 2]
            clearing("owner", "terms", "set", kind[0], owner, "--from", today, "--arrears", *kind[1:])
        # The buyer's project is the owner's own for now, so what it paid comes back with its own terms.
        clearing("owner", "project", owner, project, "--reason", f"test by {door}")
        payable = json.loads(clearing("owner", "show", owner))["payable_ucr"]
        if payable == 0:
            continue
        part = (payable + 1) // 2
        clearing("owner", "paid", owner, "--credits", credits(part), "--payment", f"wire {door}", "--on", today)
        if payable > part:
            ends = (datetime.date.fromisoformat(today) + datetime.timedelta(days=30)).isoformat()
            exchange = ("owner", "exchange", owner, project, "--credits", credits(payable - part))
            clearing(*exchange, "--number", door, "--ends", ends)
        after = json.loads(clearing("owner", "show", owner))
        need((after["payable_ucr"], after["earned_ucr"]) == (0, after["not_payable_ucr"]), f"left: {after}")
        file = json.loads(clearing("owner", "remittance", "--run", f"wire {door}", "--owner", owner))
        lines = [line["amount_ucr"] for one in file["remittances"] for line in one["rows"]]
        need((file["net_ucr"], sum(lines)) == (part, part), f"remittance of {part}: {file}")
        table = list(csv.DictReader(clearing("owner", "remittance", "--run", f"wire {door}", "--awards", "--csv").splitlines()))
        mine = [int(line["amount_ucr"]) for line in table if line["owner"] == owner]
        need(sum(mine) == part and all(line["award_number"] for line in table), f"for the draw-down: {table}")
        paid += 1
    prices = json.loads(clearing("report", "prices"))["rows"]
    need(prices and all(price["quoted_from"] for price in prices), f"prices: {prices}")
    need(paid > 0, f"nobody earned anything through {door}")
    recharge(federation, next(price for price in prices if price["meter"]), today)
    need(json.loads(federation.run("ledger", "audit", "--home", house))["holds"], "the audit does not hold")
    return paid


def recharge(federation, price, today):
    """A schedule as its owner writes it, what a year did cost, and what the report makes of both."""
    house, door, owner = federation.home("house"), federation.door, price["owner"]
    clearing = lambda *words: federation.run("clearing", *words, "--home", house)
    file = federation.folder / f"rates-{door}.toml"
    file.write_text(f"""
schedule = "Core rates {door}"
from = "{today}"
approved_by = "Provost, letter of 1 June"
fiscal_year = "FY{door}"
credits = "2"

[[rates]]
model = "{price["model"]}"
op = "{price["op"]}"
meter = "{price["meter"]}"
ucr_per_million = {max(price["ucr_per_million"], 1)}
expected_units = 1000
""")
    clearing("owner", "schedule", "record", owner, "--file", file)
    listed = [row for row in json.loads(clearing("owner", "schedule", "list")) if row["name"] == f"Core rates {door}"]
    need(len(listed) == 1 and listed[0]["owner"] == owner, f"schedules: {listed}")
    day = datetime.date.fromisoformat(today) - datetime.timedelta(days=100 + len(door))
    year = ("--year", f"FY & {door}", "--from", day.isoformat(), "--to", day.isoformat())
    clearing("owner", "costs", owner, *year, "--credits", "0.5", "--evidence", "general ledger")
    (row,) = [row for row in json.loads(clearing("report", "recovery", "--year", f"FY & {door}"))["rows"] if row["owner"] == owner]
    # Nothing came in on that day: what it did cost is carried on, and rates must rise by it.
    need((row["costs_ucr"], row["recovered_ucr"], row["difference_ucr"]) == (500_000, 0, -500_000), f"recovery: {row}")
    need(row["carried_out_ucr"] == row["carried_in_ucr"] - 500_000 and row["adjust_ppm"] > 0, f"recovery: {row}")
    need(clearing("report", "recovery", "--year", "none", "--csv").startswith("owner,fiscal_year,"), "no table")
