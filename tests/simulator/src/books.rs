//! The house's books: the ledger's model with the accounts of lots, and what the service's tables hold beside it.

use std::collections::{BTreeMap, BTreeSet};

use comity_clearing::lots::{Draw, Drawn, Lot, Purpose, TooLittle, draw, give_back};
use comity_clearing::owners::{Due, lines, past_disputes};
use comity_clearing::settlement::credit::Kept;
use comity_clearing::settlement::{Calendar, Escrow, Movement, MovementKind, Phase};
use comity_ledger::{AccountCode, Group, Memory, NewAccount, Reference, Transfer, TransferId, TransferKind};
use comity_wire::object::Token;
use comity_wire::{Amount, AwardId, Digest, LotId, Op, ProjectId, Timestamp, TokenId, Verified};

use crate::disputes::{Asked, Dispute, Evidence};
use crate::federation::{DAY_S, LAB, NODE, START};

/// What the project was given: how much, for the lab's models alone or for all, from and to which day.
const LOTS: [(u32, bool, u64, u64); 3] = [(600, true, 0, 5), (900, false, 0, 40), (500, false, 1, 400)];

#[derive(Clone)]
pub(crate) struct Books {
    pub(crate) ledger: Memory,
    lots: Vec<Lot>,
    pub(crate) draws: BTreeMap<TokenId, Vec<Draw>>,
    pub(crate) escrows: BTreeMap<TokenId, Escrow>,
    pub(crate) tokens: BTreeMap<TokenId, Verified<Token>>,
    pub(crate) calendar: Calendar,
    /// Claims that were taken.
    pub(crate) answered: BTreeMap<Digest, TokenId>,
    pub(crate) evidence: Evidence,
    pub(crate) asked: BTreeMap<Digest, Asked>,
    pub(crate) disputes: BTreeMap<Digest, Dispute>,
    /// Credit notes by their ids: of which token, over how much.
    pub(crate) notes: BTreeMap<u64, (TokenId, Amount)>,
    /// When each of the tokens was drawn that one holder drew under the PI's mandate.
    pub(crate) under: BTreeMap<TokenId, Timestamp>,
    /// When the PI took the mandate back.
    pub(crate) mandate_ended: Option<Timestamp>,
    /// When a token's final was taken.
    pub(crate) finals: BTreeMap<TokenId, Timestamp>,
    /// What the owner was paid out of each token.
    pub(crate) paid_out: BTreeMap<TokenId, Amount>,
    /// Payments to the owner.
    payments: u64,
}

/// What the lots hold together.
pub(crate) fn awarded() -> i64 {
    LOTS.iter().map(|lot| i64::from(lot.0)).sum()
}

impl Books {
    pub(crate) fn new(now: Timestamp) -> Self {
        let mut ledger = Memory::new();
        let _ = ledger.open(&[issuance(), payable(), remitted(), suspense()], now);
        let mut books = Self {
            ledger,
            lots: Vec::new(),
            draws: BTreeMap::new(),
            escrows: BTreeMap::new(),
            tokens: BTreeMap::new(),
            calendar: Calendar::default(),
            answered: BTreeMap::new(),
            evidence: Evidence::default(),
            asked: BTreeMap::new(),
            disputes: BTreeMap::new(),
            notes: BTreeMap::new(),
            under: BTreeMap::new(),
            mandate_ended: None,
            finals: BTreeMap::new(),
            paid_out: BTreeMap::new(),
            payments: 0,
        };
        for (number, (amount, restricted, from, to)) in (1_u8..).zip(LOTS) {
            let lot = Lot {
                id: LotId([number; 16]),
                project: ProjectId([1; 16]),
                award: AwardId([number; 16]),
                award_number: format!("A-{number}"),
                opens_at: START.plus(from * DAY_S),
                ends_at: START.plus(to * DAY_S),
                released: true,
                frozen: false,
                owners: if restricted { vec![LAB] } else { Vec::new() },
                ops: Vec::new(),
                balance: Amount::from_ucr(amount),
            };
            let _ = books.ledger.open(&[allocation(lot.id)], now);
            let posted = books.post(TransferKind::Award, issuance(), allocation(lot.id), lot.balance, &[number], now);
            assert!(posted, "the award is taken");
            books.lots.push(lot);
        }
        books
    }

    /// The lots, each with what lies in its account.
    pub(crate) fn lots(&self) -> Vec<Lot> {
        let with_balance = |lot: &Lot| Lot { balance: self.available(allocation(lot.id)), ..lot.clone() };
        self.lots.iter().map(with_balance).collect()
    }

    /// What was given into each lot.
    pub(crate) fn given(&self) -> impl Iterator<Item = (LotId, Amount)> {
        self.lots.iter().map(|lot| (lot.id, lot.balance))
    }

    pub(crate) fn available(&self, of: NewAccount) -> Amount {
        let mut accounts = self.ledger.accounts();
        accounts.find(|account| account.id == of.id).map_or(Amount::ZERO, |account| account.available())
    }

    /// Sets credits of the lots aside for a token.
    pub(crate) fn reserve(&mut self, token: TokenId, budget: Amount, now: Timestamp) -> Result<Drawn, TooLittle> {
        let purpose = Purpose { owner: LAB, ops: &[Op::Chat] };
        let drawn = draw(&mut self.lots(), budget, purpose, now)?;
        let _ = self.ledger.open(&[escrow(token)], now);
        for draw in &drawn.draws {
            let id = [&token.0[..], &draw.lot.0].concat();
            let posted = self.post(TransferKind::Reserve, allocation(draw.lot), escrow(token), draw.amount, &id, now);
            assert!(posted, "a lot gives what it holds");
        }
        self.draws.insert(token, drawn.draws.clone());
        Ok(drawn)
    }

    pub(crate) fn post(
        &mut self,
        kind: TransferKind,
        from: NewAccount,
        to: NewAccount,
        amount: Amount,
        id: &[u8],
        now: Timestamp,
    ) -> bool {
        let id = TransferId::derive(kind, &[id]);
        let (reference, evidence) = (Reference::NONE, Digest::ZERO);
        let transfer = Transfer { id, kind, debit: from.id, credit: to.id, amount, reference, evidence };
        self.ledger.post(&[Group::single(transfer)], now)[0].is_created()
    }

    /// What settlement decided. Gives whether the books took it.
    pub(crate) fn movement(&mut self, token: TokenId, movement: &Movement, now: Timestamp) -> bool {
        let serial = [&token.0[..], &movement.serial.to_be_bytes()].concat();
        let amount = movement.amount;
        match movement.kind {
            MovementKind::Settle => self.post(TransferKind::Settle, escrow(token), payable(), amount, &serial, now),
            MovementKind::Suspense => {
                self.post(TransferKind::SuspenseSettle, suspense(), payable(), amount, &serial, now)
            }
            MovementKind::Refund => {
                let left = self.go_home(TransferKind::Refund, escrow(token), (token, amount), &serial, now);
                left.is_some_and(Amount::is_zero)
            }
        }
    }

    /// Credits go back to the lots that the token was drawn on. Gives what did not come from them; `None` where the books
    /// refuse.
    pub(crate) fn go_home(
        &mut self,
        kind: TransferKind,
        from: NewAccount,
        (token, amount): (TokenId, Amount),
        id: &[u8],
        now: Timestamp,
    ) -> Option<Amount> {
        let mut draws = self.draws.get(&token).cloned().unwrap_or_default();
        let (home, left) = give_back(&mut draws, amount);
        for (lot, part) in home {
            let id = [id, &lot.0].concat();
            self.post(kind, from, allocation(lot), part, &id, now).then_some(())?;
        }
        self.draws.insert(token, draws);
        Some(left)
    }

    /// A payment run: what is past disputes. Gives whether the books took it.
    pub(crate) fn pay_run(&mut self, (kept, which): (Kept, BTreeSet<TokenId>), now: Timestamp) -> Option<Amount> {
        let paid = |token: &TokenId| self.paid_out.get(token).copied().unwrap_or_default().ucr();
        let due = self.escrows.keys().map(|token| (*token, self.net(*token).ucr() - paid(token)));
        let due = due.filter(|(_, amount)| *amount != 0);
        let due = due.map(|(token, amount)| Due { token, terms: Digest::ZERO, amount }).collect();
        let left = kept.leaves(self.available(payable()));
        let (due, amount) = past_disputes(due, |token| which.contains(&token), left);
        if amount == 0 {
            return Some(Amount::ZERO);
        }
        for line in lines(&due, amount).expect("no more is paid than is due") {
            let paid = self.paid_out.entry(line.token).or_default();
            *paid = Amount::new(paid.ucr() + line.amount).expect("no more is taken back than was paid");
        }
        let amount = Amount::new(amount).expect("above zero");
        self.payments += 1;
        let id = self.payments.to_be_bytes();
        self.post(TransferKind::Remit, payable(), remitted(), amount, &id, now).then_some(amount)
    }

    /// The owner is paid what it has earned and not been paid, whatever may come of it.
    pub(crate) fn pay_out(&mut self, now: Timestamp) -> Amount {
        let amount = self.available(payable());
        if !amount.is_zero() {
            self.payments += 1;
            let id = self.payments.to_be_bytes();
            let posted = self.post(TransferKind::Remit, payable(), remitted(), amount, &id, now);
            assert!(posted, "an owner is paid what it has");
            // All of it, so what disputes and notes had taken of what was paid before is paid back by it.
            self.paid_out = self.escrows.keys().map(|token| (*token, self.net(*token))).collect();
        }
        amount
    }
}

/// The escrow of a token that was just sold, or that a claim brought.
pub(crate) fn begun(token: &Verified<Token>, held: Amount) -> Escrow {
    Escrow {
        token: token.id,
        content: token.id(),
        node: NODE,
        owner: LAB,
        budget: token.terms.budget,
        window: token.terms.window,
        lanes_max: token.terms.lanes_max,
        issued_at: token.issued_at,
        settle_by: token.terms.settle_by,
        phase: Phase::Open,
        is_disputed: false,
        held,
        paid: Amount::ZERO,
        refunded: Amount::ZERO,
        clamped: Amount::ZERO,
        late: Amount::ZERO,
        movements: 0,
        lanes: BTreeMap::new(),
        heads: BTreeMap::new(),
    }
}

fn issuance() -> NewAccount {
    NewAccount::credits(AccountCode::Issuance, Reference::NONE)
}

pub(crate) fn allocation(lot: LotId) -> NewAccount {
    NewAccount::credits(AccountCode::Allocation, Reference(lot.0))
}

pub(crate) fn payable() -> NewAccount {
    NewAccount::credits(AccountCode::OwnerPayable, Reference(LAB.0))
}

fn remitted() -> NewAccount {
    NewAccount::credits(AccountCode::Remitted, Reference(LAB.0))
}

pub(crate) fn suspense() -> NewAccount {
    NewAccount::credits(AccountCode::Suspense, Reference::NONE)
}

pub(crate) fn escrow(token: TokenId) -> NewAccount {
    NewAccount::credits(AccountCode::Escrow, Reference(token.0))
}

/// What of a token's earnings a dispute has set aside.
pub(crate) fn hold(token: TokenId) -> NewAccount {
    NewAccount::credits(AccountCode::DisputeHold, Reference(token.0))
}
