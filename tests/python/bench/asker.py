"""A plain asyncio client, as a researcher would write it: asker.py KIND BASE_URL MODEL AT_ONCE MAX_TOKENS INPUT OUTPUT

`openai` is the package's AsyncOpenAI; `sockets` is HTTP by hand over asyncio's own streams, as little as a client in Python can do.
Reads prompts as JSON lines, asks so many at once, writes a line for each answer as it comes, and prints the seconds from the first to
the last. Its start, which takes longer than ours, is not in them.
"""

import asyncio
import json
import sys
import time
import urllib.parse


class Package:
    def __init__(self, base_url, model, most):
        import openai

        self.client = openai.AsyncOpenAI(base_url=base_url, api_key="unused", max_retries=0)
        self.model, self.most = model, most

    async def ask(self, prompt):
        messages = [{"role": "user", "content": prompt}]
        reply = await self.client.chat.completions.create(model=self.model, messages=messages, max_tokens=self.most)
        return reply.to_dict()


class Sockets:
    def __init__(self, base_url, model, most):
        self.model, self.most, self.idle = model, most, []
        self.url = urllib.parse.urlsplit(base_url)

    async def ask(self, prompt):
        reader, writer = self.idle.pop() if self.idle else await asyncio.open_connection(self.url.hostname, self.url.port)
        messages = [{"role": "user", "content": prompt}]
        body = json.dumps({"model": self.model, "messages": messages, "max_tokens": self.most}).encode()
        writer.write(
            f"POST {self.url.path}/chat/completions HTTP/1.1\r\nhost: {self.url.netloc}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n".encode() + body
        )
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if not head.startswith(b"http/1.1 200 "):
            raise SystemExit(f"no answer: {head!r}")
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        answer = json.loads(await reader.readexactly(length))
        self.idle.append((reader, writer))
        return answer


KINDS = {"openai": Package, "sockets": Sockets}


async def asked(client, lines, at_once, output):
    async def worker():
        for line in lines:
            line = json.loads(line)
            answer = await client.ask(line["prompt"])
            output.write(json.dumps({"custom_id": line["id"], "response": answer}) + "\n")

    await asyncio.gather(*(worker() for _ in range(at_once)))


def main():
    kind, base_url, model, at_once, most, source, output = sys.argv[1:]
    client = KINDS[kind](base_url, model, int(most))
    with open(source) as lines, open(output, "w") as output:
        began = time.perf_counter()
        asyncio.run(asked(client, lines, int(at_once), output))
        print(json.dumps({"seconds": time.perf_counter() - began}))


if __name__ == "__main__":
    main()
