"""What schemathesis is told of the house: who signs, and which ids there are. Loaded by it (`SCHEMATHESIS_HOOKS`)."""

import json
import os
import pathlib

import requests
import schemathesis

from signing import Key

TOLD = json.loads(os.environ["COMITY_OPENAPI"])
MEMBER, NODE = (Key(pathlib.Path(TOLD[who])) for who in ("member_key", "transport_key"))
#: Calls of a node. All others that are signed are a member's.
NODES = {("POST", "/v1/claims"), ("GET", "/v1/earnings"), ("GET", "/v1/challenges")}


class Signature(requests.auth.AuthBase):
    """Signs the request as it leaves."""

    def __call__(self, request):
        path = request.path_url.split("?")[0]
        is_nodes = (request.method, path) in NODES or path.endswith("/answers") or "node=" in request.path_url
        body = request.body or b""
        body = body if isinstance(body, bytes) else body.encode()
        request.headers.update((NODE if is_nodes else MEMBER).headers(request.method, request.url, body))
        return request


schemathesis.auth.set_from_requests(Signature())


@schemathesis.hook
def before_call(_, case, kwargs):
    """Ids that fit the schema are nobody's: in what is meant well they are those that there are, so that calls get somewhere."""
    if case.meta is None:
        return
    if case.meta.generation.mode.is_negative:
        if "signature" in str(case.meta.phase.data):
            # What is wrong with this one is its signature: it goes without.
            case._auth = None
            kwargs.pop("auth", None)
        return
    known = {name: TOLD[name] for name in ("project", "node")}
    if case.operation.path.startswith("/v1/projects/"):
        case.path_parameters["id"] = TOLD["project"]
    if case.operation.path == "/log/tile/{path}":
        case.path_parameters["path"] = "0/000.p/1"
    query = case.query or {}
    for name in known.keys() & query.keys():
        query[name] = known[name]
    if "project" in query and "node" in query:
        del query["node"]
    # A cursor is of its list: there is none to make up.
    query.pop("cursor", None)
    for name, most in TOLD["log"].items():
        if name in query:
            query[name] = min(int(query[name]), most)
    if isinstance(case.body, dict):
        for name in known.keys() & case.body.keys():
            case.body[name] = known[name]
