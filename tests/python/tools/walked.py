"""One call that will not be answered, by the package and by an OpenAI client at its proxy: walked.py HOME MODEL MAX_TOKENS PROMPT

Run by the interpreter that has the package. Prints what a program reads of the error, as JSON.
"""

import json
import sys
import urllib.error
import urllib.request

import comity


def of_package(client, model, tokens, prompt):
    try:
        # A stream is asked for once: `chat` would wait for what passes.
        with client.stream(model, prompt, max_tokens=tokens) as pieces:
            said = "".join(pieces)
    except comity.ComityError as error:
        return told(error)
    return {"answered": said}


def told(error):
    kind = type(error).__name__
    return {"kind": kind, "code": error.code, "message": error.message, "hint": error.hint, "limit": error.limit, "str": str(error)}


def of_proxy(client, model, tokens, prompt):
    """As the official packages ask, and without asking again."""
    body = {"model": model, "max_tokens": tokens, "messages": [{"role": "user", "content": prompt}]}
    with client.serve() as proxy:
        request = urllib.request.Request(
            f"{proxy.base_url}/chat/completions", json.dumps(body).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {proxy.api_key}"},
        )
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=120) as reply:
                return {"answered": json.load(reply)["choices"][0]["message"]["content"]}
        except urllib.error.HTTPError as error:
            return {"status": error.code, **json.load(error)["error"]}


def main():
    home, model, tokens, prompt = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    try:
        client = comity.Client(home)
    except comity.ComityError as error:
        print(json.dumps({"package": told(error)}))
        return
    try:
        print(json.dumps({
            "package": of_package(client, model, tokens, prompt), "proxy": of_proxy(client, model, tokens, prompt)
        }))
    finally:
        # Not sent home: the next step of the walk may spend what is left.
        client._core.close()


if __name__ == "__main__":
    main()
