//! Amounts as people write them.

use comity_wire::Amount;

/// `250000` (micro-credits), `0.25cr`, `250000ucr`.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn amount(text: &str) -> Result<Amount, String> {
    let wrong = || format!("{text:?} is no amount: micro-credits such as 250000, or credits such as 0.25cr");
    let trimmed = text.trim();
    let micro = ["ucr", "µcr"].iter().find_map(|unit| trimmed.strip_suffix(unit));
    let ucr = match (micro, trimmed.strip_suffix("cr")) {
        (Some(number), _) => number.trim().parse::<i64>().map_err(|_| wrong())?,
        (None, Some(number)) => credits(number.trim()).ok_or_else(wrong)?,
        (None, None) => trimmed.parse::<i64>().map_err(|_| wrong())?,
    };
    Amount::new(ucr).map_err(|_| wrong())
}

/// Exact to the micro-credit; more digits than that are no amount.
fn credits(text: &str) -> Option<i64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || part.len() > 6 || !is_number(whole) || !is_number(part) {
        return None;
    }
    let part: i64 = format!("{part:0<6}").parse().ok()?;
    whole.parse::<i64>().ok()?.checked_mul(1_000_000)?.checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_read_exactly_or_not_at_all() {
        for (text, ucr) in
            [("250000", 250_000), ("0.25cr", 250_000), ("1 cr", 1_000_000), ("7ucr", 7), ("3µcr", 3), ("0.000001cr", 1)]
        {
            assert_eq!(amount(text).map(Amount::ucr), Ok(ucr), "{text}");
        }
        for wrong in ["", "cr", "-1", "-1cr", "0.0000001cr", "1.5", "1,5cr", "1e3cr", ".5cr", "99999999999999cr"] {
            assert!(amount(wrong).is_err(), "{wrong}");
        }
    }
}
