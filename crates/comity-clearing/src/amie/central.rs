//! AMIE, seen from a site: what a central site asks of this house as one resource, and what the house answers.
//!
//! Pure. A packet by itself moves no credits: what it says of them becomes the body of an act, which stands or falls with the
//! house's officers (decision 0052).

mod answer;
mod grant;
mod read;

use serde::{Deserialize, Serialize};

pub use answer::{account_notice, grant_notice, heard, refusal, standing_notice};
pub use grant::{Allocation, Grant, GrantStanding, draft, project_named};
pub use read::{AccountAsk, Asked, Incoming, PersonSaid, StandingAsk, asked, person_of};

use crate::lots::FundKind;

/// As what this house stands at a central site, and what a service unit there is worth here. The operator's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Central {
    /// What the books call the central site, for good.
    pub name: String,
    /// What this house is called there: XA-SITE.
    pub site: String,
    /// What it is as a resource there: the one element of every ResourceList.
    pub resource: String,
    /// Who stands behind its awards here.
    pub funder: String,
    /// Assistance listing of its awards, such as `47.070`.
    #[serde(default)]
    pub listing: String,
    #[serde(default)]
    pub kind: FundKind,
    /// µcr that one service unit is worth.
    pub ucr_per_service_unit: u64,
    /// Purposes that its projects declare: AMIE says none.
    #[serde(default)]
    pub purposes: Vec<String>,
}

/// The longest name of a central site, a site, a resource, bytes.
const NAME_BYTES_MAX: usize = 64;
/// What one service unit may be worth at most: a thousand million credits.
const RATE_MAX: u64 = 1_000_000_000_000_000;
/// Service units are counted in millionths.
const MILLION: i128 = 1_000_000;

impl Central {
    /// What is wrong with it; none: nothing.
    pub fn fault(&self) -> Option<String> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        for (what, text) in [("name", &self.name), ("site", &self.site), ("resource", &self.resource)] {
            if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.bytes().all(plain) {
                return Some(format!("{what} is 1 to {NAME_BYTES_MAX} of A-Z, a-z, 0-9, '.', '_' and '-'"));
            }
        }
        if self.funder.trim().is_empty() || self.funder.len() > NAME_BYTES_MAX {
            return Some(format!("funder is 1 to {NAME_BYTES_MAX} bytes: who stands behind the awards"));
        }
        if self.ucr_per_service_unit == 0 || self.ucr_per_service_unit > RATE_MAX {
            return Some(format!("ucr_per_service_unit is 1 to {RATE_MAX}: what one service unit is worth"));
        }
        None
    }

    /// µcr of millionths of service units, without the part of one. None where it cannot be counted.
    pub fn ucr(&self, units: i64) -> Option<i64> {
        i64::try_from(i128::from(units) * i128::from(self.ucr_per_service_unit) / MILLION).ok()
    }

    /// Millionths of service units of µcr, rounded down. Of a running total: what rounding takes is never more than one.
    pub fn units(&self, ucr: i64) -> Option<i64> {
        i64::try_from((i128::from(ucr) * MILLION).div_euclid(i128::from(self.ucr_per_service_unit))).ok()
    }
}

#[cfg(test)]
pub(crate) fn example() -> Central {
    Central {
        name: "access".into(),
        site: "COMITY".into(),
        resource: "comity.access".into(),
        funder: "NSF ACCESS".into(),
        listing: "47.070".into(),
        kind: FundKind::default(),
        ucr_per_service_unit: 2_000_000,
        purposes: vec!["research".into()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_units_are_worth_what_the_operator_says() {
        let central = example();
        assert_eq!(central.fault(), None);
        assert_eq!((central.ucr(1_500_000), central.units(3_000_000)), (Some(3_000_000), Some(1_500_000)));
        assert_eq!(central.ucr(i64::MAX), None);
        // A total that is told in parts is told whole.
        let third = Central { ucr_per_service_unit: 3, ..example() };
        let told: i64 = (1..=10).map(|n| third.units(n).unwrap() - third.units(n - 1).unwrap()).sum();
        assert_eq!((third.units(10), told), (Some(3_333_333), 3_333_333));
        assert_eq!(third.units(-1), Some(-333_334));
        for wrong in [
            Central { name: "a/b".into(), ..example() },
            Central { site: String::new(), ..example() },
            Central { funder: " ".into(), ..example() },
            Central { ucr_per_service_unit: 0, ..example() },
        ] {
            assert!(wrong.fault().is_some(), "{wrong:?}");
        }
    }
}
