"""Files and batches as the SDK knows them. Each function gives how many lines were charged."""

import json
import time

import openai

from calls import MODEL, refused
from federation import EVENTUALLY_S, Broken, need

ENDPOINT = "/v1/chat/completions"


def lines(count, name, model=MODEL):
    def line(number):
        body = {"model": model, "messages": [{"role": "user", "content": f"What is {number} plus 3?"}], "max_tokens": 8}
        return json.dumps({"custom_id": f"{name}-{number}", "method": "POST", "url": ENDPOINT, "body": body})

    return [line(number) for number in range(count)]


def submit(client, text):
    file = client.files.create(file=("input.jsonl", text.encode()), purpose="batch")
    need(file.object == "file" and file.bytes == len(text.encode()) and file.purpose == "batch", f"{file}")
    return client.batches.create(input_file_id=file.id, endpoint=ENDPOINT, completion_window="24h", metadata={"a": "b"})


def over(client, batch, until=None):
    """Waits for the end, or until something holds."""
    limit = time.monotonic() + EVENTUALLY_S
    while time.monotonic() < limit:
        batch = client.batches.retrieve(batch.id)
        if batch.status in ("completed", "failed", "expired", "cancelled") or (until and until(batch)):
            return batch
        time.sleep(0.05)
    raise Broken(f"a batch did not end: {batch}")


def content(client, file_id):
    return [json.loads(line) for line in client.files.content(file_id).text.splitlines()] if file_id else []


def whole(client):
    """Ten lines, one of them for a model that is not there."""
    text = "\n".join([*lines(9, "good"), *lines(1, "bad", "lab/none")])
    submitted = submit(client, text)
    need(submitted.object == "batch" and submitted.metadata == {"a": "b"}, f"{submitted}")
    batch = over(client, submitted)
    need(batch.status == "completed" and batch.completed_at, f"{batch}")
    counts = batch.request_counts
    need((counts.total, counts.completed, counts.failed) == (10, 9, 1), f"{counts}")
    output = content(client, batch.output_file_id)
    need({line["custom_id"] for line in output} == {f"good-{n}" for n in range(9)}, f"{output}")
    for line in output:
        need(line["error"] is None and line["response"]["status_code"] == 200, f"{line}")
        need(line["response"]["body"]["choices"][0]["message"]["content"] is not None, f"{line}")
    (error,) = content(client, batch.error_file_id)
    need(error["custom_id"] == "bad-0" and error["error"]["code"] == 404, f"{error}")
    need(error["response"]["body"]["error"]["code"] == "model_not_found", f"{error}")
    need(batch.id in {listed.id for listed in client.batches.list()}, "batches list")
    files = {file.id for file in client.files.list()}
    need({batch.input_file_id, batch.output_file_id, batch.error_file_id} <= files, "files list")
    need(client.files.delete(batch.input_file_id).deleted, "files delete")
    refused(openai.NotFoundError, 404, "not_found", lambda: client.files.retrieve(batch.input_file_id))
    return 9


def wrong(client):
    """What cannot be a batch is told before anything is asked."""
    batch = over(client, submit(client, "\n".join([*lines(1, "x"), "{", *lines(1, "x")])))
    need(batch.status == "failed" and batch.request_counts.completed == 0, f"{batch}")
    need([(fault.code, fault.line) for fault in batch.errors.data] == [("invalid_json_line", 2), ("duplicate_custom_id", 3)],
         f"{batch.errors}")
    create = client.batches.create
    file = client.files.create(file=("input.jsonl", b"{}"), purpose="batch")
    refused(openai.NotFoundError, 404, None,
            lambda: create(input_file_id="file-none", endpoint=ENDPOINT, completion_window="24h"))
    refused(openai.BadRequestError, 400, None,
            lambda: create(input_file_id=file.id, endpoint="/v1/images/generations", completion_window="24h"))
    refused(openai.BadRequestError, 400, None,
            lambda: client.files.create(file=("a.txt", b"a"), purpose="assistants"))
    return 0


def cancelled(client):
    batch = submit(client, "\n".join(lines(400, "cancel")))
    over(client, batch, until=lambda batch: batch.request_counts.completed > 0)
    client.batches.cancel(batch.id)
    batch = over(client, batch)
    counts = batch.request_counts
    need(batch.status == "cancelled" and batch.cancelled_at and batch.cancelling_at, f"{batch}")
    need(0 < counts.completed < counts.total == 400, f"{counts}")
    need(len(content(client, batch.output_file_id)) == counts.completed, "each line that was answered is in the output")
    return counts.completed


def killed(federation, home, base_url):
    """Killed twice in the middle: every line is answered, or told as charged and lost; none is charged twice."""
    count = 60
    listen = base_url.removeprefix("http://").removesuffix("/v1")
    client = openai.OpenAI(base_url=base_url, api_key="unused", max_retries=0, timeout=60)
    batch = submit(client, "\n".join(lines(count, "killed")))
    for done in (5, 25):
        over(client, batch, until=lambda batch: batch.request_counts.completed >= done)
        federation.kill("proxy")
        federation.start_proxy(home, "--listen", listen)
    batch = over(client, batch)
    counts = batch.request_counts
    output, errors = content(client, batch.output_file_id), content(client, batch.error_file_id)
    need(batch.status == "completed" and counts.completed + counts.failed == counts.total == count, f"{batch}")
    ids = [line["custom_id"] for line in output + errors]
    need(len(ids) == len(set(ids)) == count, "each line has one result")
    need(all(line["response"]["body"]["error"]["code"] == "replayed" for line in errors), f"{errors}")
    need(counts.completed >= count - 16, f"more was lost than was under way: {counts}")
    client.close()
    return count
