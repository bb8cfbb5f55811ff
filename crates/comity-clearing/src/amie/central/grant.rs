//! What a grant of a central site is in this house's books: one act for each packet, which officers approve or refuse.

use comity_wire::{Amount, AwardId, Digest, LotId, ProjectId, Timestamp};

use super::Central;
use super::read::PersonSaid;
use crate::acts::{Act, AwardAsk, Extend, PartAsk, Supplement, Withdraw};
use crate::amie::charge;

/// What a packet does to a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    New,
    Renewal,
    Supplement,
    Extension,
    Transfer,
    Adjustment,
    Advance,
}

impl Allocation {
    const ALL: [(Self, &'static str); 7] = [
        (Self::New, "new"),
        (Self::Renewal, "renewal"),
        (Self::Supplement, "supplement"),
        (Self::Extension, "extension"),
        (Self::Transfer, "transfer"),
        (Self::Adjustment, "adjustment"),
        (Self::Advance, "advance"),
    ];

    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, known)| known.eq_ignore_ascii_case(word)).map(|(allocation, _)| allocation)
    }
}

/// A request_project_create, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub number: String,
    /// RecordID: one that was done is never done again.
    pub record: String,
    pub allocation: Allocation,
    /// Millionths of service units; below zero where they are taken back.
    pub units: i64,
    pub starts_at: Timestamp,
    pub ends_at: Timestamp,
    pub title: String,
    pub pi: PersonSaid,
}

/// How a grant stands in the books.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrantStanding {
    /// Its newest award; also one that still waits for the officers.
    pub award: Option<AwardId>,
    /// What is left in its lots.
    pub lots: Vec<(LotId, Amount)>,
}

/// The project of a grant: each has its own, so that what it used is what the grant used.
pub fn project_named(central: &str, grant_number: &str) -> ProjectId {
    let mut id = [0; 16];
    let length = (central.len() as u64).to_be_bytes();
    let parts = [b"comity/clearing/central/v1", &length[..], central.as_bytes(), grant_number.as_bytes()];
    id.copy_from_slice(&Digest::of_parts(&parts).as_bytes()[..16]);
    ProjectId(id)
}

/// The act that a grant asks for.
///
/// # Errors
/// A sentence: what is asked for is none, or stands in no relation to what was granted.
pub fn draft(central: &Central, grant: &Grant, standing: &GrantStanding) -> Result<Act, String> {
    use Allocation::*;
    let ucr = central.ucr(grant.units).ok_or("more service units than can be counted in credits")?;
    let size = Amount::new(ucr.saturating_abs()).map_err(|_| "more service units than can be counted in credits")?;
    let given = |what: &str| match ucr {
        1.. => Ok(size),
        _ => Err(format!("{what} is above zero, and {} service units were said", charge(grant.units))),
    };
    let unknown = || format!("grant {} was not given here yet: it begins with a new one", grant.number);
    match (grant.allocation, standing.award) {
        (New, Some(_)) => {
            Err(format!("grant {} was given before: what follows is a supplement or a renewal", grant.number))
        }
        (New | Renewal | Advance, None) => Ok(award(central, grant, given("a grant")?, grant.number.clone())),
        // Another period of its own: the credits of the one before end with it.
        (Renewal, Some(_)) => {
            let number = format!("{}/{}", grant.number, grant.record);
            Ok(award(central, grant, given("a renewal")?, number))
        }
        (Supplement | Advance, Some(award)) => Ok(more(grant, award, given("a supplement")?)),
        (Transfer | Adjustment, Some(award)) if ucr > 0 => Ok(more(grant, award, size)),
        (Transfer, None) if ucr > 0 => Ok(award(central, grant, size, grant.number.clone())),
        (Transfer | Adjustment, Some(_)) if ucr < 0 => less(grant, standing, size),
        (Extension, Some(award)) => {
            if grant.units != 0 {
                return Err("an extension changes the end and gives nothing: more is a supplement".into());
            }
            Ok(Act::Extend(Extend { award, ends_at: grant.ends_at, reason: grant.record.clone() }))
        }
        (Transfer | Adjustment, Some(_)) => Err(format!("{} service units change nothing", charge(grant.units))),
        (Supplement | Extension | Transfer | Adjustment, None) => Err(unknown()),
    }
}

fn award(central: &Central, grant: &Grant, amount: Amount, award_number: String) -> Act {
    Act::Award(AwardAsk {
        project: project_named(&central.name, &grant.number),
        amount,
        funder: central.funder.clone(),
        award_number,
        ends_at: grant.ends_at,
        starts_at: Some(grant.starts_at),
        listing: central.listing.clone(),
        kind: central.kind,
        owners: Vec::new(),
        ops: Vec::new(),
        use_or_lose: false,
        parts: Vec::new(),
    })
}

fn more(grant: &Grant, award: AwardId, amount: Amount) -> Act {
    let part = PartAsk { amount, opens_at: None, ends_at: None, after_report: false };
    Act::Supplement(Supplement { award, number: grant.record.clone(), part })
}

fn less(grant: &Grant, standing: &GrantStanding, amount: Amount) -> Result<Act, String> {
    let lot = standing.lots.iter().find(|(_, left)| *left >= amount).map(|(lot, _)| *lot);
    let lot = lot.ok_or_else(|| {
        format!("no part of grant {} has {amount} left: what is used or set aside cannot be taken back", grant.number)
    })?;
    Ok(Act::Withdraw(Withdraw { lot, amount, reason: grant.record.clone() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amie::central::example;

    fn grant(allocation: Allocation, units: i64) -> Grant {
        Grant {
            number: "TG-1".into(),
            record: "r-1".into(),
            allocation,
            units,
            starts_at: Timestamp(1_795_420_800),
            ends_at: Timestamp(1_826_956_800),
            title: "Weather".into(),
            pi: PersonSaid::default(),
        }
    }

    #[test]
    fn each_allocation_type_is_one_act() {
        use Allocation::*;
        let known = GrantStanding {
            award: Some(AwardId([9; 16])),
            lots: vec![(LotId([1; 16]), Amount::from_ucr(5)), (LotId([2; 16]), Amount::from_ucr(2_000_000))],
        };
        let act = |allocation, units, standing: &GrantStanding| {
            draft(&example(), &grant(allocation, units), standing).map(|act| act.body())
        };
        let none = GrantStanding::default();
        let units = 1_000_000;
        for allocation in [New, Renewal, Advance, Transfer] {
            let body = act(allocation, units, &none).unwrap();
            for part in ["\"act\":\"award\"", "2000000", "NSF ACCESS", "\"TG-1\"", "47.070"] {
                assert!(body.contains(part), "{allocation:?}: {body} has no {part}");
            }
        }
        assert!(act(Renewal, units, &known).unwrap().contains("TG-1/r-1"));
        for allocation in [Supplement, Advance, Transfer, Adjustment] {
            let body = act(allocation, units, &known).unwrap();
            assert!(body.contains("\"act\":\"supplement\"") && body.contains("\"number\":\"r-1\""), "{body}");
        }
        for allocation in [Transfer, Adjustment] {
            let body = act(allocation, -units, &known).unwrap();
            assert!(body.contains("\"act\":\"withdraw\"") && body.contains(&LotId([2; 16]).to_string()), "{body}");
            act(allocation, -2 * units, &known).expect_err("no lot has as much");
            act(allocation, 0, &known).unwrap_err();
            act(allocation, -units, &none).unwrap_err();
        }
        assert!(act(Extension, 0, &known).unwrap().contains("\"act\":\"extend\""));
        for (allocation, units, standing) in [
            (New, units, &known),
            (New, 0, &none),
            (New, -units, &none),
            (Supplement, -units, &known),
            (Supplement, units, &none),
            (Extension, 0, &none),
            (Extension, units, &known),
            (Adjustment, units, &none),
            (New, i64::MAX, &none),
        ] {
            act(allocation, units, standing).expect_err(&format!("{allocation:?} {units}"));
        }
    }

    #[test]
    fn a_grant_has_one_project_at_each_central_site() {
        assert_eq!(project_named("a", "bc"), project_named("a", "bc"));
        assert_ne!(project_named("a", "bc"), project_named("ab", "c"));
    }
}
