"""What docs/start/python.md does not show of the package: run by the interpreter that has it, beside a federation."""

import asyncio
import json
import multiprocessing
import pathlib
import pickle
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import comity

MODEL, OTHER = "lab/tiny", "works/tiny"
HERE = pathlib.Path.cwd()
#: A stream that nobody ends: closing its client does.
KEPT = []


def raised(kind, what):
    try:
        what()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was due")


def money():
    assert comity.credits("0.25") == 250_000 and str(comity.credits("0.25")) == "0.25 cr"
    assert str(comity.Amount(999)) == "999 µcr" and str(comity.Amount(0)) == "0 cr" and repr(comity.credits(2)) == "2 cr"
    for wrong in ("0.0000001", -1):
        raised(ValueError, lambda wrong=wrong: comity.credits(wrong))


def errors(client):
    budget = raised(comity.errors.BudgetError, lambda: client.chat(MODEL, "a secret prompt", max_tokens=20, max_charge=1))
    assert budget.code == "max_too_low" and budget.limit == "max_charge" and budget.hint, budget
    assert "secret" not in str(budget), "a prompt stays out of errors"
    again = pickle.loads(pickle.dumps(budget))
    assert (again.code, again.limit, str(again)) == (budget.code, budget.limit, str(budget))
    access = raised(comity.errors.AccessError, lambda: client.chat("lab/none", "x", max_tokens=5))
    assert access.code == "model_not_found" and "comity models search" in access.hint
    raised(comity.errors.InputError, lambda: client.chat("no-model", "x"))
    form = raised(comity.errors.InputError, lambda: client.compare([MODEL], [comity.Prompt("p", ["a secret"])], out="x"))
    assert "secret" not in str(form), form
    raised(comity.errors.InputError, lambda: client.compare([MODEL], ["x"], cap=0.1, out="x"))
    locked = raised(comity.errors.WalletError, lambda: comity.Client())
    assert "comity proxy" in locked.hint, locked
    empty = raised(comity.errors.WalletError, lambda: comity.Client(HERE / "nowhere"))
    assert "comity init" in str(empty), empty
    cap = raised(
        comity.errors.StoppedError,
        lambda: client.compare([MODEL], ["one", "two"], settings=comity.Setting(max_tokens=9), cap=1, out="capped", quiet=True),
    )
    assert cap.limit == "cap" and cap.result.spent == 0 and not cap.result.done


def beside_one_that_writes(client):
    with comity.Client(look=True) as look:
        assert look.models.search("tiny") and look.wallet.limits()["today_ucr"] > 0
        raised(comity.errors.ComityError, lambda: look.chat(MODEL, "x", max_tokens=5))


def named_calls(client):
    first = client.chat(MODEL, "What is the capital of Peru?", max_tokens=9, key="run 1, item 7")
    again = client.chat(MODEL, "What is the capital of Peru?", max_tokens=9, key="run 1, item 7")
    assert first.receipt.id == again.receipt.id and first.text == again.text
    raised(comity.ComityError, lambda: client.chat(MODEL, "Another question?", max_tokens=9, key="run 1, item 7"))


def threads(client):
    answers = []
    ask = lambda n: answers.append(client.chat(MODEL, f"Question {n}?", max_tokens=4).receipt.id)
    running = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    [thread.start() for thread in running]
    [thread.join() for thread in running]
    assert len(set(answers)) == 8


def streams(client):
    left = client.stream(MODEL, "Tell me all.", max_tokens=200)
    next(left)
    KEPT.append(left)
    with client.stream(MODEL, "Tell me all that you know.", max_tokens=200) as stream:
        next(stream)
    assert stream.receipt is None, "left early, nobody waited for it"
    whole = client.stream(MODEL, "What is the capital of Peru?", max_tokens=9)
    assert "".join(whole) == whole.text and whole.receipt.charge == whole.cost > 0


def fingerprints(client):
    """Within a cap, taken up, shown, checked; what stops it says so."""
    take = lambda **more: client.fingerprint.take(MODEL, prompts=64, max_tokens=4, out="print", quiet=True, **more)
    raised(comity.errors.WalletError, lambda: client.fingerprint.take(MODEL, prompts=9, quiet=True))
    raised(comity.errors.InputError, lambda: client.fingerprint.take(MODEL, cap=0.1, quiet=True))
    told = []
    cap = raised(comity.errors.StoppedError, lambda: take(cap=2_000, told=told.append))
    assert cap.code == cap.limit == "cap" and "higher cap" in cap.hint, cap
    assert 0 < cap.fields["done"] < cap.fields["of"] == 192 and 0 < cap.fields["spent_ucr"] <= 2_000, cap.fields
    assert told[0]["total"] == 192 and told[0]["spent_ucr"] == 0 < told[0]["likely_ucr"] <= told[0]["most_ucr"], told[0]
    assert told[-1]["spent_ucr"] == cap.fields["spent_ucr"] and told[-1]["cap_ucr"] == 2_000
    first = take(rounds=1)
    assert first.rounds_left == 2 and first.facts is None and "the same call goes on" in str(first)
    print_ = take()
    assert print_.rounds_left == 0 and print_.facts["prompts"] == 64 and print_.path == pathlib.Path("print/fingerprint.json")
    assert print_.cost > first.cost > cap.fields["spent_ucr"] and "lab/tiny: 64 prompts" in print_._repr_html_()
    shown = client.fingerprint.show("print")
    assert shown.facts == print_.facts and shown.own_roster and not print_.own_roster
    lie = json.loads(print_.path.read_text())
    lie["fingerprints"][0]["rounds"][1].reverse()
    pathlib.Path("lie.json").write_text(json.dumps(lie))
    wrong = raised(comity.errors.WalletError, lambda: client.fingerprint.check("lie.json", quiet=True))
    assert wrong.code == "fingerprint" and "do not rely on it" in wrong.hint, wrong
    raised(comity.errors.WalletError, lambda: client.fingerprint.show("nothing.json"))
    told.clear()
    check = client.fingerprint.check(print_, told=told.append, quiet=True)
    assert told[0]["cap_ucr"] == print_.cost, "no more than whoever made the file spent"
    assert (check.verdict, check.same, check.why, check.hint) == ("same", True, None, None), check
    assert check.asked == check.of == 64 and 0 < check.cost < print_.cost and (check.folder / "verdict.json").exists()
    assert "same: lab/tiny" in check._repr_html_() and check.report["receipts"]
    capped = raised(comity.errors.StoppedError, lambda: client.fingerprint.check("print", cap=500, quiet=True))
    assert capped.fields["spent_ucr"] <= 500, capped.fields


def at_batch_price(client):
    """The unmodified package: the laboratory has a price for what can wait, the works have none."""
    openai = client.openai()
    line = lambda model, n: json.dumps({
        "custom_id": f"{model} {n}", "method": "POST", "url": "/v1/chat/completions",
        "body": {"model": model, "messages": [{"role": "user", "content": f"What is {n} and 5?"}], "max_tokens": 6},
    })
    text = "\n".join(line(model, n) for model in (MODEL, OTHER) for n in range(3))
    file = openai.files.create(file=("in.jsonl", text.encode()), purpose="batch")
    batch = openai.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    while batch.status not in ("completed", "failed"):
        time.sleep(0.05)
        batch = openai.batches.retrieve(batch.id)
    assert batch.status == "completed" and batch.request_counts.completed == 6, batch
    answers = map(json.loads, openai.files.content(batch.output_file_id).text.splitlines())
    ids = {answer["response"]["request_id"]: answer["custom_id"].split()[0] for answer in answers}
    receipts = {receipt["id"]: receipt["object"] for receipt in client.receipts.list()}
    ops = {(model, receipts[id]["op"]) for id, model in ids.items()}
    assert ops == {(MODEL, "batch"), (OTHER, "chat")}, ops
    cost = lambda model: sum(receipts[id]["charge"] for id, of in ids.items() if of == model)
    assert 0 < cost(MODEL) < cost(OTHER), "the same questions, for less"


def interrupted(client):
    told = []

    def hears(row, counts):
        told.append(counts["done"])
        if len(told) == 2:
            raise KeyboardInterrupt

    plain = comity.Setting(max_tokens=4)
    prompts = [f"Question {n}?" for n in range(6)]
    ask = lambda **more: client.compare([MODEL, OTHER], prompts, settings=plain, at_once=1, out="stopped", quiet=True, **more)
    raised(KeyboardInterrupt, lambda: ask(told=hears))
    done = ask()
    ids = {row["receipt"] for row in done.rows}
    assert done.done and len(done.rows) == len(ids) == 12, "each was asked once"
    assert done.spent == sum(row["charge_ucr"] for row in done.rows)
    table = done.to_pandas()
    assert len(table) == 12 and table.charge_ucr.sum() == done.spent
    assert "<script" not in done.report().read_text() and len(done.to_csv("stopped.csv").read_text().splitlines()) == 13
    assert pickle.loads(pickle.dumps(done)).rows == done.rows and pickle.loads(pickle.dumps(client.models.search()))
    assert "<table" in done._repr_html_() and "<table" in client.models.search()._repr_html_()


def child(queue, client):
    try:
        client.wallet.limits()
        queue.put("it answered")
    except comity.ComityError as error:
        queue.put(str(error))


def forked(client):
    fork = multiprocessing.get_context("fork")
    queue = fork.Queue()
    process = fork.Process(target=child, args=(queue, client))
    process.start()
    assert "forked" in queue.get(timeout=30)
    process.join()


def proxied(client):
    copied = client.openai().with_options(timeout=30)
    ask = [{"role": "user", "content": "x"}]
    assert copied.chat.completions.create(model=MODEL, messages=ask, max_tokens=3).choices, "the proxy outlives its first client"
    with client.serve() as proxy:
        assert proxy.base_url.startswith("http://127.0.0.1:")
        ask = lambda key: urllib.request.urlopen(
            urllib.request.Request(f"{proxy.base_url}/models", headers={"Authorization": f"Bearer {key}"})
        )
        assert MODEL in {model["id"] for model in json.load(ask(proxy.api_key))["data"]}
        refused = raised(urllib.error.HTTPError, lambda: ask("wrong"))
        assert refused.code == 401
    raised(OSError, lambda: ask(proxy.api_key))


async def awaited():
    async with comity.AsyncClient() as client:
        answers = await asyncio.gather(*(client.chat(MODEL, f"Question {n}?", max_tokens=4) for n in range(6)))
        assert len({answer.receipt.id for answer in answers}) == 6
        stream = client.stream(MODEL, "What is the capital of Peru?", max_tokens=9)
        assert "".join([piece async for piece in stream]) == stream.text and stream.cost > 0
        shown = await client.fingerprint.show("print")
        check = await client.fingerprint.check(shown, cap=comity.credits("0.1"), quiet=True)
        assert shown.facts["prompts"] == 64 and check.same and check.cost > 0, check
        openai = client.openai()
        reply = await openai.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "x"}], max_tokens=3)
        assert reply.choices
        await openai.close()
        await cancelled(client)
        assert (await client.receipts.verify())["failures"] == []


#: More than anybody asks in a second.
MANY = 5_000


async def cancelled(client):
    asked = client.compare([MODEL], [f"Number {n}?" for n in range(MANY)], settings=comity.Setting(max_tokens=4), out="left", quiet=True)
    try:
        await asyncio.wait_for(asked, 1.0)
        raise AssertionError(f"{MANY} calls took a second")
    except (TimeoutError, asyncio.TimeoutError):
        pass
    rows = len(pathlib.Path("left/results.jsonl").read_text().splitlines())
    await asyncio.sleep(0.5)
    assert rows == len(pathlib.Path("left/results.jsonl").read_text().splitlines()) < MANY, "nothing goes on behind it"


def command():
    comity_ = pathlib.Path(sys.executable).parent / "comity"
    run = lambda *arguments: subprocess.run([comity_, *arguments], text=True, capture_output=True)
    assert "comity models search" in run().stdout
    status = run("wallet", "status", "--json")
    assert status.returncode == 0 and json.loads(status.stdout), status.stderr
    wrong = run("chat", "lab/none", "x")
    assert wrong.returncode == 1 and "hint:" in wrong.stderr
    unknown = run("node", "run")
    assert unknown.returncode == 2 and "unrecognized subcommand" in unknown.stderr, unknown.stderr


def main():
    money()
    with comity.Client() as client:
        for story in (errors, named_calls, threads, streams, fingerprints, at_batch_price, interrupted, beside_one_that_writes, forked, proxied):
            begun = time.monotonic()
            story(client)
            print(f"{story.__name__}: {time.monotonic() - begun:.1f} s", flush=True)
    raised(comity.errors.InputError, lambda: client.chat(MODEL, "x"))
    asyncio.run(awaited())
    command()


if __name__ == "__main__":
    main()
