//! Each rule of the audit from the log alone, on logs that a house never writes.

use comity_ledger::{
    AccountCode as Code, AccountId, NewAccount, Posted, Reference, Transfer, TransferId, TransferKind, Unit,
};
use comity_wire::log::{
    Checkpoint, Entry, Growing, LogClaim, LogCreditNote, LogFinal, LogStanding, LogToken, LogTransfer, TileId,
    TransferBytes,
};
use comity_wire::{Amount, Digest, Encode as _, Timestamp, TokenId};

use super::LogAuditor;

/// A log under writing.
#[derive(Default)]
struct Writing {
    seq: u64,
    at: u64,
    entries: Vec<Vec<u8>>,
}

fn token(name: &str) -> TokenId {
    let digest = Digest::of(name.as_bytes());
    TokenId(digest.0[..16].try_into().unwrap())
}

fn evidence(name: &str) -> Digest {
    if name == "-" { Digest::ZERO } else { Digest::of(name.as_bytes()) }
}

fn account(code: Code, name: &str) -> (AccountId, Code) {
    let about = if name.is_empty() { Reference::NONE } else { Reference(token(name).0) };
    (NewAccount::credits(code, about).id, code)
}

impl Writing {
    fn act(&mut self, entry: Entry) {
        self.entries.push(entry.to_cbor());
    }

    fn moved(&mut self, kind: TransferKind, [from, to]: [(AccountId, Code); 2], amount: u32, about: &str, why: &str) {
        self.seq += 1;
        let transfer = Transfer {
            id: TransferId::derive(kind, &[&self.seq.to_be_bytes()]),
            kind,
            debit: from.0,
            credit: to.0,
            amount: Amount::from_ucr(amount),
            reference: Reference(token(about).0),
            evidence: evidence(why),
        };
        let posted = Posted { seq: self.seq, transfer, unit: Unit::CREDITS, posted_at: Timestamp(1 + self.at) };
        let (bytes, debit_code, credit_code) = (TransferBytes(posted.to_bytes()), from.1.number(), to.1.number());
        self.act(Entry::Transfer(LogTransfer { bytes, debit_code, credit_code }));
    }

    /// One line of a story.
    fn line(&mut self, line: &str) {
        use TransferKind as Kind;
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| words[at].parse::<u32>().unwrap();
        let payable = account(Code::OwnerPayable, "owner");
        let allocation = account(Code::Allocation, "project");
        match words[0] {
            "award" => self.moved(Kind::Award, [account(Code::Issuance, ""), allocation], number(1), "award", "-"),
            "reserve" => {
                self.moved(Kind::Reserve, [allocation, account(Code::Escrow, words[1])], number(2), words[1], "-");
            }
            // Said to be about the first token, into the escrow of the second.
            "misplace" => {
                self.moved(Kind::Reserve, [allocation, account(Code::Escrow, words[2])], number(3), words[1], "-");
            }
            "settle" => {
                self.moved(Kind::Settle, [account(Code::Escrow, words[1]), payable], number(2), words[1], words[3]);
            }
            // Out of the account that an escrow of that token has by the other form of ids.
            "divert" => {
                let about = Reference(token(words[1]).0);
                let near = (NewAccount::credits_near(Code::Escrow, about).id, Code::Escrow);
                self.moved(Kind::Settle, [near, payable], number(2), words[1], words[3]);
            }
            "suspense" => {
                let ways = [account(Code::Suspense, ""), payable];
                self.moved(Kind::SuspenseSettle, ways, number(2), words[1], words[3]);
            }
            "refund" => {
                self.moved(Kind::Refund, [account(Code::Escrow, words[1]), allocation], number(2), words[1], words[3]);
            }
            "remit" => self.moved(Kind::Remit, [payable, account(Code::Remitted, "owner")], number(1), "owner", "-"),
            "hours" => self.at += u64::from(number(1)) * 3600,
            "credit" => self.moved(Kind::CreditNote, [payable, allocation], number(2), words[1], words[3]),
            "note" => {
                let (token, content, amount) = (token(words[1]), evidence(words[2]), Amount::from_ucr(number(3)));
                self.act(Entry::CreditNote(LogCreditNote { token, content, amount }));
            }
            "reverse" => {
                let hold = account(Code::DisputeHold, words[1]);
                self.moved(Kind::Dispute, [payable, hold], number(2), words[1], "dispute");
                self.moved(Kind::DisputeEnd, [hold, allocation], number(2), words[1], "act");
            }
            // From an escrow that is now said to be something else.
            "recode" => {
                let (id, _) = account(Code::Escrow, words[1]);
                self.moved(
                    Kind::Expire,
                    [(id, Code::Allocation), account(Code::Expired, "")],
                    number(2),
                    words[1],
                    "-",
                );
            }
            "skip" => self.seq += 1,
            "token" => {
                let content = evidence(words.get(3).copied().unwrap_or(words[1]));
                let budget = Amount::from_ucr(number(2));
                self.act(Entry::Token(LogToken { token: token(words[1]), content, budget }));
            }
            "claim" => {
                let claim = LogClaim { token: token(words[1]), content: evidence(words[2]), number: 1 };
                self.act(Entry::Claim(claim));
            }
            "final" => self.act(Entry::Final(LogFinal { token: token(words[1]), content: evidence(words[2]) })),
            "standing" => {
                self.act(Entry::Standing(LogStanding { number: number(1).into(), content: evidence("list") }));
            }
            "garbage" => self.entries.push(vec![0x82, 0x06, 0xa0]),
            other => panic!("no line begins with {other}"),
        }
    }
}

/// What an audit finds in a log, by the names of its breaks.
fn found(story: &str) -> Vec<String> {
    let mut writing = Writing::default();
    story.lines().map(str::trim).filter(|line| !line.is_empty()).for_each(|line| writing.line(line));
    let (mut auditor, mut tree) = (LogAuditor::new(), Growing::default());
    for entry in &writing.entries {
        auditor.entry(entry);
        tree.push(entry);
    }
    let signed = Checkpoint { origin: "log".into(), size: tree.size(), root: tree.root() };
    let report = auditor.finish(Some(&signed));
    let named = |found: serde_json::Value| found["break"].as_str().unwrap().to_owned();
    let ours = report.breaks.iter().map(|found| named(serde_json::to_value(found).unwrap()));
    let ledgers = report.ledger.breaks.iter().map(|found| named(serde_json::to_value(found).unwrap()));
    let all: Vec<String> = ours.chain(ledgers).collect();
    assert_eq!(report.holds, all.is_empty());
    all
}

/// A sale that was claimed, paid and ended.
const SOUND: &str = "
    standing 1
    award      100
    reserve  a  50
    token    a  50
    settle   a  20 first
    claim    a     first
    settle   a  10 -
    refund   a  20 end
    final    a     end
    reserve  b  30
    standing 2
";

fn check(more: &str, breaks: &[&str]) {
    assert_eq!(found(&format!("{SOUND}{more}")), breaks, "{more}");
}

#[test]
fn a_sound_log_holds() {
    check("", &[]);
    // Rule 9: a token that the books do not know is paid from suspense, up to its budget.
    check("token c 10 \n suspense c 10 lost \n claim c lost", &[]);
}

#[test]
fn a_payment_rests_on_a_token_and_a_claim_of_its_own() {
    check("settle b 5 x \n claim b x", &["evidence_without_token", "settled_without_token"]);
    check("token b 30 \n settle b 5 x", &["settled_without_claim"]);
    check("token b 30 \n settle b 5 -", &["settled_without_claim"]);
    check("token b 30 \n settle b 5 first \n claim b x", &["settled_without_claim"]);
    check("token b 30 \n settle b 5 x \n claim b x", &[]);
}

#[test]
fn what_is_given_back_rests_on_a_note_of_the_token_and_was_paid_before() {
    check("credit a 5 one \n credit a 2 one \n note a one 7 \n credit a 23 two \n note a two 23", &[]);
    check("credit a 5 one", &["credited_without_note"]);
    check("credit a 5 first", &["credited_without_note"]);
    check("token b 30 \n credit a 5 one \n note b one 5", &["credited_without_note", "credit_note_differs"]);
    check("credit a 5 one \n note a one 6", &["credit_note_differs"]);
    check("note a one 6", &["credit_note_differs"]);
    check("credit a 5 one \n note a one 5 \n note a one 5", &["evidence_repeated"]);
    check(
        "token b 30 \n settle b 9 x \n claim b x \n hours 99 \n credit a 31 one \n note a one 31",
        &["credit_passed"],
    );
    check("reverse a 10 \n credit a 20 one \n note a one 20", &[]);
    check(
        "token b 30 \n settle b 9 x \n claim b x \n reverse a 10 \n hours 99 \n credit a 21 one \n note a one 21",
        &["credit_passed"],
    );
    // A note is no reason to pay.
    check("token b 30 \n settle b 5 one \n claim b x \n credit b 5 one \n note b one 5", &["settled_without_claim"]);
}

/// What another token has earned pays for no note while it can still come into dispute, as far as the log can know.
#[test]
fn no_credit_note_is_paid_by_what_may_still_come_into_dispute() {
    const BREAK: &str = "credited_from_others";
    // b was sold and has earned 9, and is not at its end; a was paid out.
    let after = |between: &str, note: u32, breaks: &[&str]| {
        let end = format!("credit a {note} one \n note a one {note}");
        check(&format!("remit 30 \n token b 30 \n settle b 9 x \n claim b x \n {between} \n {end}"), breaks);
    };
    after("", 1, &[BREAK]);
    after("hours 71", 1, &[BREAK]);
    after("hours 72", 9, &[]);
    after("hours 71 \n settle b 1 x \n final b end2", 1, &[BREAK]);
    after("hours 71 \n settle b 1 x \n final b end2 \n hours 71", 1, &[BREAK]);
    after("hours 71 \n settle b 1 x \n final b end2 \n hours 72", 9, &[]);
    // What was paid out is not kept, and what a dispute took is over.
    after("remit 8", 1, &[]);
    after("reverse b 3 \n reserve c 5 \n token c 5 \n settle c 5 y \n claim c y", 7, &[BREAK]);
    after("reverse b 3", 2, &[]);
    // Above what others keep, anything goes.
    check("token b 30 \n settle b 9 x \n claim b x \n credit a 30 one \n note a one 30", &[]);
    check(
        "token b 30 \n settle b 9 x \n claim b x \n credit a 29 one \n note a one 29 \n credit a 2 two \n note a two 2",
        &[BREAK, "credit_passed"],
    );
}

#[test]
fn nothing_is_paid_or_set_aside_above_a_budget() {
    check("token b 30 \n settle b 30 x \n suspense b 1 x \n claim b x", &["budget_passed"]);
    check("token b 29", &["escrow_passed"]);
}

#[test]
fn an_escrow_is_its_tokens_own() {
    check("misplace b a 5", &["escrow_of_another"]);
    check("token b 30 \n divert b 5 x \n claim b x", &["escrow_of_another", "limit_passed"]);
    check("token c 5 \n divert c 5 x \n claim c x", &["limit_passed"]);
}

#[test]
fn the_ledger_is_added_again() {
    check("reserve b 61", &["limit_passed"]);
    check("settle a 5 first", &["limit_passed"]);
    check("skip \n award 1", &["place_missing"]);
    check("recode b 5", &["codes_differ", "kind_forbidden"]);
}

#[test]
fn nothing_is_said_twice_or_backwards() {
    check("token a 50", &["token_repeated"]);
    check("token a 50 other", &["token_repeated"]);
    check("claim a first", &["evidence_repeated"]);
    check("final a end", &["evidence_repeated"]);
    check("standing 2", &["standing_not_ascending"]);
    check("standing 1", &["standing_not_ascending"]);
}

#[test]
fn what_cannot_be_read_is_a_break_and_not_passed_over() {
    check("garbage", &["entry_unreadable"]);
}

#[test]
fn the_tree_is_the_signed_one_and_its_tiles_are_its_own() {
    let entries: Vec<Vec<u8>> =
        (1..4).map(|number| Entry::Standing(LogStanding { number, content: evidence("list") }).to_cbor()).collect();
    let mut tree = Growing::default();
    entries.iter().for_each(|entry| tree.push(entry));
    let signed = Checkpoint { origin: "log".into(), size: 3, root: tree.root() };
    let tile = TileId { level: 0, index: 0 };
    let bytes = tree.tile(tile);
    let names = |entries: &[Vec<u8>], width: u16, bytes: &[u8]| -> Vec<String> {
        let mut auditor = LogAuditor::new();
        entries.iter().for_each(|entry| auditor.entry(entry));
        auditor.tile(tile, width, bytes);
        let report = auditor.finish(Some(&signed));
        let json = serde_json::to_value(&report.breaks).unwrap();
        json.as_array().unwrap().iter().map(|found| found["break"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&entries, 3, &bytes), [""; 0]);
    assert_eq!(names(&entries, 2, &bytes[..64]), [""; 0]);
    assert_eq!(names(&entries, 3, &bytes[..64]), ["tile_differs"]);
    assert_eq!(names(&entries, 3, &[0; 96]), ["tile_differs"]);
    assert_eq!(names(&entries[..2], 2, &bytes[..64]), ["size_differs"]);
    let swapped = [entries[0].clone(), entries[2].clone(), entries[1].clone()];
    assert_eq!(names(&swapped, 1, &bytes[..32]), ["standing_not_ascending", "root_differs"]);
}
