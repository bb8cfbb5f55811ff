"""The unmodified `amieclient` package as a site of the house: amie.py COMITY_BINARY

A house of real processes, and a site's accountant who has nothing but `amieclient` and a key. Every flow is completed: project and
account create, project and account inactivate and reactivate, a person modified, two persons merged, a transaction that fails; then
usage: taken, failed, cleared, status.
Prints counts; exits non-zero on the first broken promise.
"""

import json
import pathlib
import re
import sys
import tempfile
from datetime import datetime, timedelta, timezone
from importlib.metadata import version

from amieclient import AMIEClient, UsageClient
from amieclient.packet import Packet
from amieclient.usage import AdjustmentUsageRecord, ComputeUsageRecord, StorageUsageRecord, UsageMessage

from federation import Broken, Federation, need, show_logs

SITE, RESOURCE = "LAB", "tiny.lab.example"
DAY = (datetime.now(timezone.utc) - timedelta(days=1)).date().isoformat()


class Accountant:
    """A site's script, as `examples/process_packets.py` of the package has it."""

    def __init__(self, client):
        self.client, self.seen, self.refuse = client, [], ()
        self.persons = iter([("1002", "bob"), ("1003", "rob")])

    def work(self):
        """Answers everything that waits, until nothing does; the kinds of what it answered."""
        answered = []
        while packets := self.client.list_packets().packets:
            for packet in packets:
                answered.append(packet.packet_type)
                self.seen.append(packet)
                self.answer(packet)
            need(len(answered) < 100, f"it does not end: {answered}")
        return answered

    def answer(self, packet):
        if packet.packet_type in self.refuse:
            self.client.set_transaction_failed(transaction_or_id=packet.trans_rec_id)
            return
        reply = packet.reply_packet()
        if packet.packet_type == "request_project_create":
            reply.ProjectID, reply.PiPersonID, reply.PiRemoteSiteLogin = packet.ProjectID or "TG-1", "1001", "ada"
        elif packet.packet_type == "request_account_create":
            reply.ProjectID = packet.ProjectID
            reply.UserPersonID, reply.UserRemoteSiteLogin = next(self.persons)
        elif packet.packet_type == "request_account_reactivate":
            # Of this one the package infers nothing.
            reply.ProjectID, reply.PersonID, reply.ResourceList = packet.ProjectID, packet.PersonID, packet.ResourceList
        elif reply.packet_type == "inform_transaction_complete":
            reply.StatusCode, reply.DetailCode, reply.Message = "Success", "1", "OK"
        self.client.send_packet(reply)


def flows(house, site):
    """How many transactions the real client completed."""
    done = lambda *expected: need((answered := site.work()) == list(expected), f"{answered}, not {expected}")
    house("award", "--award", "A-1", "--credits", "1.5", "--owner", house.lab)
    done("request_project_create", "data_project_create")
    request = site.seen[0]
    need(request.ServiceUnitsAllocated == "1.5" and request.ResourceList == [RESOURCE], request.json())
    need(request.StartDate.year >= 2026 and request.EndDate > request.StartDate, "dates")
    house("member", "--add", house.student)
    done("request_account_create", "data_account_create")
    house("freeze")
    done("request_project_inactivate", "inform_transaction_complete")
    house("freeze", "--resume")
    done("request_project_reactivate", "inform_transaction_complete", "request_account_reactivate", "inform_transaction_complete")
    house("member", "--remove", house.student)
    done("request_account_inactivate", "inform_transaction_complete")
    # A site that cannot, and can when it is asked again.
    site.refuse = ("request_account_reactivate",)
    house("member", "--add", house.student)
    done("request_account_reactivate")
    site.refuse = ()
    done()
    house.amie("retry", "--site", SITE, house.project)
    done("request_account_reactivate", "inform_transaction_complete")

    # A person is said, and then said otherwise: the site changes its own. Then two of its persons are one.
    for first_name in ("Robert", "Rob"):
        house.amie("person", house.project, house.student, "--first-name", first_name, "--last-name", "Roe", "--organization", "University")
        done("request_user_modify")
        modified = site.seen[-1]
        need((modified.ActionType, modified.PersonID, modified.FirstName) == ("replace", "1002", first_name), modified.json())
    house("member", "--add", house.twin)
    done("request_account_create", "data_account_create")
    house.amie("merge", "--project", house.project, "--keep", house.student, "--gone", house.twin)
    done("request_person_merge")
    merged = site.seen[-1]
    need((merged.KeepPersonID, merged.DeletePersonID) == ("1002", "1003"), merged.json())
    need(merged.KeepGlobalID != merged.DeleteGlobalID, merged.json())

    transaction = site.client.get_transaction(transaction_or_id=request.trans_rec_id)
    kinds = [packet.packet_type for packet in transaction.packets]
    need(transaction.state == "completed" and len(kinds) == 4, f"{transaction.state} {kinds}")
    need(transaction.packets[1].in_reply_to_id == transaction.packets[0].packet_rec_id, "who answered whom")
    packet = site.client.get_packet(packet_rec_id=request.packet_rec_id)
    need(packet.packet_state == "completed" and packet.RecordID == request.RecordID, packet.json())
    site.client.set_packet_client_state(packet, "booked")
    site.client.set_packet_client_json(packet, {"account": 7})
    booked = site.client.list_packets(client_states=["booked"], transaction_states=["completed"]).packets
    need([one.client_json for one in booked] == [{"account": 7}], "what was noted on a packet")
    site.client.clear_packet_client_state(packet)
    site.client.clear_packet_client_json(packet)
    need(not site.client.list_packets(client_states=["booked"]).packets, "a note that was cleared")
    rows = json.loads(house.amie("transactions"))
    states = sorted(row["state"] for row in rows)
    need(states == ["completed"] * 11 + ["failed"], f"{states}")
    return len(rows) - 1


def refused(site, url):
    """What a site may not do, told in the words that the client shows."""
    stranger = AMIEClient(site_name=SITE, api_key="amie-wrong", amie_url=url)
    beginning = Packet._find_packet_type("notify_account_inactivate")(ProjectID="TG-1", PersonID="1002", ResourceList=[RESOURCE])
    cases = [
        ("XA-API-KEY", stranger.list_packets),
        ("begins nothing", lambda: site.client.send_packet(beginning)),
        ("no such", lambda: site.client.get_packet(packet_rec_id=10_000)),
        ("is completed", lambda: site.client.set_transaction_failed(transaction_or_id=1)),
    ]
    for words, call in cases:
        try:
            call()
        except Exception as error:
            need(words in str(error), f"{words!r} is not in {error!r}")
        else:
            raise Broken(f"not refused: {words}")
    return len(cases)


def record(number, username="ada", charge="0.25"):
    return ComputeUsageRecord(
        username=username, local_project_id="TG-1", local_record_id=f"job-{number}", resource=RESOURCE, charge=charge,
        submit_time=f"{DAY}T00:00:00", start_time=f"{DAY}T01:00:00", end_time=f"{DAY}T02:00:00", node_count="1", queue="lab/tiny",
    )


def usage(house, client):
    """How many records the house took of the real client."""
    before = house.statement()
    [response] = client.send([record(number) for number in range(200)] + [record(200, username="eve")])
    need([failed.record.username for failed in response.failed_records] == ["eve"], response.json())
    [response] = client.send(UsageMessage([record(7)]))
    need(not response.failed_records, "the same again")
    [response] = client.send(record(7, charge="0.5"))
    need(len(response.failed_records) == 1, "other figures under the same id")
    refund = AdjustmentUsageRecord("refund", "0.25", f"{DAY}T00:00:00", "TG-1", "refund-7", RESOURCE, "ada", comment="node died")
    storage = StorageUsageRecord("1", f"{DAY}T00:00:00", "TG-1", "disk-1", RESOURCE, "bob", bytes_stored="1")
    for one in (refund, storage):
        [response] = client.send(one)
        need(not response.failed_records, response.json())
    try:
        client.send(StorageUsageRecord("1", f"{DAY}T00:00:00", "TG-1", "disk-2", RESOURCE, "eve"))
    except Exception as error:
        need("eve" in str(error), repr(error))
    else:
        raise Broken("a storage record of nobody was taken")
    failed = client.get_failed_records().failed_records
    need(len(failed) == 2 and all(one.failed_record_id for one in failed), f"{len(failed)} failed records")
    [status] = client.status().resources
    need((status.loaded_record_count, status.failed_job_count, status.total_charge) == (202, 2, "50.75"), status.json())
    need(len(status.errors) == 2, status.json())
    client.clear_failed_records(failed)
    need(not client.get_failed_records().failed_records, "failed records that were cleared")
    [month] = json.loads(house.amie("meter", "--site", SITE, DAY[:7]))
    need((month["records"], month["charge_ucr"]) == (202, 50_750_000), f"{month}")
    need(house.statement() == before, "a site's word moved credits")
    return status.loaded_record_count


class House:
    """What the operator does about one project."""

    def __init__(self, federation, project, student, twin):
        self.federation, self.project, self.student, self.twin = federation, project, student, twin
        self.path = federation.home("house")
        self.lab = json.loads((federation.home("lab") / "organisation.json").read_text())["organisation"]

    def __call__(self, verb, *words):
        extra = ("--funder", "F") if verb == "award" else ()
        return self.federation.run("clearing", "project", verb, "--home", self.path, self.project, *words, *extra)

    def amie(self, *words):
        at = next((index for index, word in enumerate(words) if word.startswith("-")), len(words))
        return self.federation.run("clearing", "amie", *words[:at], "--home", self.path, *words[at:])

    def statement(self):
        return json.loads(self.federation.run("clearing", "report", "trial-balance", "--home", self.path))["rows"]


def key_of(federation, name):
    said = federation.run("--home", federation.home(name), "init", "--roster", federation.home("roster") / "roster.cbor", "--entry", federation.hub)
    return next(word for word in said.split() if word.startswith("did:key:"))


def play(federation):
    federation.set_up({"lab": {}}, amie="127.0.0.1:0")
    log = (federation.folder / "house.log").read_text()
    base = re.search(r"amie: (http://\S+)/amie/v0.10/", log).group(1)
    home, project = federation.project(credits=0)
    house = House(federation, project, key_of(federation, "student"), key_of(federation, "twin"))
    site = json.loads(house.amie("site", "add", "--name", SITE, "--organisation", house.lab, "--resource", RESOURCE))
    url = f"{base}/amie/v0.10/"
    with AMIEClient(site_name=SITE, api_key=site["key"], amie_url=url) as client:
        accountant = Accountant(client)
        completed = flows(house, accountant)
        said_no = refused(accountant, url)
    with UsageClient(site_name=SITE, api_key=site["key"], usage_url=f"{base}/amie/usage/api/v1/") as client:
        records = usage(house, client)
    need(house.amie("usage", "--resource", "comity.example") == "", "nothing was paid, and something is reported")
    return {"amieclient": version("amieclient"), "transactions": completed, "refused": said_no, "usage_records": records}


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="comity-amie-") as folder:
        folder = pathlib.Path(folder)
        federation = Federation(pathlib.Path(sys.argv[1]).resolve(), folder)
        try:
            said = play(federation)
            federation.end_all()
            print(json.dumps(said), flush=True)
            return 0
        except Broken as error:
            print(f"error: {error}", file=sys.stderr)
            show_logs(folder)
            return 1
        except BaseException:
            show_logs(folder)
            raise
        finally:
            federation.kill_all()


if __name__ == "__main__":
    sys.exit(main())
