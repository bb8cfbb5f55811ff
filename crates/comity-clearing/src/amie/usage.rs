//! Usage records, as a site reports its own meter.

use comity_wire::Timestamp;
use comity_wire::time::DAY_S;
use serde_json::Value;

use super::packet::Body;
use super::text::{iso, label, units};

/// The largest record that is kept, bytes.
const RECORD_BYTES_MAX: usize = 8_192;
/// How far ahead of the house's clock a site's may be.
const AHEAD_S: u64 = DAY_S;

/// What a message reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum UsageKind {
    Compute = 1,
    Storage = 2,
    Adjustment = 3,
}

impl UsageKind {
    pub fn from_word(word: &str) -> Option<Self> {
        let all = [Self::Compute, Self::Storage, Self::Adjustment];
        all.into_iter().find(|kind| kind.word().eq_ignore_ascii_case(word))
    }

    pub const fn word(self) -> &'static str {
        match self {
            Self::Compute => "Compute",
            Self::Storage => "Storage",
            Self::Adjustment => "Adjustment",
        }
    }
}

/// A record that says what it must. Whether project and login are known is for the books to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub kind: UsageKind,
    /// LocalRecordID: unique at the site's resource.
    pub id: String,
    pub site_project: String,
    pub login: String,
    pub resource: String,
    /// µcr; what was given back is below zero.
    pub charge: i64,
    /// When it was used up: which month it belongs to.
    pub used_at: Timestamp,
}

impl Record {
    /// Months since January 1970.
    pub fn month(&self) -> u64 {
        let date = self.used_at.to_string();
        let number = |range| date.get(range).and_then(|part: &str| part.parse::<u64>().ok()).unwrap_or_default();
        (number(0..4).saturating_sub(1970)) * 12 + number(5..7).saturating_sub(1)
    }
}

/// Reads one record.
///
/// # Errors
/// A sentence for the site.
pub fn record(kind: UsageKind, body: &Body, now: Timestamp) -> Result<Record, String> {
    if serde_json::to_string(body).map_or(0, |text| text.len()) > RECORD_BYTES_MAX {
        return Err(format!("a record has at most {RECORD_BYTES_MAX} bytes"));
    }
    let time = |name: &str| {
        let text = body.get(name).and_then(Value::as_str).ok_or_else(|| format!("{name} is missing"))?;
        iso(text).ok_or_else(|| format!("{name} is not a time of ISO 8601"))
    };
    let charge = body.get("Charge").ok_or("Charge is missing")?;
    let charge = units(charge).ok_or("Charge is a number of credits with at most six decimal places")?;
    if charge < 0 {
        return Err("Charge is not below zero: what is given back is an Adjustment".into());
    }
    let (charge, used_at) = match kind {
        UsageKind::Compute => {
            let (submitted, started, ended) = (time("SubmitTime")?, time("StartTime")?, time("EndTime")?);
            if !(submitted <= started && started <= ended) {
                return Err("SubmitTime, StartTime and EndTime follow one another".into());
            }
            parent(body.get("ParentRecordID"))?;
            (charge, ended)
        }
        UsageKind::Storage => (charge, time("CollectionTime")?),
        UsageKind::Adjustment => (adjusted(body, charge)?, time("StartTime")?),
    };
    if used_at > now.plus(AHEAD_S) {
        return Err(format!("{used_at} lies in the future: the house's clock says {now}"));
    }
    Ok(Record {
        kind,
        id: label(body, "LocalRecordID")?,
        site_project: label(body, "LocalProjectID")?,
        login: label(body, "Username")?,
        resource: label(body, "Resource")?,
        charge,
        used_at,
    })
}

fn adjusted(body: &Body, charge: i64) -> Result<i64, String> {
    let word = body.get("AdjustmentType").and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase();
    match word.as_str() {
        "credit" | "refund" | "storage-credit" => Ok(-charge),
        "debit" | "reservation" | "storage-debit" => Ok(charge),
        _ => Err("AdjustmentType is credit, refund, storage-credit, debit, reservation or storage-debit".into()),
    }
}

/// A text, nothing, or either of them in a list: `amieclient` sends it so.
fn parent(value: Option<&Value>) -> Result<(), String> {
    let one = match value {
        Some(Value::Array(list)) if list.len() <= 1 => list.first(),
        other => other,
    };
    match one {
        None | Some(Value::Null | Value::String(_) | Value::Number(_)) => Ok(()),
        Some(_) => Err("ParentRecordID is one id".into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp(1_795_420_800);

    fn compute() -> Body {
        let value = json!({
            "Username": "ada", "LocalProjectID": "P1", "LocalRecordID": "job-1", "Resource": "r", "Charge": "1.25",
            "SubmitTime": "2026-11-22T00:00:00", "StartTime": "2026-11-22T01:00:00", "EndTime": "2026-11-22T02:00:00",
            "Attributes": { "NodeCount": 1 }, "ParentRecordID": [null],
        });
        value.as_object().cloned().unwrap()
    }

    fn with(mut body: Body, name: &str, value: Value) -> Body {
        body.insert(name.to_owned(), value);
        body
    }

    #[test]
    fn a_record_says_who_used_what_and_when() {
        let read = record(UsageKind::Compute, &compute(), NOW).unwrap();
        assert_eq!((read.id.as_str(), read.login.as_str(), read.charge), ("job-1", "ada", 1_250_000));
        assert_eq!(read.month(), (2026 - 1970) * 12 + 10);
        for (name, value) in [
            ("Username", json!("")),
            ("LocalRecordID", json!(null)),
            ("Charge", json!("-1")),
            ("Charge", json!("1.0000001")),
            ("SubmitTime", json!("yesterday")),
            ("EndTime", json!("2026-11-22T00:30:00")),
            ("EndTime", json!("2027-01-01")),
            ("ParentRecordID", json!(["a", "b"])),
            ("Comment", json!("x".repeat(9_000))),
        ] {
            record(UsageKind::Compute, &with(compute(), name, value), NOW).expect_err(name);
        }
        record(UsageKind::Compute, &with(compute(), "ParentRecordID", json!("job-0")), NOW).unwrap();
    }

    #[test]
    fn what_is_given_back_is_below_zero() {
        for (word, charge) in [
            ("refund", -1_250_000),
            ("credit", -1_250_000),
            ("storage-credit", -1_250_000),
            ("debit", 1_250_000),
            ("Reservation", 1_250_000),
        ] {
            let body = with(compute(), "AdjustmentType", json!(word));
            assert_eq!(record(UsageKind::Adjustment, &body, NOW).unwrap().charge, charge, "{word}");
        }
        record(UsageKind::Adjustment, &with(compute(), "AdjustmentType", json!("gift")), NOW).unwrap_err();
    }
}
