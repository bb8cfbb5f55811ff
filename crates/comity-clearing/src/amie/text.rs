//! What AMIE writes as text or number: names, credits, times.

use comity_wire::Timestamp;
use serde_json::Value;

use super::packet::Body;

/// The longest name, id or message of a site, bytes.
const LABEL_BYTES_MAX: usize = 400;
const UCR_PER_CREDIT: i64 = 1_000_000;

/// A name that has to be there: one line of text, or a number.
pub(crate) fn label(body: &Body, name: &str) -> Result<String, String> {
    let text = match body.get(name) {
        Some(Value::String(text)) => text.trim().to_owned(),
        Some(Value::Number(number)) => number.to_string(),
        _ => return Err(format!("{name} is missing")),
    };
    if text.is_empty() || text.len() > LABEL_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(format!("{name} is one line of 1 to {LABEL_BYTES_MAX} bytes"));
    }
    Ok(text)
}

/// Credits as micro-credits: exact, with a sign, at most six places. None where it is not a decimal number or too large.
pub fn units(value: &Value) -> Option<i64> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.as_str()),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let part = part.trim_end_matches('0');
    if whole.is_empty() || !all_digits(whole) || !all_digits(part) || part.len() > 6 {
        return None;
    }
    let ucr = whole.parse::<i64>().ok()?.checked_mul(UCR_PER_CREDIT)?;
    let part = format!("{part:0<6}").parse::<i64>().ok()?;
    ucr.checked_add(part)?.checked_mul(sign)
}

/// Micro-credits as credits, exactly.
pub fn charge(ucr: i64) -> String {
    let (sign, ucr) = (if ucr < 0 { "-" } else { "" }, ucr.unsigned_abs());
    let (whole, part) = (ucr / UCR_PER_CREDIT.unsigned_abs(), ucr % UCR_PER_CREDIT.unsigned_abs());
    if part == 0 {
        return format!("{sign}{whole}");
    }
    let digits = format!("{part:06}");
    format!("{sign}{whole}.{}", digits.trim_end_matches('0'))
}

/// A time of ISO 8601 as Python writes it: a date, or date and time, with or without a fraction and an offset. Without one
/// it is UTC.
pub fn iso(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if !text.is_ascii() {
        return None;
    }
    let day = Timestamp::of_date(text.get(..10)?).ok()?;
    let Some(rest) = text.get(10..).filter(|rest| !rest.is_empty()) else { return Some(day) };
    let rest = rest.strip_prefix(['T', ' ', 't'])?;
    let (clock, offset) = match rest.find(['Z', 'z', '+', '-']) {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut seconds = 0_i64;
    let mut parts = clock.split(':');
    for (unit, max) in [(3600, 23), (60, 59), (1, 60)] {
        match parts.next() {
            Some(part) => seconds += unit * two_digits(part, max)?,
            // Seconds may be left out.
            None if unit == 1 => {}
            None => return None,
        }
    }
    if parts.next().is_some() {
        return None;
    }
    let offset = match offset {
        "" | "Z" | "z" => 0,
        signed => {
            let (hours, minutes) =
                signed[1..].split_once(':').unwrap_or_else(|| signed[1..].split_at(signed.len().min(3) - 1));
            let minutes = if minutes.is_empty() { 0 } else { two_digits(minutes, 59)? };
            let size = 3600 * two_digits(hours, 23)? + 60 * minutes;
            if signed.starts_with('-') { -size } else { size }
        }
    };
    let at = i64::try_from(day.seconds()).ok()? + seconds - offset;
    u64::try_from(at).ok().map(Timestamp)
}

fn two_digits(text: &str, max: i64) -> Option<i64> {
    let number = text.parse::<i64>().ok()?;
    (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit()) && number <= max).then_some(number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn credits_are_exact_to_the_micro_credit() {
        let right = [
            (json!("1.5"), 1_500_000),
            (json!("-0.000001"), -1),
            (json!(12), 12_000_000),
            (json!(0.1), 100_000),
            (json!("7.1234560"), 7_123_456),
        ];
        for (value, ucr) in right {
            assert_eq!(units(&value), Some(ucr), "{value}");
            assert_eq!(units(&json!(charge(ucr))), Some(ucr));
        }
        let wrong = [
            json!("0.0000001"),
            json!("1e3"),
            json!(1e30),
            json!(""),
            json!("."),
            json!("+1"),
            json!(null),
            json!("9223372036855"),
        ];
        for value in wrong {
            assert_eq!(units(&value), None, "{value}");
        }
        assert_eq!(
            (charge(-1), charge(2_000_000), charge(i64::MIN)),
            ("-0.000001".into(), "2".into(), "-9223372036854.775808".into())
        );
    }

    #[test]
    fn times_are_read_as_python_writes_them() {
        let right = [
            ("2026-11-23", "2026-11-23T00:00:00Z"),
            ("2026-11-23T08:00", "2026-11-23T08:00:00Z"),
            ("2026-11-23 08:00:01", "2026-11-23T08:00:01Z"),
            ("2026-11-23T08:00:00.507000", "2026-11-23T08:00:00Z"),
            ("2026-11-23T08:00:00+00:00", "2026-11-23T08:00:00Z"),
            ("2026-11-23T08:00:00.5-05:00", "2026-11-23T13:00:00Z"),
            ("2026-11-23T00:30:00+0100", "2026-11-22T23:30:00Z"),
            ("2026-11-23T00:30:00+01", "2026-11-22T23:30:00Z"),
        ];
        for (text, at) in right {
            assert_eq!(iso(text).map(|at| at.to_string()).as_deref(), Some(at), "{text}");
        }
        for text in [
            "",
            "2026",
            "2026-11-31",
            "2026-11-23T",
            "2026-11-23T24:00",
            "2026-11-23T08:00:00+",
            "2026-11-23T08:00:00:00",
            "2026-11-23T08:0x",
            "1970-01-01T00:00+01:00",
            "2026-11-23T08:00:00+é",
        ] {
            assert_eq!(iso(text), None, "{text}");
        }
    }
}
