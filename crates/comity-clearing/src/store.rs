//! The house's tables, beside the ledger's in one database. SQL stands in here and nowhere else in this crate.
//!
//! Every function that writes joins a transaction which the group commit opened, and its name says so: `…_in_tx`.

pub(crate) mod acts;
pub(crate) mod amie;
pub(crate) mod answers;
pub(crate) mod audit;
pub(crate) mod awards;
pub(crate) mod central;
pub(crate) mod challenges;
pub(crate) mod counts;
pub(crate) mod credits;
pub(crate) mod decisions;
pub(crate) mod disputes;
pub(crate) mod feed;
pub(crate) mod findings;
pub(crate) mod house;
pub(crate) mod issuing;
pub(crate) mod lists;
pub(crate) mod log;
pub(crate) mod logins;
pub(crate) mod mandates;
pub(crate) mod money;
pub(crate) mod ops;
pub(crate) mod oversight;
pub(crate) mod owners;
pub(crate) mod payouts;
pub(crate) mod periods;
pub(crate) mod persons;
pub(crate) mod prices;
pub(crate) mod projects;
pub(crate) mod proposals;
pub(crate) mod quotes;
pub(crate) mod replicas;
pub(crate) mod reports;
pub(crate) mod sample;
pub(crate) mod schedules;
pub(crate) mod settlement;
pub(crate) mod tokens;
pub(crate) mod totals;

use comity_ledger::db::{Migrations, Row};
use comity_wire::{Amount, Digest, PublicKey, Timestamp};

use crate::failure::Failure;

/// The house's own migrations: the ledger's are 1–499.
pub(crate) fn migrations() -> Migrations {
    // In PostgreSQL the tables began as they stand in SQLite after number 503.
    Migrations::default()
        .with(
            500,
            "clearing",
            include_str!("../migrations/0500_clearing.sql"),
            include_str!("../migrations/postgres/0500_clearing.sql"),
        )
        .with(501, "node keys", include_str!("../migrations/0501_node_keys.sql"), "")
        .with(502, "contradictions", include_str!("../migrations/0502_contradictions.sql"), "")
        .with(503, "late", include_str!("../migrations/0503_late.sql"), "")
        .with(
            504,
            "lots",
            include_str!("../migrations/0504_lots.sql"),
            include_str!("../migrations/postgres/0504_lots.sql"),
        )
        .with(
            505,
            "acts",
            include_str!("../migrations/0505_acts.sql"),
            include_str!("../migrations/postgres/0505_acts.sql"),
        )
        .with(
            506,
            "mandates",
            include_str!("../migrations/0506_mandates.sql"),
            include_str!("../migrations/postgres/0506_mandates.sql"),
        )
        .with(
            507,
            "draws by token alone",
            include_str!("../migrations/0507_draws.sql"),
            include_str!("../migrations/0507_draws.sql"),
        )
        .with(
            508,
            "disputes",
            include_str!("../migrations/0508_disputes.sql"),
            include_str!("../migrations/postgres/0508_disputes.sql"),
        )
        .with(
            512,
            "amie",
            include_str!("../migrations/0512_amie.sql"),
            include_str!("../migrations/postgres/0512_amie.sql"),
        )
        .with(
            RESTORED,
            "restored",
            include_str!("../migrations/0516_restored.sql"),
            include_str!("../migrations/postgres/0516_restored.sql"),
        )
        .with(
            509,
            "periods",
            include_str!("../migrations/0509_periods.sql"),
            include_str!("../migrations/postgres/0509_periods.sql"),
        )
        .with(
            520,
            "log",
            include_str!("../migrations/0520_log.sql"),
            include_str!("../migrations/postgres/0520_log.sql"),
        )
        .with(
            521,
            "answers",
            include_str!("../migrations/0521_answers.sql"),
            include_str!("../migrations/postgres/0521_answers.sql"),
        )
        .with(
            530,
            "owners",
            include_str!("../migrations/0530_owners.sql"),
            include_str!("../migrations/postgres/0530_owners.sql"),
        )
        .with(
            531,
            "prices",
            include_str!("../migrations/0531_prices.sql"),
            include_str!("../migrations/postgres/0531_prices.sql"),
        )
        .with(
            532,
            "schedules",
            include_str!("../migrations/0532_schedules.sql"),
            include_str!("../migrations/postgres/0532_schedules.sql"),
        )
        .with(
            533,
            "exchanges",
            include_str!("../migrations/0533_exchanges.sql"),
            include_str!("../migrations/postgres/0533_exchanges.sql"),
        )
        .with(
            540,
            "counts",
            include_str!("../migrations/0540_counts.sql"),
            include_str!("../migrations/postgres/0540_counts.sql"),
        )
        .with(
            541,
            "slots",
            include_str!("../migrations/0541_slots.sql"),
            include_str!("../migrations/postgres/0541_slots.sql"),
        )
        .with(
            550,
            "replicas",
            include_str!("../migrations/0550_replicas.sql"),
            include_str!("../migrations/postgres/0550_replicas.sql"),
        )
        .with(
            560,
            "amie persons",
            include_str!("../migrations/0560_amie_persons.sql"),
            include_str!("../migrations/postgres/0560_amie_persons.sql"),
        )
        .with(
            561,
            "central sites",
            include_str!("../migrations/0561_central.sql"),
            include_str!("../migrations/postgres/0561_central.sql"),
        )
        .with(
            562,
            "central usage",
            include_str!("../migrations/0562_central_usage.sql"),
            include_str!("../migrations/postgres/0562_central_usage.sql"),
        )
        .with(
            570,
            "persons",
            include_str!("../migrations/0570_persons.sql"),
            include_str!("../migrations/postgres/0570_persons.sql"),
        )
        .with(
            571,
            "logins",
            include_str!("../migrations/0571_logins.sql"),
            include_str!("../migrations/postgres/0571_logins.sql"),
        )
        .with(
            572,
            "proposals",
            include_str!("../migrations/0572_proposals.sql"),
            include_str!("../migrations/postgres/0572_proposals.sql"),
        )
        .with(
            580,
            "oversight",
            include_str!("../migrations/0580_oversight.sql"),
            include_str!("../migrations/postgres/0580_oversight.sql"),
        )
        .with(
            581,
            "credit notes",
            include_str!("../migrations/0581_credit_notes.sql"),
            include_str!("../migrations/postgres/0581_credit_notes.sql"),
        )
        .with(
            582,
            "findings",
            include_str!("../migrations/0582_findings.sql"),
            include_str!("../migrations/postgres/0582_findings.sql"),
        )
        .with(
            583,
            "decisions",
            include_str!("../migrations/0583_decisions.sql"),
            include_str!("../migrations/postgres/0583_decisions.sql"),
        )
        .with(
            584,
            "open tokens of owners",
            include_str!("../migrations/0584_open_tokens.sql"),
            include_str!("../migrations/postgres/0584_open_tokens.sql"),
        )
        .with(
            585,
            "what may come into dispute",
            include_str!("../migrations/0585_disputable.sql"),
            include_str!("../migrations/postgres/0585_disputable.sql"),
        )
        .with(
            586,
            "tails are shown",
            include_str!("../migrations/0586_tails_shown.sql"),
            include_str!("../migrations/postgres/0586_tails_shown.sql"),
        )
        .with(
            587,
            "who drew a token",
            include_str!("../migrations/0587_drawn_by.sql"),
            include_str!("../migrations/postgres/0587_drawn_by.sql"),
        )
        .with(
            588,
            "keys that the house may sell with",
            include_str!("../migrations/0588_issuers.sql"),
            include_str!("../migrations/postgres/0588_issuers.sql"),
        )
        .with(
            589,
            "long tails are drawn by amount",
            include_str!("../migrations/0589_tails_by_amount.sql"),
            include_str!("../migrations/postgres/0589_tails_by_amount.sql"),
        )
        .with(
            590,
            "quotes end",
            include_str!("../migrations/0590_quotes_end.sql"),
            include_str!("../migrations/postgres/0590_quotes_end.sql"),
        )
        .with(
            591,
            "mandates of a class",
            include_str!("../migrations/0591_classes.sql"),
            include_str!("../migrations/postgres/0591_classes.sql"),
        )
        .with(
            592,
            "mandates for jobs by their signer",
            include_str!("../migrations/0592_jobs_by_signer.sql"),
            include_str!("../migrations/postgres/0592_jobs_by_signer.sql"),
        )
}

/// The migration since which books know that they came back from a backup.
pub(crate) const RESTORED: i64 = 516;

/// The tables as they were.
#[cfg(test)]
pub(crate) fn migrations_until(number: i64) -> Migrations {
    migrations().until(number)
}

/// Reads a row's cells as what they must be.
#[derive(Clone, Copy)]
pub(crate) struct Cells<'r> {
    pub(crate) table: &'static str,
    pub(crate) row: &'r Row,
}

impl Cells<'_> {
    pub(crate) fn bytes<const N: usize>(&self, name: &'static str) -> Result<[u8; N], Failure> {
        self.blob(name)?.try_into().map_err(|_| self.unreadable(name))
    }

    pub(crate) fn blob(&self, name: &'static str) -> Result<Vec<u8>, Failure> {
        Ok(self.row.blob(name)?)
    }

    pub(crate) fn blob_maybe(&self, name: &'static str) -> Result<Option<Vec<u8>>, Failure> {
        Ok(self.row.blob_maybe(name)?)
    }

    pub(crate) fn bytes_maybe<const N: usize>(&self, name: &'static str) -> Result<Option<[u8; N]>, Failure> {
        let exact = |bytes: Vec<u8>| bytes.try_into().map_err(|_| self.unreadable(name));
        self.blob_maybe(name)?.map(exact).transpose()
    }

    pub(crate) fn text(&self, name: &'static str) -> Result<String, Failure> {
        Ok(self.row.text(name)?)
    }

    pub(crate) fn int(&self, name: &'static str) -> Result<i64, Failure> {
        Ok(self.row.int(name)?)
    }

    pub(crate) fn uint(&self, name: &'static str) -> Result<u64, Failure> {
        u64::try_from(self.int(name)?).map_err(|_| self.unreadable(name))
    }

    pub(crate) fn amount(&self, name: &'static str) -> Result<Amount, Failure> {
        Amount::new(self.int(name)?).map_err(|_| self.unreadable(name))
    }

    pub(crate) fn time(&self, name: &'static str) -> Result<Timestamp, Failure> {
        self.uint(name).map(Timestamp)
    }

    pub(crate) fn amount_maybe(&self, name: &'static str) -> Result<Option<Amount>, Failure> {
        let ucr = self.row.int_maybe(name)?;
        ucr.map(|ucr| Amount::new(ucr).map_err(|_| self.unreadable(name))).transpose()
    }

    pub(crate) fn uint_maybe(&self, name: &'static str) -> Result<Option<u64>, Failure> {
        self.row.int_maybe(name)?.map(|number| u64::try_from(number).map_err(|_| self.unreadable(name))).transpose()
    }

    pub(crate) fn time_maybe(&self, name: &'static str) -> Result<Option<Timestamp>, Failure> {
        let time = self.row.int_maybe(name)?;
        time.map(|time| u64::try_from(time).map(Timestamp).map_err(|_| self.unreadable(name))).transpose()
    }

    pub(crate) fn digest(&self, name: &'static str) -> Result<Digest, Failure> {
        self.bytes(name).map(Digest)
    }

    pub(crate) fn key(&self, name: &'static str) -> Result<PublicKey, Failure> {
        PublicKey::from_bytes(&self.bytes(name)?).map_err(|_| self.unreadable(name))
    }

    pub(crate) fn json<T: serde::de::DeserializeOwned>(&self, name: &'static str) -> Result<T, Failure> {
        serde_json::from_str(&self.text(name)?).map_err(|_| self.unreadable(name))
    }

    pub(crate) fn unreadable(&self, what: &'static str) -> Failure {
        Failure::Unreadable { table: self.table, what }
    }
}

/// JSON of the house's own small records, which always has a form.
pub(crate) fn json<T: serde::Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("the house's own records have a JSON form")
}

/// Numbers of the wire stay below 2⁶³ (spec/01-encoding.md), times below 2⁵³.
pub(crate) fn int(number: u64) -> i64 {
    i64::try_from(number).expect("numbers of the wire are below 2^63")
}

pub(crate) fn seconds(time: Timestamp) -> i64 {
    int(time.0)
}
