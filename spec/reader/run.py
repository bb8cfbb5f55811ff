"""Reads every file under spec/vectors without any code of the Rust implementation, and makes some vectors of its own.

`python run.py` verifies; `python run.py --write` also writes spec/vectors/python again."""

import json
import sys
from pathlib import Path

import check
import make
from strict import Refused

VECTORS = Path(__file__).resolve().parent.parent / "vectors"
TABLE = "README.json"


def outcome(vector, states):
    try:
        return {"ok": check.KINDS[vector["kind"]](vector, states)}
    except Refused as refused:
        return {"error": refused.code}


def differs(expect, found):
    if "error" in expect or "error" in found:
        return expect != found
    return any(found["ok"].get(name, "nothing") != value for name, value in expect["ok"].items())


def main():
    problems, counts, refused = [], {}, set()
    own = make.files()
    for name, text in own.items():
        path = VECTORS / "python" / name
        if "--write" in sys.argv[1:]:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            problems.append(f"python/{name} is not what run.py --write writes")
    for path in sorted(path for path in VECTORS.rglob("*") if path.is_file() and path.name != TABLE):
        if path.suffix != ".json":
            problems.append(f"{path.name} is no vector file and stays unread")
            continue
        file = json.loads(path.read_text())
        states = {name: check.State(state) for name, state in file.get("states", {}).items()}
        for vector in file["vectors"]:
            counts[vector["kind"]] = counts.get(vector["kind"], 0) + 1
            found = outcome(vector, states)
            if differs(vector["expect"], found):
                problems.append(f"{path.name} {vector['id']}: {json.dumps(found)[:300]}, stated {json.dumps(vector['expect'])[:300]}")
            elif "error" in found:
                refused.add(found["error"])
        if not file["vectors"]:
            problems.append(f"{path.name} has no vectors")
    for problem in problems:
        print(problem)
    print(", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())))
    print(f"{sum(counts.values())} vectors, {len(own)} files of our own, {len(refused)} codes, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
