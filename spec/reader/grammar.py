"""The grammar of comity.cddl as a table, and a reader that turns payloads into the JSON view of the vectors.

A row is `key name type`: `id.org` 16 bytes, `tN` text of at most N bytes, `bN` bytes, `[T]N` one to N items (left out when
empty), `xN` exactly N bytes, `T?` optional, a capital letter another record or an enumeration."""

import base64
import re

from strict import Refused, Signed, check_key, decode, did, sha256

RECORDS = {
    "Grant": "1 id id.grant, 2 org id.org, 3 subject t80, 4 models [model]64, 5 tier Tier, 6 ops [Op]16, 7 not_before time, 8 not_after time, 9 plan digest?, 10 reason t400, 11 executions u32?",
    "Agreement": "1 org id.org, 2 subject t80, 3 terms digest, 4 token id.tok, 5 at time",
    "TermsOfUse": "1 org id.org, 2 title t120, 3 text t64000",
    "Plan": "1 title t120, 2 models [model]8, 3 ops [PlanOp]16, 4 hours u16, 5 data [t48]8, 6 purpose t2000, 7 outputs t1000",
    "PlanOp": "1 op Op, 2 calls u32, 3 input_tokens u64?, 4 output_tokens u64?, 5 output_tokens_max u32?, 6 logprobs_max u8?, 7 choices_max u16?, 8 sites [t64]32",
    "NodeCertificate": "1 org id.org, 2 node id.node, 3 transport_keys [key]8, 4 receipt_keys [ReceiptKey]2, 5 not_before time, 6 not_after time, 7 restore u32",
    "ReceiptKey": "1 key key, 2 from time, 3 until time",
    "WriterCertificate": "1 org id.org, 2 key key, 3 epoch u32, 4 not_before time, 5 not_after time",
    "Announcement": "1 org id.org, 2 node id.node, 3 doors [Door]16, 4 issued_at time, 5 expires_at time",
    "Door": "1 kind DoorKind, 2 address t256",
    "Policy": "1 org id.org, 2 name t48, 3 version u64, 4 models [model]64, 5 tiers [TierRule]4, 6 rules [OpRule]64, 7 issued_at time",
    "TierRule": "1 tier Tier, 2 vetting Vetting, 3 grant bool, 4 purposes [t48]16, 5 identity Identity, 6 delegates Delegates, 7 window_max amount, 8 lanes_max u16, 9 charge_max amount, 10 concurrency u16, 11 windows [Window]4, 12 logging Logging, 13 filters [Filter]16, 14 terms digest?, 15 hours [Hours]8, 16 priority Priority?, 17 terms_from time?, 18 terms_before digest?",
    "OpRule": "1 op Op, 2 tier Tier, 3 input_bytes_max u32, 4 output_tokens_max u32, 5 choices_max u16, 6 logprobs_max u8, 7 parameters [t32]64, 8 logprobs_decimals u8?, 9 logit_bias LogitBias?, 10 concurrency u16?, 11 windows [Window]4, 12 charge_max amount?",
    "Window": "1 seconds u32, 2 requests u32?, 3 tokens u64?",
    "Hours": "1 days [Day]7, 2 from u16, 3 until u16",
    "LogitBias": "1 kind BiasKind, 2 entries_max u16",
    "Filter": "1 category t48, 2 action FilterAction",
    "Receipt": "1 token id.tok, 2 leaf digest, 3 lane u16, 4 seq u64, 5 item u32, 6 n u64, 7 charge amount, 8 total amount, 9 remainder u32, 10 meters meters, 11 meters_total meters, 12 flags flags, 13 flags_total flags, 14 bytes_out u64?, 15 rank u64?, 16 basis Basis, 17 ended Ended, 18 request digest, 19 response digest, 20 release digest, 21 manifest digest, 22 tariff digest, 23 history digest, 24 standing u64, 25 node id.node, 26 at time, 27 restore u32, 28 authority digest, 29 model model, 30 op Op",
    "Acknowledgement": "1 token id.tok, 2 lanes [AckLane]64, 3 at time",
    "AckLane": "1 leaf digest, 2 lane u16, 3 n u64, 4 total amount, 5 receipt digest",
    "Final": "1 token id.tok, 2 node id.node, 3 lanes [AckLane]1024, 4 at time",
    "Claim": "1 token id.tok, 2 node id.node, 3 number u64, 4 chains [b12288]64, 5 lanes [ClaimLane]64, 6 acknowledgements [b16384]64, 7 at time",
    "ClaimLane": "1 receipt b2048, 2 settled_n u64?, 3 inclusion [digest]64",
    "Count": "1 node id.node, 2 issuer id.org, 3 from time, 4 to time, 5 page u16, 6 pages u16, 7 lines [CountLine]1024, 8 at time",
    "CountLine": "1 token id.tok, 2 lanes u32, 3 charges u64, 4 charged amount",
    "RevocationList": "1 org id.org, 2 number u64, 3 issued_at time, 4 entries [Revocation]4096",
    "Revocation": "1 kind RevokedKind, 2 subject t80, 3 at time",
    "Statistics": "1 org id.org, 2 period t7, 3 issued_at time, 4 rows [CaseCounts]64",
    "CaseCounts": "1 category t256, 2 opened u64?, 3 upheld u64?, 4 cleared u64?, 5 appealed u64?, 6 overturned u64?, 7 lapsed u64?",
    "Notice": "1 token id.tok, 2 block digest, 3 number u64, 4 cap amount, 5 at time",
    "Roster": "1 federation id.fed, 2 version u64, 3 issued_at time, 4 expires_at time, 5 threshold u8, 6 signers [key]16, 7 organisations [Organisation]5000, 8 anchors [Anchor]256",
    "Organisation": "1 id id.org, 2 name t48, 3 title t96, 4 key key, 5 issuers [IssuerKey]8",
    "IssuerKey": "1 key key, 2 use IssuerUse, 3 status IssuerStatus, 4 from time, 5 retired_at time?",
    "Anchor": "1 node id.node, 2 org id.org, 3 role AnchorRole, 4 transport_key key",
    "Token": "1 issuer idtext.org, 2 subject t80, 3 audience idtext.node, 4 expires_at time, 5 not_before time, 6 issued_at time, 7 id id.tok, 8 holder cnf, -70001 terms Terms",
    "Terms": "1 roster_version u64, 2 scope [Scope]8, 3 budget amount, 4 vetting Vetting, 5 purposes [t48]16, 6 window amount, 7 lanes_max u16, 8 longest_op_s u32, 9 settle_by time, 10 depth u8, 11 grants [digest]8",
    "Scope": "1 model model, 2 release digest, 3 ops [Op]16, 4 tariff digest",
    "Block": "1 previous digest, 2 index u8, 3 cap amount, 4 expires_at time, 5 lanes u16?, 6 depth u8?, 7 models [model]8, 8 ops [Op]16, 9 next key",
    "Quote": "1 id id.quote, 2 issuer id.org, 3 project id.proj, 4 node id.node, 5 scope [Scope]8, 6 window amount, 7 lanes_max u16, 8 longest_op_s u32, 9 issued_at time, 10 expires_at time",
    "Mandate": "1 id id.mand, 2 project id.proj, 3 member key?, 4 join_code digest?, 5 cap amount, 6 cap_per_day amount, 7 models [model]64, 8 not_before time, 9 not_after time, 10 model_caps [ModelCap]16, 11 assists bool?",
    "ModelCap": "1 model model, 2 cap amount",
    "Head": "1 federation id.fed, 2 org id.org, 3 epoch u32, 4 seq u64, 5 previous digest?, 6 index digest, 7 index_bytes u32, 8 entries u32, 9 issued_at time, 10 expires_at time, 11 roster_version u64",
    "Index": "1 entries [Entry]2048",
    "Entry": "1 kind EntryKind, 2 subject t96, 3 version u64, 4 id digest, 5 bytes u32",
    "Summary": "1 model model, 2 version u64, 3 org id.org, 4 title t96, 5 description t400, 6 tasks [t48]8, 7 languages [t8]64, 8 input [Modality]8, 9 output [Modality]8, 10 params_total u64?, 11 context_length u32?, 12 license t64, 13 ops [OpTier]16, 14 nodes [id.node]16, 15 manifest digest, 16 policy digest, 17 tariff digest, 18 release digest, 19 retention_days u16, 20 residency [t2]16, 21 state ModelState, 22 released_at time, 23 sunset time?, 24 price_hint PriceHint?",
    "OpTier": "1 op Op, 2 tier Tier, 3 vetting Vetting, 4 grant bool",
    "PriceHint": "1 input_ucr_per_million u64, 2 output_ucr_per_million u64, 3 request_ucr u64",
    "Manifest": "1 model model, 2 version u64, 3 org id.org, 4 title t96, 5 description t4096, 6 tasks [t48]8, 7 languages [t8]64, 8 input [Modality]8, 9 output [Modality]8, 10 family t48?, 11 architecture t48?, 12 params_total u64?, 13 params_active u64?, 14 context_length u32?, 15 output_tokens_max u32?, 16 license License, 17 release Release, 18 lineage [Lineage]8, 19 training Training?, 20 evaluations [Evaluation]32, 21 data_policy DataPolicy, 22 operator t96?, 23 availability t256?, 24 ops [ManifestOp]16, 25 nodes [id.node]16, 26 policy digest, 27 status Status, 28 released_at time, 29 measured [Measured]32, 30 attestations [Attestation]16, 31 supersedes digest?, 32 documentation t256?, 33 contact t128?",
    "Release": "1 weights digest, 2 tokenizer digest, 3 template digest, 4 dtype t24, 5 tokenizer_name t96, 6 undisclosed bool",
    "License": "1 spdx t64, 2 name t96?, 3 link t256?",
    "Lineage": "1 model t256, 2 relation Relation, 3 digest digest?",
    "Training": "1 flop Fraction?, 2 method t24, 3 hardware t96?, 4 started_at time?, 5 ended_at time?, 6 data t512?",
    "Fraction": "1 mantissa int, 2 exponent10 int",
    "Evaluation": "1 benchmark t96, 2 metric t48, 3 value Fraction, 4 date time, 5 harness t96?, 6 source t256?",
    "DataPolicy": "1 retention_days u16, 2 trains_on_inputs bool, 3 logging Logging, 4 residency [t2]16, 5 data_classes [t48]8, 6 moderation Moderation?",
    "Moderation": "1 by t96, 2 answers bool, 3 retention_days u16, 4 tiers [Tier]4",
    "ManifestOp": "1 op Op, 2 tariff digest, 3 schema b8192?",
    "Status": "1 state ModelState, 2 sunset time?, 3 reason t256?",
    "Measured": "1 name t48, 2 value bool, 3 at time",
    "Attestation": "1 by t96, 2 statement t256, 3 digest digest",
    "Tariff": "1 org id.org, 2 name t96, 3 version u64, 4 prices [Price]64, 5 overhead_tokens u32, 6 output_bytes_per_token u16, 7 issued_at time",
    "Price": "1 op Op, 2 rates [Rate]8, 3 minimum amount",
    "Rate": "1 meter Meter, 2 steps [Step]8",
    "Step": "1 from u64, 2 ucr_per_million u64",
    "LogTransfer": "1 bytes x147, 2 debit_code u16, 3 credit_code u16",
    "LogToken": "1 token id.tok, 2 content digest, 3 budget amount",
    "LogStanding": "1 number u64, 2 content digest",
    "LogClaim": "1 token id.tok, 2 content digest, 3 number u64",
    "LogFinal": "1 token id.tok, 2 content digest",
    "LogDecisions": "1 node id.node, 2 n u64, 3 log u64, 4 content digest",
    "DecisionHead": "1 node id.node, 2 n u64, 3 log u64, 4 size u64, 5 root digest, 6 at time",
    "Export": "1 node id.node, 2 subject t80, 3 contents digest, 4 complete bool, 5 at time",
    "LogCreditNote": "1 token id.tok, 2 content digest, 3 amount amount",
    "CreditNote": "1 id id.credit, 2 node id.node, 3 token id.tok, 4 amount amount, 5 reason CreditReason, 6 case digest?, 7 at time",
}
LOG_ENTRIES = {1: "Transfer", 2: "Token", 3: "Standing", 4: "Claim", 5: "Final", 6: "Decisions", 7: "CreditNote"}
ENUMERATIONS = {
    "DoorKind": (1, "https quic relayed libp2p"), "Tier": (0, "t0 t1 t2 t3"), "Vetting": (0, "none registered vetted"),
    "FilterAction": (1, "allow log annotate hold throttle block suspend"), "Identity": (1, "pseudonym organisation person"),
    "Day": (1, "mon tue wed thu fri sat sun"), "BiasKind": (1, "block any"), "Priority": (1, "low normal high"),
    "Delegates": (1, "all members none"), "Logging": (1, "none metadata bodies"),
    "Basis": (1, "upstream relayed counted vendor_usage nothing"),
    "Ended": (1, "stop length filtered client_gone upstream_error upstream_silent drained"),
    "CreditReason": (1, "case fault goodwill"),
    "RevokedKind": (1, "token block grant node organisation"), "IssuerUse": (1, "budget own_node"),
    "IssuerStatus": (1, "active retired compromised"), "AnchorRole": (1, "house hub"),
    "EntryKind": (1, "summary manifest policy tariff node_certificate announcement revocation_list grant statistics"),
    "Modality": (1, "text image audio video tabular vector"), "ModelState": (1, "active deprecated withdrawn"),
    "Relation": (1, "finetune adapter merge quantized distilled"),
    "Op": (1, "chat completions embeddings logprobs prompt_logprobs predict tokenize moderations responses batch fine_tune activations patch gradients compute"),
    "Meter": (1, "requests input_bytes output_bytes input_tokens output_tokens training_tokens compute_ms start"),
}
KIB = 1024
# kind: record, bytes, items
KINDS = {
    "node-certificate": ("NodeCertificate", 2 * KIB, 64), "writer-certificate": ("WriterCertificate", 512, 16),
    "announcement": ("Announcement", 6 * KIB, 128), "head": ("Head", KIB, 32), "index": ("Index", 512 * KIB, 32768),
    "summary": ("Summary", 3 * KIB, 256), "manifest": ("Manifest", 64 * KIB, 4096), "tariff": ("Tariff", 8 * KIB, 2048),
    "policy": ("Policy", 16 * KIB, 4096), "grant": ("Grant", 8 * KIB, 128), "quote": ("Quote", 4 * KIB, 512),
    "token": ("Token", 4 * KIB, 512), "delegation": ("Block", 2 * KIB, 64), "mandate": ("Mandate", 8 * KIB, 128),
    "receipt": ("Receipt", 2 * KIB, 256), "acknowledgement": ("Acknowledgement", 16 * KIB, 1024),
    "final": ("Final", 192 * KIB, 16384), "claim": ("Claim", 2 * KIB * KIB, 16384),
    "count": ("Count", 64 * KIB, 16384), "credit-note": ("CreditNote", KIB, 16),
    "revocation-list": ("RevocationList", 512 * KIB, 32768), "notice": ("Notice", 512, 16),
    "statistics": ("Statistics", 24 * KIB, 2048), "decision-head": ("DecisionHead", 512, 16),
    "export": ("Export", 512, 16), "agreement": ("Agreement", 512, 16),
}
UNSIGNED = {"release": ("Release", KIB, 32), "plan": ("Plan", 16 * KIB, 1024), "terms-of-use": ("TermsOfUse", 64 * KIB, 8)}


def rows(name):
    for row in RECORDS[name].split(", "):
        key, field, kind = row.split(" ")
        yield int(key), field, kind


TABLES = {name: {key: (field, kind) for key, field, kind in rows(name)} for name in RECORDS}


def id_text(prefix, raw):
    return f"{prefix}-" + base64.b32encode(raw).decode().rstrip("=").lower()


def fault(why):
    return Refused("malformed", why)


def need(holds, why):
    if not holds:
        raise fault(why)


def record(name, value):
    """A map of the wire as a map of names."""
    need(isinstance(value, dict), name)
    table, view = TABLES[name], {}
    for key, item in value.items():
        if key not in table:
            raise Refused("unknown_field", f"{name} {key}")
        field, kind = table[key]
        view[field] = convert(kind.rstrip("?"), item)
    for key, (field, kind) in table.items():
        if field in view:
            continue
        if kind.endswith("?"):
            view[field] = None
        elif kind.startswith("["):
            view[field] = []
        elif kind in ("meters", "flags"):
            view[field] = {}
        else:
            raise fault(f"{name} lacks {field}")
    check = RULES.get(name)
    if check:
        check(view)
    return view


def convert(kind, value):
    if kind.startswith("["):
        inner, most = kind[1:].split("]")
        need(isinstance(value, list) and 1 <= len(value) <= int(most), kind)
        return [convert(inner, item) for item in value]
    if kind in RECORDS:
        return record(kind, value)
    whole = isinstance(value, int) and not isinstance(value, bool)
    if kind in ENUMERATIONS:
        first, names = ENUMERATIONS[kind]
        names = names.split()
        need(whole and first <= value < first + len(names), kind)
        return names[value - first]
    if kind.startswith("id."):
        need(isinstance(value, bytes) and len(value) == 16, kind)
        return id_text(kind[3:], value)
    if kind.startswith("idtext."):
        need(isinstance(value, str) and re.fullmatch(kind[7:] + "-[a-z2-7]{25}[aeimquy4]", value), kind)
        return value
    if kind == "bool":
        need(isinstance(value, bool), kind)
        return value
    if kind in ("digest", "key"):
        need(isinstance(value, bytes) and len(value) == 32, kind)
        return value.hex() if kind == "digest" else did(check_key(value))
    if kind == "cnf":
        need(isinstance(value, dict) and list(value) == [1] and isinstance(value[1], dict), kind)
        need(list(value[1]) == [1, -1, -2] and value[1][1] == 1 and value[1][-1] == 6, kind)
        return convert("key", value[1][-2])
    if kind == "model":
        slug = "[a-z0-9][a-z0-9._-]*"
        need(isinstance(value, str) and len(value) <= 96 and re.fullmatch(f"{slug}/{slug}", value), kind)
        return value
    if kind in ("meters", "flags"):
        need(isinstance(value, dict) and value and all(isinstance(n, int) and n > 0 for n in value.values()), kind)
        return {convert("Meter", key) if kind == "meters" else str(key): n for key, n in value.items()}
    if re.fullmatch("t[0-9]+", kind):
        need(isinstance(value, str) and len(value.encode()) <= int(kind[1:]), kind)
        bad = re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200e\u200f]", value)
        need(not bad, "a character that text must not have")
        return value
    if re.fullmatch("x[0-9]+", kind):
        need(isinstance(value, bytes) and len(value) == int(kind[1:]), kind)
        return value.hex()
    if re.fullmatch("b[0-9]+", kind):
        need(isinstance(value, bytes) and len(value) <= int(kind[1:]), kind)
        return base64.urlsafe_b64encode(value).decode().rstrip("=")
    need(whole, kind)
    low, high = {"u8": (0, 2**8), "u16": (0, 2**16), "u32": (0, 2**32), "u64": (0, 2**63), "amount": (0, 2**63),
                 "time": (0, 2**53), "int": (-2**63, 2**63)}[kind]
    need(low <= value < high, kind)
    return value


def ascending(items):
    need(all(a < b for a, b in zip(items, items[1:])), "order of a set")


def order(kind, names):
    listed = ENUMERATIONS[kind][1].split()
    ascending([listed.index(name) for name in names])


def token_rules(view):
    terms = view["terms"]
    need(view["not_before"] < view["expires_at"], "ends before it begins")
    need(view["expires_at"] - min(view["issued_at"], view["not_before"]) <= 24 * 3600, "24 hours")
    need(terms["scope"] and 1 <= terms["lanes_max"] <= 1024 and terms["depth"] <= 4, "terms")
    ascending([scope["model"] for scope in terms["scope"]])
    for scope in terms["scope"]:
        need(scope["ops"], "ops")
        order("Op", scope["ops"])
    least = view["expires_at"] + terms["longest_op_s"] + 72 * 3600
    need(terms["budget"] == 0 or terms["settle_by"] >= least, "settle_by")


def block_rules(view):
    need(1 <= view["index"] <= 4 and view["lanes"] not in (0, 1) and view["depth"] != 0, "block")
    ascending(view["models"])
    order("Op", view["ops"])


def receipt_rules(view):
    need(view["n"] >= 1 and view["seq"] >= 1 and view["remainder"] < 10**6 and view["charge"] <= view["total"], "receipt")
    need(view["total"] * 10**6 >= view["remainder"], "remainder")
    need(view["n"] > 1 or view["history"] == sha256(b"").hex(), "history")


def policy_rules(view):
    order("Tier", [rule["tier"] for rule in view["tiers"]])
    for rule in view["tiers"] + view["rules"]:
        ascending([window["seconds"] for window in rule["windows"]])
        for window in rule["windows"]:
            need(window["seconds"] > 0 and (window["requests"], window["tokens"]) != (None, None), "window")
    for hours in [hours for rule in view["tiers"] for hours in rule["hours"]]:
        need(hours["from"] < hours["until"] <= 1440, "hours")
        order("Day", hours["days"])
    for rule in view["tiers"]:
        need(rule["terms"] or not rule["terms_from"], "terms from")
        need(not rule["terms_before"] or (rule["terms_from"] and rule["terms_before"] != rule["terms"]), "terms before")
    for rule in view["rules"]:
        ascending(rule["parameters"])
        need(rule["logprobs_decimals"] is None or rule["logprobs_decimals"] <= 9, "decimals")


def grant_rules(view):
    ascending(view["models"])
    order("Op", view["ops"])
    need(view["executions"] is None or (view["plan"] and 1 <= view["executions"] <= 100), "executions")


def plan_rules(view):
    need(view["models"] and len({model.split("/")[0] for model in view["models"]}) == 1, "models of one owner")
    ascending(view["models"])
    need(view["ops"] and 1 <= view["hours"] <= 720, "ops and hours")
    order("Op", [row["op"] for row in view["ops"]])
    ascending(view["data"])
    need(all(view[name].strip() for name in ("title", "purpose", "outputs")), "words")
    for row in view["ops"]:
        scored = row["op"] in ("logprobs", "prompt_logprobs")
        generates = scored or row["op"] in ("chat", "completions", "responses")
        need(row["calls"] >= 1, "calls")
        need(not generates or (row["input_tokens"] and row["output_tokens"]), "tokens")
        need(row["op"] != "embeddings" or row["input_tokens"], "tokens")
        need(generates or (row["output_tokens"], row["output_tokens_max"]) == (None, None), "no answers")
        need(row["output_tokens_max"] != 0 and (row["logprobs_max"] is None or scored), "limits")
        need(row["choices_max"] is None or (generates and row["choices_max"]), "choices")
        need(bool(row["sites"]) == (row["op"] in ("activations", "patch", "gradients")), "sites")
        ascending(row["sites"])


def mandate_rules(view):
    ascending(view["models"])
    ascending([row["model"] for row in view["model_caps"]])
    need(all(row["cap"] <= view["cap"] and (not view["models"] or row["model"] in view["models"]) for row in view["model_caps"]), "caps of models")
    need(view["assists"] in (None, True), "assists is true or left out")


RULES = {"Token": token_rules, "Block": block_rules, "Receipt": receipt_rules,
         "Acknowledgement": lambda view: (need(view["lanes"], "no lane"), ascending([(lane["leaf"], lane["lane"]) for lane in view["lanes"]])),
         "Grant": grant_rules, "Plan": plan_rules,
         "Agreement": lambda view: need(view["subject"], "no project"),
         "TermsOfUse": lambda view: need(view["title"].strip() and view["text"].strip() and "\n" not in view["title"], "terms of use"),
         "Quote": lambda view: (ascending([scope["model"] for scope in view["scope"]]), [order("Op", scope["ops"]) for scope in view["scope"]]),
         "DecisionHead": lambda view: need(all(1 <= view[name] < 2**63 for name in ("n", "log", "size")), "numbers begin with 1"),
         "CreditNote": lambda view: need(view["amount"] and (view["reason"] == "case") == bool(view["case"]), "credit note"),
         "Export": lambda view: need(view["subject"], "of nobody"),
         "Moderation": lambda view: (need(view["by"] and view["tiers"], "moderation by somebody, of tiers"), order("Tier", view["tiers"])),
         "Mandate": mandate_rules,
         "Policy": policy_rules}


def signed(kind, data):
    name, bytes_max, items_max = KINDS[kind]
    return Signed(data, kind, bytes_max, items_max, lambda value: record(name, value))


def plain(kind, data):
    name, bytes_max, items_max = {**KINDS, **UNSIGNED}[kind]
    return record(name, decode(data, bytes_max, items_max))


def log_entry(data):
    """The data of a leaf of the house's log (10-log.md): its kind is in a closed list."""
    parts = decode(data, 4096, 64)
    need(isinstance(parts, list) and len(parts) == 2, "log entry")
    need(isinstance(parts[0], int) and not isinstance(parts[0], bool) and parts[0] in LOG_ENTRIES, "kind of log entry")
    name = LOG_ENTRIES[parts[0]]
    return {"kind": re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower(), **record(f"Log{name}", parts[1])}


def chain_parts(data):
    parts = decode(data, 12 * KIB, 16)
    need(isinstance(parts, list) and 1 <= len(parts) <= 5 and all(isinstance(part, bytes) for part in parts), "chain")
    return parts


def roster_file(data):
    """(payload, {kid: signature}, view)."""
    parts = decode(data, 4 * KIB * KIB, 400)
    need(isinstance(parts, list) and len(parts) == 2 and isinstance(parts[0], bytes) and isinstance(parts[1], list), "roster file")
    need(all(isinstance(pair, list) and len(pair) == 2 for pair in parts[1]), "signatures")
    ascending([kid for kid, _ in parts[1]])
    view = record("Roster", decode(parts[0], 4 * KIB * KIB, 400_000))
    need(1 <= view["threshold"] <= len(view["signers"]), "threshold")
    return parts[0], dict(parts[1]), view
