//! A whole clearing house verified from its log alone.

use std::collections::{BTreeMap, HashMap};

use comity_ledger::{AccountCode, AccountId, AuditReport, Auditor, NewAccount, Posted, Reference, TransferKind};
use comity_wire::log::{Checkpoint, Entry, Growing, LogTransfer, TileId};
use comity_wire::object::Token as ComityToken;
use comity_wire::{Digest, NodeId, Timestamp, TokenId};
use serde::Serialize;

use crate::settlement::CHALLENGE_S;

/// What was found. The house holds if [`LogReport::holds`].
#[derive(Clone, Debug, Serialize)]
pub struct LogReport {
    pub holds: bool,
    pub entries: u64,
    /// Computed from the entries.
    pub root: Digest,
    /// How many entries of each kind.
    pub kinds: BTreeMap<&'static str, u64>,
    pub tokens_budget_ucr: i128,
    pub settled_ucr: i128,
    pub breaks: Vec<LogBreak>,
    /// Breaks found beyond the [`BREAKS_MAX`] that are listed.
    pub breaks_left_out: u64,
    /// The ledger, re-added from the log's transfers.
    pub ledger: AuditReport,
}

/// Breaks listed in a report; more are only counted.
const BREAKS_MAX: usize = 1_000;

/// One place where the log contradicts itself, or the rules that a house keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "break", rename_all = "snake_case")]
#[non_exhaustive]
pub enum LogBreak {
    /// An entry that is none: of no known kind, or not in its one form.
    EntryUnreadable { index: u64, why: String },
    /// The entries have another root than the one that was signed.
    RootDiffers { size: u64, signed: Digest, computed: Digest },
    /// Fewer or more entries than were signed.
    SizeDiffers { signed: u64, found: u64 },
    /// A tile is not what the entries make.
    TileDiffers { level: u8, tile: u64 },
    /// The house said so with its signature, or a witness did, and it does not stand.
    SignatureDiffers { by: String, why: String },
    /// One token's id under two contents, or one content twice.
    TokenRepeated { index: u64, token: TokenId },
    /// A claim or a final that was taken in twice.
    EvidenceRepeated { index: u64, content: Digest },
    /// A claim or a final for a token that the log does not know.
    EvidenceWithoutToken { index: u64, token: TokenId },
    /// Given back on no credit note of the token.
    CreditedWithoutNote { index: u64, transfer: String, token: TokenId, evidence: Digest },
    /// A credit note's transfers are not what it says.
    CreditNoteDiffers { content: Digest, token: TokenId, said_ucr: i128, moved_ucr: i128 },
    /// More was given back than was settled under the token and not taken back by a dispute.
    CreditPassed { token: TokenId, settled_ucr: i128, credited_ucr: i128 },
    /// A credit note of one token was paid by what others had earned, about which disputes could still open.
    CreditedFromOthers { index: u64, transfer: String, token: TokenId, owed_ucr: i128, kept_ucr: i128 },
    /// Revocation lists are numbered upwards.
    StandingNotAscending { index: u64, number: u64 },
    /// Heads of one node's decisions are numbered upwards, and so are the logs that they are of.
    DecisionsNotAscending { index: u64, node: NodeId },
    /// Paid under a token that the log does not know.
    SettledWithoutToken { index: u64, transfer: String, token: TokenId },
    /// Paid on no claim of the token, or on evidence that is none of the token's.
    SettledWithoutClaim { index: u64, transfer: String, token: TokenId, evidence: Digest },
    /// Escrow moved to or from another account than the token's own.
    EscrowOfAnother { index: u64, transfer: String, token: TokenId },
    /// Paid above what the token binds the house to.
    BudgetPassed { token: TokenId, budget_ucr: i128, settled_ucr: i128 },
    /// More went into the token's escrow than its budget.
    EscrowPassed { token: TokenId, budget_ucr: i128, reserved_ucr: i128 },
}

/// An audit under way: every entry in its order, tiles where there are some, then [`LogAuditor::finish`]. Keeps the tree's
/// hashes, every account, token and claim in memory.
#[derive(Default)]
pub struct LogAuditor {
    tree: Growing,
    ledger: Auditor,
    kinds: BTreeMap<&'static str, u64>,
    tokens: HashMap<TokenId, Token>,
    evidence: HashMap<Digest, Evidence>,
    settled: Vec<Settled>,
    credited: Vec<Settled>,
    owners: HashMap<AccountId, Owner>,
    /// When the last transfer was posted.
    at: Timestamp,
    standing: u64,
    /// Of each node its newest head and the log that it is of.
    decisions: HashMap<NodeId, (u64, u64)>,
    breaks: Vec<LogBreak>,
    breaks_left_out: u64,
}

#[derive(Default)]
struct Token {
    content: Option<Digest>,
    /// The account that its first transfer named.
    escrow: Option<AccountId>,
    budget: i128,
    reserved: i128,
    settled: i128,
    /// Taken back by disputes.
    reversed: i128,
    /// Given back by credit notes.
    credited: i128,
    claims: u64,
    /// When credits were set aside for it.
    sold_at: Option<Timestamp>,
    /// Not after this was its final taken.
    final_at: Option<Timestamp>,
    /// What of it was moved to the owner and not away again, but for payments.
    net: i128,
}

impl Token {
    /// Whether the log alone shows that a dispute about it can still open. A house may know of longer times; none of shorter ones.
    fn can_be_disputed(&self, now: Timestamp) -> bool {
        let until = match (self.final_at, self.sold_at) {
            (Some(at), _) => at.plus(CHALLENGE_S),
            (None, Some(at)) => at.plus(ComityToken::SETTLE_S_MIN),
            (None, None) => return false,
        };
        self.reversed == 0 && now < until
    }
}

/// An owner, by the account of what it is owed.
#[derive(Default)]
struct Owner {
    owed: i128,
    /// Tokens of it that were settled first since it was paid last: nothing was paid out of these.
    unpaid: Vec<TokenId>,
}

struct Evidence {
    token: TokenId,
    /// Of a credit note: what it says, and what moved on it.
    note: Option<(i128, i128)>,
}

struct Settled {
    index: u64,
    transfer: String,
    token: TokenId,
    evidence: Digest,
    amount: i128,
}

impl LogAuditor {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn found(&mut self, what: LogBreak) {
        if self.breaks.len() < BREAKS_MAX {
            self.breaks.push(what);
        } else {
            self.breaks_left_out += 1;
        }
    }

    /// The next entry of the log.
    pub fn entry(&mut self, bytes: &[u8]) {
        let index = self.tree.size();
        self.tree.push(bytes);
        let kind = match Entry::from_bytes(bytes) {
            Ok(Entry::Transfer(said)) => {
                self.transfer(index, &said);
                "transfer"
            }
            Ok(Entry::Token(said)) => {
                let token = self.tokens.entry(said.token).or_default();
                if token.content.replace(said.content).is_some() {
                    self.found(LogBreak::TokenRepeated { index, token: said.token });
                } else {
                    token.budget = said.budget.ucr().into();
                }
                "token"
            }
            Ok(Entry::Standing(said)) => {
                if said.number <= self.standing {
                    self.found(LogBreak::StandingNotAscending { index, number: said.number });
                }
                self.standing = said.number;
                "standing"
            }
            Ok(Entry::Claim(said)) => {
                self.tokens.entry(said.token).or_default().claims += 1;
                self.evidence(index, said.token, said.content, None);
                "claim"
            }
            Ok(Entry::Final(said)) => {
                let at = self.at;
                self.tokens.entry(said.token).or_default().final_at.get_or_insert(at);
                self.evidence(index, said.token, said.content, None);
                "final"
            }
            Ok(Entry::Decisions(said)) => {
                let before = self.decisions.insert(said.node, (said.n, said.log));
                if before.is_some_and(|(n, log)| said.n <= n || said.log < log) {
                    self.found(LogBreak::DecisionsNotAscending { index, node: said.node });
                }
                "decisions"
            }
            Ok(Entry::CreditNote(said)) => {
                self.evidence(index, said.token, said.content, Some((said.amount.ucr().into(), 0)));
                "credit_note"
            }
            Err(error) => {
                self.found(LogBreak::EntryUnreadable { index, why: error.to_string() });
                "unreadable"
            }
        };
        *self.kinds.entry(kind).or_default() += 1;
    }

    fn evidence(&mut self, index: u64, token: TokenId, content: Digest, note: Option<(i128, i128)>) {
        if self.evidence.insert(content, Evidence { token, note }).is_some() {
            self.found(LogBreak::EvidenceRepeated { index, content });
        }
        // A token stands in the log before what rests on it, since its signature came first.
        if self.tokens.get(&token).is_none_or(|token| token.content.is_none()) {
            self.found(LogBreak::EvidenceWithoutToken { index, token });
        }
    }

    fn transfer(&mut self, index: u64, said: &LogTransfer) {
        let code = |number: u16| AccountCode::from_number(number.into());
        let read = (Posted::from_bytes(&said.bytes.0), code(said.debit_code), code(said.credit_code));
        let (Some(posted), Some(debit), Some(credit)) = read else {
            return self.found(LogBreak::EntryUnreadable { index, why: "not the ledger's form of a transfer".into() });
        };
        self.ledger.transfer_coded(&posted, debit, credit);
        let moved = posted.transfer;
        let (token, amount) = (TokenId(moved.reference.0), i128::from(moved.amount.ucr()));
        self.at = posted.posted_at;
        self.owed(index, &posted, (debit, credit));
        let of_another = match moved.kind {
            TransferKind::Reserve => {
                let known = self.tokens.entry(token).or_default();
                known.reserved += amount;
                known.sold_at.get_or_insert(posted.posted_at);
                !self.is_escrow_of(token, moved.credit)
            }
            TransferKind::Settle | TransferKind::SuspenseSettle => {
                self.tokens.entry(token).or_default().settled += amount;
                let transfer = moved.id.to_string();
                self.settled.push(Settled { index, transfer, token, evidence: moved.evidence, amount });
                moved.kind == TransferKind::Settle && !self.is_escrow_of(token, moved.debit)
            }
            TransferKind::Refund => !self.is_escrow_of(token, moved.debit),
            TransferKind::DisputeEnd => {
                if credit != AccountCode::OwnerPayable {
                    self.tokens.entry(token).or_default().reversed += amount;
                }
                false
            }
            TransferKind::CreditNote => {
                self.tokens.entry(token).or_default().credited += amount;
                let transfer = moved.id.to_string();
                self.credited.push(Settled { index, transfer, token, evidence: moved.evidence, amount });
                false
            }
            _ => false,
        };
        if of_another {
            self.found(LogBreak::EscrowOfAnother { index, transfer: moved.id.to_string(), token });
        }
    }

    /// What owners are owed, and that no credit note takes of it what another token has in it that may still come into dispute.
    fn owed(&mut self, index: u64, posted: &Posted, (debit, credit): (AccountCode, AccountCode)) {
        let moved = &posted.transfer;
        let (token, amount) = (TokenId(moved.reference.0), i128::from(moved.amount.ucr()));
        if credit == AccountCode::OwnerPayable {
            let known = self.tokens.entry(token).or_default();
            let owner = self.owners.entry(moved.credit).or_default();
            if known.settled == 0 {
                owner.unpaid.push(token);
            }
            known.net += amount;
            owner.owed += amount;
        }
        if debit != AccountCode::OwnerPayable {
            return;
        }
        let owner = self.owners.entry(moved.debit).or_default();
        owner.owed -= amount;
        if matches!(moved.kind, TransferKind::Remit | TransferKind::Exchange) {
            owner.unpaid.clear();
            return;
        }
        self.tokens.entry(token).or_default().net -= amount;
        if moved.kind != TransferKind::CreditNote {
            return;
        }
        let tokens = &self.tokens;
        owner.unpaid.retain(|other| tokens[other].can_be_disputed(posted.posted_at));
        let others = owner.unpaid.iter().filter(|other| **other != token);
        let (owed_ucr, kept_ucr) = (owner.owed, others.map(|other| tokens[other].net.max(0)).sum::<i128>());
        if owed_ucr < kept_ucr {
            let transfer = moved.id.to_string();
            self.found(LogBreak::CreditedFromOthers { index, transfer, token, owed_ucr, kept_ucr });
        }
    }

    /// Whether `account` is the token's own, by its id, and the one that was used before.
    fn is_escrow_of(&mut self, token: TokenId, account: AccountId) -> bool {
        let about = Reference(token.0);
        let forms =
            [NewAccount::credits_near(AccountCode::Escrow, about), NewAccount::credits(AccountCode::Escrow, about)];
        let known = &mut self.tokens.entry(token).or_default().escrow;
        forms.iter().any(|form| form.id == account) && *known.get_or_insert(account) == account
    }

    /// A tile as it was served: compared with what the entries make, in the width that it has.
    pub fn tile(&mut self, tile: TileId, width: u16, bytes: &[u8]) {
        let ours = self.tree.tile(tile);
        if ours.get(..usize::from(width) * 32) != Some(bytes) {
            self.found(LogBreak::TileDiffers { level: tile.level, tile: tile.index });
        }
    }

    /// How many entries were read.
    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    /// Compares with what was signed, and says what was found.
    pub fn finish(mut self, signed: Option<&Checkpoint>) -> LogReport {
        let (entries, root) = (self.tree.size(), self.tree.root());
        if let Some(signed) = signed {
            if signed.size != entries {
                self.found(LogBreak::SizeDiffers { signed: signed.size, found: entries });
            } else if signed.root != root {
                self.found(LogBreak::RootDiffers { size: entries, signed: signed.root, computed: root });
            }
        }
        self.settlements();
        self.credit_notes();
        let sum = |of: fn(&Token) -> i128| self.tokens.values().map(of).sum();
        let (tokens_budget_ucr, settled_ucr) = (sum(|token| token.budget), sum(|token| token.settled));
        let ledger = self.ledger.finish();
        LogReport {
            holds: self.breaks.is_empty() && ledger.holds,
            entries,
            root,
            kinds: self.kinds,
            tokens_budget_ucr,
            settled_ucr,
            breaks: self.breaks,
            breaks_left_out: self.breaks_left_out,
            ledger,
        }
    }

    /// Every payment rests on a token and a claim, and no token pays above its budget. A payment stands in the log before
    /// the claim that it was made in one transaction with: so they are looked at together, at the end.
    fn settlements(&mut self) {
        for Settled { index, transfer, token, evidence, .. } in std::mem::take(&mut self.settled) {
            let known = &self.tokens[&token];
            let of_token =
                |content| self.evidence.get(content).is_some_and(|found| found.token == token && found.note.is_none());
            // What was claimed and waited for its day is paid by time itself, on no new evidence.
            let rests = known.claims > 0 && (evidence == Digest::ZERO || of_token(&evidence));
            let is_logged = known.content.is_some();
            if !is_logged {
                self.found(LogBreak::SettledWithoutToken { index, transfer: transfer.clone(), token });
            }
            if !rests {
                self.found(LogBreak::SettledWithoutClaim { index, transfer, token, evidence });
            }
        }
        let mut ids: Vec<_> = self.tokens.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            let Token { content, budget, reserved, settled, .. } = self.tokens[&id];
            if settled > budget && content.is_some() {
                self.found(LogBreak::BudgetPassed { token: id, budget_ucr: budget, settled_ucr: settled });
            }
            // A reservation whose token is not signed yet has no budget here: it is looked at once it has.
            if reserved > budget && content.is_some() {
                self.found(LogBreak::EscrowPassed { token: id, budget_ucr: budget, reserved_ucr: reserved });
            }
        }
    }

    /// Whatever is given back rests on a credit note of its token, each note moved what it says, and no token gives back more than
    /// it was paid. Looked at at the end, as payments are.
    fn credit_notes(&mut self) {
        for Settled { index, transfer, token, evidence, amount } in std::mem::take(&mut self.credited) {
            let found = self.evidence.get_mut(&evidence).filter(|found| found.token == token);
            match found.and_then(|found| found.note.as_mut()) {
                Some((_, moved)) => *moved += amount,
                None => self.found(LogBreak::CreditedWithoutNote { index, transfer, token, evidence }),
            }
        }
        let said = |(content, found): (&Digest, &Evidence)| found.note.map(|note| (*content, found.token, note));
        let mut notes: Vec<_> = self.evidence.iter().filter_map(said).collect();
        notes.sort_unstable_by_key(|(content, ..)| *content);
        for (content, token, (said_ucr, moved_ucr)) in notes {
            if said_ucr != moved_ucr {
                self.found(LogBreak::CreditNoteDiffers { content, token, said_ucr, moved_ucr });
            }
        }
        let mut ids: Vec<_> = self.tokens.keys().copied().collect();
        ids.sort_unstable();
        for token in ids {
            let Token { settled, reversed, credited, .. } = self.tokens[&token];
            if credited > 0 && credited > settled - reversed {
                self.found(LogBreak::CreditPassed { token, settled_ucr: settled - reversed, credited_ucr: credited });
            }
        }
    }
}
