//! A site's own meter (decision 0039): taken in, added up, and never paid from. Receipts alone are paid.

use comity_ledger::Db;
use comity_wire::{Digest, ProjectId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::Clearing;
use super::site_of;
use crate::amie::{Body, Record, UsageKind, charge, record};
use crate::failure::Failure;
use crate::store;
use crate::store::amie::{Failed, Site};

/// Records of one message.
const RECORDS_MAX: usize = 10_000;
/// Records of one site and month.
const MONTH_MAX: u64 = 1_000_000;
/// Failed records that a site leaves uncleared.
const FAILURES_MAX: u64 = 10_000;
/// Failed records that a status shows.
const ERRORS_SHOWN_MAX: u32 = 100;
/// An error's text, bytes.
const ERROR_BYTES_MAX: usize = 1_024;
const EVER: Timestamp = Timestamp(1 << 52);

/// `POST usage/`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct UsageMessage {
    usage_type: String,
    records: Vec<Body>,
}

/// What became of a message.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) taken: usize,
    pub(crate) failed: Vec<Value>,
}

/// What the house has of a site's usage over a time.
pub(crate) struct Status {
    pub(crate) records: u64,
    pub(crate) charge: String,
    pub(crate) failed: u64,
    pub(crate) errors: Vec<Value>,
}

/// One project's month, as a site's meter has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeterRow {
    pub project: ProjectId,
    pub records: u64,
    pub charge_ucr: i64,
}

impl Clearing {
    /// Takes a message in. Each record stands by itself: what is wrong with one does not keep out the others.
    pub(crate) async fn amie_usage(&self, site: &Site, message: UsageMessage) -> Result<Loaded, Failure> {
        let kind = UsageKind::from_word(&message.usage_type)
            .ok_or_else(|| Failure::invalid("UsageType is Compute, Storage or Adjustment"))?;
        if message.records.len() > RECORDS_MAX {
            return Err(Failure::Limit { what: "records of a message", max: RECORDS_MAX.to_string() });
        }
        let (now, site) = (self.now(), site.clone());
        self.write(move |conn| Box::pin(async move { load_in_tx(conn, &site, kind, message.records, now).await })).await
    }

    pub(crate) async fn amie_failures(&self, site: &Site) -> Result<Vec<Value>, Failure> {
        let limit = u32::try_from(FAILURES_MAX).unwrap_or(u32::MAX);
        let mut conn = self.read().await?;
        let failed = store::amie::failures(&mut conn.db(), &site.name, (Timestamp(0), EVER), limit).await?;
        Ok(failed.into_iter().map(told).collect())
    }

    pub(crate) async fn amie_failures_clear(&self, site: &Site, numbers: Vec<u64>) -> Result<u64, Failure> {
        let site = site.name.clone();
        self.write(move |conn| Box::pin(async move { store::amie::failures_clear_in_tx(conn, &site, &numbers).await }))
            .await
    }

    /// What came from a site in a time; without one, ever.
    pub(crate) async fn amie_status(
        &self,
        site: &Site,
        (from, to): (Option<Timestamp>, Option<Timestamp>),
    ) -> Result<Status, Failure> {
        let over = (from.unwrap_or(Timestamp(0)), to.unwrap_or(EVER));
        let mut conn = self.read().await?;
        let (records, sum) = store::amie::usage_sums(&mut conn.db(), &site.name, over).await?;
        let failed = store::amie::failures_count(&mut conn.db(), &site.name).await?;
        let errors = store::amie::failures(&mut conn.db(), &site.name, over, ERRORS_SHOWN_MAX).await?;
        let error = |failed: Failed| {
            let error = failed.error.clone();
            let mut record = told(failed);
            if let Some(record) = record.as_object_mut() {
                record.remove("Error");
            }
            json!({ "Error": error, "Records": [record] })
        };
        Ok(Status { records, charge: charge(sum), failed, errors: errors.into_iter().map(error).collect() })
    }

    /// A site's meter over a month (`YYYY-MM`), for the monthly count.
    ///
    /// # Errors
    /// [`Failure`] where there is no such site or month.
    pub async fn amie_meter(&self, site: &str, month: &str) -> Result<Vec<MeterRow>, Failure> {
        let at = Timestamp::of_date(&format!("{month}-01")).map_err(|_| Failure::invalid("a month is YYYY-MM"))?;
        let number = |range| month.get(range).and_then(|part: &str| part.parse::<u64>().ok()).unwrap_or_default();
        let months = number(0..4).saturating_sub(1970) * 12 + number(5..7).saturating_sub(1);
        debug_assert!(at.seconds() == 0 || months > 0);
        let mut conn = self.read().await?;
        site_of(&mut conn.db(), site).await?;
        let rows = store::amie::usage_of_month(&mut conn.db(), site, months).await?;
        Ok(rows.into_iter().map(|(project, records, charge_ucr)| MeterRow { project, records, charge_ucr }).collect())
    }
}

async fn load_in_tx(
    conn: &mut Db<'_>,
    site: &Site,
    kind: UsageKind,
    bodies: Vec<Body>,
    now: Timestamp,
) -> Result<Loaded, Failure> {
    let mut loaded = Loaded::default();
    let mut room = FAILURES_MAX.saturating_sub(store::amie::failures_count(conn, &site.name).await?);
    for mut body in bodies {
        let taken = match record(kind, &body, now) {
            Ok(read) => one_in_tx(conn, site, &read, &body, now).await?,
            Err(error) => Err(error),
        };
        let Err(mut error) = taken else {
            loaded.taken += 1;
            continue;
        };
        if kind == UsageKind::Storage {
            // No client reads a failed storage record back (docs/reference/amie.md): it is told in a sentence, and nothing of the
            // message is taken.
            let id = body.get("LocalRecordID").map(ToString::to_string).unwrap_or_default();
            return Err(Failure::invalid(format!("record {id}: {error}. Nothing of this message was taken")));
        }
        if room == 0 {
            return Err(Failure::Limit { what: "failed records that are not cleared", max: FAILURES_MAX.to_string() });
        }
        room -= 1;
        let cut = (0..=ERROR_BYTES_MAX.min(error.len())).rev().find(|at| error.is_char_boundary(*at)).unwrap_or(0);
        error.truncate(cut);
        presentable(kind, &mut body);
        let number = store::amie::failure_insert_in_tx(conn, &site.name, (&body, &error), now).await?;
        loaded.failed.push(told(Failed { number, body, error }));
    }
    Ok(loaded)
}

/// Holds a record against the books; a sentence for the site where it does not fit them.
async fn one_in_tx(
    conn: &mut Db<'_>,
    site: &Site,
    read: &Record,
    body: &Body,
    now: Timestamp,
) -> Result<Result<(), String>, Failure> {
    if read.resource != site.resource {
        return Ok(Err(format!("Resource is {}, and this site's is {}", read.resource, site.resource)));
    }
    let content = Digest::of_parts(&[read.kind.word().as_bytes(), b"\n", store::json(body).as_bytes()]);
    if let Some(known) = store::amie::usage_find(conn, &site.name, &read.id).await? {
        return Ok(if known == content {
            Ok(())
        } else {
            Err(format!("LocalRecordID {} was reported with other figures: correct it by an Adjustment", read.id))
        });
    }
    let Some(project) = store::amie::project_called(conn, &site.name, &read.site_project).await? else {
        return Ok(Err(format!("LocalProjectID {} is no project's here", read.site_project)));
    };
    let accounts = store::amie::accounts_at(conn, &site.name, project).await?;
    // Inactive ones too: usage from before may be reported late.
    if !accounts.iter().any(|account| account.login == read.login && !read.login.is_empty()) {
        return Ok(Err(format!("Username {} has no account in project {}", read.login, read.site_project)));
    }
    if store::amie::usage_count(conn, &site.name, read.month()).await? >= MONTH_MAX {
        return Ok(Err(format!("a month has at most {MONTH_MAX} records")));
    }
    store::amie::usage_insert_in_tx(conn, (&site.name, project), read, (body, content), now).await?;
    Ok(Ok(()))
}

/// What clients read of a failed record has to be there, and what is too large to keep is cut to what names it.
fn presentable(kind: UsageKind, body: &mut Body) {
    if store::json(body).len() > 7_000 {
        body.retain(|name, value| {
            matches!(
                &name[..],
                "LocalRecordID" | "LocalProjectID" | "Username" | "Resource" | "Charge" | "AdjustmentType"
            ) && value.to_string().len() <= 400
        });
    }
    body.insert("UsageType".into(), kind.word().into());
    if kind == UsageKind::Compute && !body.get("Attributes").is_some_and(Value::is_object) {
        body.insert("Attributes".into(), json!({}));
    }
    let known = ["credit", "refund", "storage-credit", "debit", "reservation", "storage-debit"];
    let word = body.get("AdjustmentType").and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase();
    if kind == UsageKind::Adjustment && !known.contains(&word.as_str()) {
        // Clients refuse to read any other word; the error says what came.
        body.insert("AdjustmentType".into(), "debit".into());
    }
}

fn told(failed: Failed) -> Value {
    let mut body = failed.body;
    body.insert("Error".into(), failed.error.into());
    body.insert("FailedRecordID".into(), failed.number.into());
    Value::Object(body)
}
