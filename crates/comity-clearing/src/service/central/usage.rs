//! What a central site's projects used, told to its usage API: a record for each transfer, made once and sent until it is taken.
//!
//! The charge of a record is what the project's total grew by, in service units: what is reported of a project is its total
//! divided once, however many records it has.

use comity_ledger::Db;
use comity_wire::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::Clearing;
use super::turn::{Wire, WireError, cut, waits};
use crate::amie::central::Central;
use crate::amie::{Body, UsageKind, charge};
use crate::failure::Failure;
use crate::mandates::Role;
use crate::service::amie::{ReportAs, usage_record};
use crate::store;
use crate::store::central::{Sent, UsageRow};

/// Transfers that become records in one transaction.
const PAGE: u32 = 500;
/// Such transactions in one turn: a house that begins to report has much to say, and other things to do.
const PAGES_MAX: u32 = 100;
/// Records of one message.
const RECORDS_MAX: u32 = 1_000;
/// A message's records, bytes: central sites take 1 MiB, and clients three quarters of it.
const MESSAGE_BYTES_MAX: usize = 700 << 10;
/// Messages of one kind in one turn.
const MESSAGES_MAX: u32 = 200;
/// Records that the operator is shown.
const SHOWN_MAX: u32 = 200;
/// Under whom a project is reported that has no PI any more.
const NOBODY: &str = "comity";

/// What a turn did about usage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reported {
    pub made: u64,
    pub taken: u64,
    pub refused: u64,
    /// What ended it before its end.
    pub failed: Option<WireError>,
}

/// How usage stands at central sites.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UsageView {
    pub central: String,
    pub waiting: u64,
    pub taken: u64,
    pub refused: u64,
    /// The oldest of what was refused, each with what the central site says of it.
    pub refusals: Vec<UsageRefusal>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UsageRefusal {
    pub record: Body,
    pub error: String,
}

/// What becomes of a message.
enum Told {
    /// The central site has it, but for these.
    Taken(Vec<(String, String)>),
    /// It takes nothing of it.
    Refused(String),
}

impl Clearing {
    /// Makes records of what is new in the ledger, and sends what was not taken yet.
    ///
    /// # Errors
    /// [`Failure`] of the house's own books.
    pub async fn central_report(&self, central: &Central, wire: &impl Wire) -> Result<Reported, Failure> {
        let mut reported = Reported::default();
        for _ in 0..PAGES_MAX {
            let (now, central) = (self.now(), central.clone());
            let made = self.write(move |conn| Box::pin(async move { make_in_tx(conn, &central, now).await })).await?;
            reported.made += made;
            if made < u64::from(PAGE) {
                break;
            }
        }
        self.fail("central.made");
        for kind in [UsageKind::Compute, UsageKind::Adjustment] {
            if let Err(failed) = self.central_report_kind(central, wire, kind, &mut reported).await? {
                return Ok(Reported { failed: Some(failed), ..reported });
            }
        }
        Ok(reported)
    }

    async fn central_report_kind(
        &self,
        central: &Central,
        wire: &impl Wire,
        kind: UsageKind,
        reported: &mut Reported,
    ) -> Result<Result<(), WireError>, Failure> {
        let mut most = RECORDS_MAX;
        for _ in 0..MESSAGES_MAX {
            let mut conn = self.read().await?;
            let rows = store::central::usages(&mut conn.db(), &central.name, (Sent::Waits, kind), most).await?;
            drop(conn);
            let rows = message_of(rows);
            if rows.is_empty() {
                return Ok(Ok(()));
            }
            let told = match tell(wire, kind, &rows).await {
                Ok(told) => told,
                Err(failed) => return Ok(Err(failed)),
            };
            self.fail("central.told");
            let failed = match told {
                Told::Taken(failed) => failed,
                // One wrong record may have kept the others out: halves find it.
                Told::Refused(_) if rows.len() > 1 => {
                    most = u32::try_from(rows.len() / 2).unwrap_or(1).max(1);
                    continue;
                }
                Told::Refused(why) => vec![(rows[0].record.clone(), why)],
            };
            most = RECORDS_MAX;
            reported.refused += failed.len() as u64;
            reported.taken += (rows.len() - failed.len()) as u64;
            let (now, name) = (self.now(), central.name.clone());
            self.write(move |conn| {
                Box::pin(async move {
                    for row in &rows {
                        let error = failed.iter().find(|(record, _)| *record == row.record).map(|(_, error)| error);
                        let (sent, error) = error.map_or((Sent::Taken, ""), |error| (Sent::Refused, error));
                        store::central::usage_put_in_tx(conn, (&name, &row.record), (sent, error), now).await?;
                    }
                    Ok(())
                })
            })
            .await?;
        }
        Ok(Ok(()))
    }

    /// How usage stands at central sites.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn central_usage(&self) -> Result<Vec<UsageView>, Failure> {
        let mut conn = self.read().await?;
        let mut views: Vec<UsageView> = Vec::new();
        for (central, sent, records) in store::central::usage_counts(&mut conn.db()).await? {
            if views.last().is_none_or(|view| view.central != central) {
                views.push(UsageView { central, ..UsageView::default() });
            }
            let Some(view) = views.last_mut() else { continue };
            match sent {
                0 => view.waiting = records,
                1 => view.taken = records,
                _ => view.refused = records,
            }
        }
        for (central, row) in store::central::usages_refused(&mut conn.db(), SHOWN_MAX).await? {
            if let Some(view) = views.iter_mut().find(|view| view.central == central) {
                view.refusals.push(UsageRefusal { record: row.body, error: row.error });
            }
        }
        Ok(views)
    }

    /// Sends again what a central site refused; how many records that is.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn central_usage_again(&self, central: String) -> Result<u64, Failure> {
        let now = self.now();
        self.write(move |conn| Box::pin(async move { store::central::usages_again_in_tx(conn, &central, now).await }))
            .await
    }
}

/// Makes records of the next transfers; how many.
async fn make_in_tx(conn: &mut Db<'_>, central: &Central, now: Timestamp) -> Result<u64, Failure> {
    let after = store::central::reported(conn, &central.name).await?;
    let rows = store::central::charged_after(conn, &central.name, after, PAGE).await?;
    let Some(last) = rows.last().map(|row| row.seq) else { return Ok(0) };
    let overflow = || Failure::Books { what: "more was used than can be counted in service units".into() };
    for row in &rows {
        let accounts = store::central::accounts_of_project(conn, &central.name, row.project).await?;
        let pi = accounts.into_iter().find(|account| account.role == Role::Pi).map(|account| account.login);
        let by = ReportAs { resource: central.resource.clone(), username: pi.unwrap_or_else(|| NOBODY.into()) };
        let before = store::central::total(conn, &central.name, row.project).await?;
        let change = if row.leaves { row.amount } else { -row.amount };
        let total = before.checked_add(change).ok_or_else(overflow)?;
        let (told, tells) = (central.units(before).ok_or_else(overflow)?, central.units(total).ok_or_else(overflow)?);
        let (kind, mut body) = usage_record(row, &by);
        body.insert("Charge".into(), charge((tells - told).abs()).into());
        let record = crate::amie::label(&body, "LocalRecordID").map_err(|what| Failure::Books { what })?;
        let usage = UsageRow { record, seq: row.seq, project: row.project, kind, body, error: String::new() };
        store::central::usage_insert_in_tx(conn, &central.name, &usage, now).await?;
        store::central::total_put_in_tx(conn, &central.name, (row.project, total)).await?;
    }
    store::central::reported_put_in_tx(conn, &central.name, last).await?;
    Ok(rows.len() as u64)
}

/// As many of the records, from the first on, as a message has room for.
fn message_of(rows: Vec<UsageRow>) -> Vec<UsageRow> {
    let mut bytes = 0;
    let fits = |row: &UsageRow| {
        bytes += store::json(&row.body).len() + 1;
        bytes <= MESSAGE_BYTES_MAX
    };
    rows.into_iter().take_while(fits).collect()
}

async fn tell(wire: &impl Wire, kind: UsageKind, rows: &[UsageRow]) -> Result<Told, WireError> {
    let records: Vec<&Body> = rows.iter().map(|row| &row.body).collect();
    match wire.usage(json!({ "UsageType": kind.word(), "Records": records })).await {
        Ok(said) => {
            let failed = said["ValidationFailedRecords"].as_array().cloned().unwrap_or_default();
            let one = |record: &Value| {
                let error = record["Error"].as_str().unwrap_or("no reason given");
                Some((record["LocalRecordID"].as_str()?.to_owned(), cut(error)))
            };
            Ok(Told::Taken(failed.iter().filter_map(one).collect()))
        }
        Err(WireError::Refused { status, what }) if !waits(status) => {
            Ok(Told::Refused(cut(&format!("{status}: {what}"))))
        }
        Err(failed) => Err(failed),
    }
}
