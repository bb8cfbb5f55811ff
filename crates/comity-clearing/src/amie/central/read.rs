//! What a central site's packet says, checked: whatever it asks for that this house cannot do is a sentence.

use comity_wire::Timestamp;
use comity_wire::time::DAY_S;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::grant::{Allocation, Grant};
use super::{Central, NAME_BYTES_MAX};
use crate::amie::{Body, Kind, iso, label, resource_list, success, units};

/// The largest body that is kept, bytes.
const BODY_BYTES_MAX: usize = 64 << 10;
/// The longest kind that is kept of a packet that this house does not know.
const KIND_BYTES_MAX: usize = 64;
/// The longest GrantNumber and RecordID, bytes: both together are part of an award's number.
const NUMBER_BYTES_MAX: usize = 120;
/// The longest name of a person that is kept, bytes.
const SAID_BYTES_MAX: usize = 200;
/// What a project's title has room for.
const TITLE_BYTES_MAX: usize = 96;

/// A packet as it came, before it is known what it asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Incoming {
    /// packet_rec_id.
    pub id: u64,
    /// trans_rec_id.
    pub transaction: u64,
    /// As it was written: one that this house does not know is answered too.
    pub kind: String,
    pub body: Body,
}

/// What a packet asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    Grant(Box<Grant>),
    Account(Box<AccountAsk>),
    /// A project, and its accounts with it: whether it is to be active.
    Project(StandingAsk, bool),
    /// One account.
    AccountStanding(StandingAsk, bool),
    /// Names of a person; none where only certificates change, which this house has none of.
    Modify(u64, Option<PersonSaid>),
    Merge {
        keep: u64,
        gone: u64,
    },
    /// The central site has noted what this house did.
    Noted,
    /// It says that a transaction is over: how, and what it says of it.
    Over(bool, String),
}

/// An account that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountAsk {
    pub grant_number: String,
    pub project: Option<String>,
    pub person: PersonSaid,
    /// What RoleList says.
    pub leads: bool,
}

/// Of whom a standing is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandingAsk {
    pub project: String,
    pub person: Option<u64>,
}

/// What a packet says of a person. What it leaves out is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PersonSaid {
    pub first_name: String,
    pub last_name: String,
    pub organization: String,
    pub org_code: String,
    pub email: String,
    /// What the central site calls the person everywhere.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub global_id: String,
    /// This house's own number, where the central site knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
}

impl Incoming {
    /// Reads a packet of a list. None where it is not this house's to answer.
    ///
    /// # Errors
    /// A sentence; without its ids a packet can be neither kept nor answered.
    pub fn read(packet: &Value) -> Result<Option<Self>, String> {
        let header = &packet["header"];
        let number = |name: &str| match &header[name] {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        let id = |name: &str| {
            let id = number(name).filter(|id| i64::try_from(*id).is_ok());
            id.ok_or_else(|| format!("a packet without {name}"))
        };
        if header["outgoing_flag"].as_bool() == Some(true) {
            return Ok(None);
        }
        let (id, transaction) = (id("packet_rec_id")?, id("trans_rec_id")?);
        let plain = |c: char| c.is_ascii_lowercase() || c == '_';
        let kind = packet["type"].as_str().filter(|kind| kind.len() <= KIND_BYTES_MAX && kind.chars().all(plain));
        let body = packet["body"].as_object().cloned().unwrap_or_default();
        let large = serde_json::to_string(&body).map_or(true, |text| text.len() > BODY_BYTES_MAX);
        Ok(Some(Self {
            id,
            transaction,
            kind: kind.unwrap_or("unreadable").to_owned(),
            // It is failed for what is missing, and nothing large is kept.
            body: if large { Body::new() } else { body },
        }))
    }

    pub fn known(&self) -> Option<Kind> {
        Kind::from_word(&self.kind)
    }
}

/// What a packet asks for.
///
/// # Errors
/// A sentence for the central site, and for this house's operator.
pub fn asked(central: &Central, packet: &Incoming) -> Result<Asked, String> {
    let body = &packet.body;
    let kind = packet.known().ok_or_else(|| format!("this house takes no packet of type {}", packet.kind))?;
    let here = || match body.get("ResourceList").map(resource_list) {
        Some(Ok(one)) if one == central.resource => Ok(()),
        Some(Ok(one)) => Err(format!("ResourceList names {one}, and this house is {}", central.resource)),
        Some(Err(what)) => Err(what),
        None => Err("ResourceList is missing".into()),
    };
    let standing = |person: bool| {
        here()?;
        let person = if person { Some(number(body, "PersonID")?) } else { None };
        Ok::<_, String>(StandingAsk { project: label(body, "ProjectID")?, person })
    };
    match kind {
        Kind::RequestProjectCreate => {
            here()?;
            Ok(Asked::Grant(Box::new(grant(body)?)))
        }
        Kind::RequestAccountCreate => {
            here()?;
            Ok(Asked::Account(Box::new(account(body)?)))
        }
        Kind::RequestProjectInactivate => Ok(Asked::Project(standing(false)?, false)),
        Kind::RequestProjectReactivate => Ok(Asked::Project(standing(false)?, true)),
        Kind::RequestAccountInactivate => Ok(Asked::AccountStanding(standing(true)?, false)),
        Kind::RequestAccountReactivate => Ok(Asked::AccountStanding(standing(true)?, true)),
        Kind::RequestUserModify => {
            let number = number(body, "PersonID")?;
            match body.get("ActionType").and_then(Value::as_str).map(str::to_ascii_lowercase).as_deref() {
                Some("add" | "replace") => Ok(Asked::Modify(number, Some(person_of(body, "")?))),
                Some("delete") => Ok(Asked::Modify(number, None)),
                _ => Err("ActionType is add, replace or delete".into()),
            }
        }
        Kind::RequestPersonMerge => {
            let (keep, gone) = (number(body, "KeepPersonID")?, number(body, "DeletePersonID")?);
            if keep == gone {
                return Err(format!("KeepPersonID and DeletePersonID are both {keep}"));
            }
            Ok(Asked::Merge { keep, gone })
        }
        Kind::DataProjectCreate | Kind::DataAccountCreate => Ok(Asked::Noted),
        Kind::InformTransactionComplete => success(body).map(|(success, message)| Asked::Over(success, message)),
        Kind::NotifyProjectCreate
        | Kind::NotifyAccountCreate
        | Kind::NotifyProjectInactivate
        | Kind::NotifyProjectReactivate
        | Kind::NotifyAccountInactivate
        | Kind::NotifyAccountReactivate => Err(format!("{kind} is a site's to say, and this house is the site")),
    }
}

fn grant(body: &Body) -> Result<Grant, String> {
    let word = label(body, "AllocationType")?;
    let allocation = Allocation::from_word(&word).ok_or_else(|| {
        format!("AllocationType {word} is none of new, renewal, supplement, extension, transfer, adjustment, advance")
    })?;
    let units = body.get("ServiceUnitsAllocated").and_then(units);
    let day = |name: &str| {
        let text = body.get(name).and_then(Value::as_str).ok_or_else(|| format!("{name} is missing"))?;
        iso(text).ok_or_else(|| format!("{name} is not a date of ISO 8601"))
    };
    let ends_at = day("EndDate")?;
    Ok(Grant {
        number: short(body, "GrantNumber")?,
        record: short(body, "RecordID")?,
        allocation,
        units: units.ok_or("ServiceUnitsAllocated is a number with at most six decimal places")?,
        starts_at: day("StartDate")?,
        // The day that is named is the last one.
        ends_at: if ends_at.0 % DAY_S == 0 { ends_at.plus(DAY_S) } else { ends_at },
        title: title(body),
        pi: person_of(body, "Pi")?,
    })
}

fn account(body: &Body) -> Result<AccountAsk, String> {
    let roles = body.get("RoleList").and_then(Value::as_array);
    let leads = |role: &Value| {
        let role = role.as_str().unwrap_or_default().to_ascii_lowercase();
        matches!(role.as_str(), "pi" | "co-pi" | "copi" | "co_pi")
    };
    Ok(AccountAsk {
        grant_number: short(body, "GrantNumber")?,
        project: match body.get("ProjectID") {
            None | Some(Value::Null) => None,
            Some(_) => Some(label(body, "ProjectID")?),
        },
        person: person_of(body, "User")?,
        leads: roles.is_some_and(|roles| roles.iter().any(leads)),
    })
}

/// The person whose names begin with `prefix`: `Pi`, `User`, or nothing.
///
/// # Errors
/// A sentence.
pub fn person_of(body: &Body, prefix: &str) -> Result<PersonSaid, String> {
    let said = |name: &str| said(body, &format!("{prefix}{name}"), SAID_BYTES_MAX);
    let number_name = format!("{prefix}PersonID");
    let person = PersonSaid {
        first_name: said("FirstName"),
        last_name: said("LastName"),
        organization: said("Organization"),
        org_code: said("OrgCode"),
        email: said("Email"),
        global_id: said("GlobalID"),
        number: match body.get(&number_name) {
            // Of a change the number says who, and is read where it is needed.
            _ if prefix.is_empty() => None,
            None | Some(Value::Null) => None,
            Some(Value::String(text)) if text.is_empty() => None,
            Some(_) => Some(number(body, &number_name)?),
        },
    };
    if person.last_name.is_empty() && !prefix.is_empty() {
        return Err(format!("{prefix}LastName is missing"));
    }
    Ok(person)
}

impl PersonSaid {
    /// The person, with what is said anew.
    pub fn changed(&self, said: &Self) -> Self {
        let or = |old: &String, new: &String| if new.is_empty() { old.clone() } else { new.clone() };
        Self {
            first_name: or(&self.first_name, &said.first_name),
            last_name: or(&self.last_name, &said.last_name),
            organization: or(&self.organization, &said.organization),
            org_code: or(&self.org_code, &said.org_code),
            email: or(&self.email, &said.email),
            global_id: or(&self.global_id, &said.global_id),
            number: None,
        }
    }
}

/// A person's number, which this house gave.
fn number(body: &Body, name: &str) -> Result<u64, String> {
    let text = label(body, name)?;
    let number = text.parse::<u64>().ok().filter(|number| i64::try_from(*number).is_ok());
    number.ok_or_else(|| format!("{name} {text} is no number that this house gave"))
}

fn short(body: &Body, name: &str) -> Result<String, String> {
    let text = label(body, name)?;
    if text.len() > NUMBER_BYTES_MAX {
        return Err(format!("{name} has at most {NUMBER_BYTES_MAX} bytes here"));
    }
    Ok(text)
}

/// Text that may be missing, without what no line has, cut where it is too long.
fn said(body: &Body, name: &str, max: usize) -> String {
    let text = match body.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    };
    let mut kept = String::new();
    for c in text.trim().chars().filter(|c| !c.is_control()) {
        if kept.len() + c.len_utf8() > max {
            break;
        }
        kept.push(c);
    }
    kept
}

fn title(body: &Body) -> String {
    let title = said(body, "ProjectTitle", TITLE_BYTES_MAX);
    if title.is_empty() { said(body, "GrantNumber", NAME_BYTES_MAX) } else { title }
}

/// A day, as packets write it.
pub(super) fn day(at: Timestamp) -> String {
    at.to_string().chars().take(10).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::amie::central::example;

    fn packet(kind: &str, body: Value) -> Incoming {
        let packet = json!({ "type": kind, "header": { "packet_rec_id": 1, "trans_rec_id": "2" }, "body": body });
        Incoming::read(&packet).unwrap().unwrap()
    }

    pub(crate) fn request() -> Value {
        json!({
            "AllocationType": "new", "GrantNumber": "TG-1", "PfosNumber": "7", "PiFirstName": "Ada", "PiLastName": "Lovelace",
            "PiOrganization": "University", "PiOrgCode": "42", "StartDate": "2026-11-23", "EndDate": "2027-11-22",
            "ResourceList": ["comity.access"], "RecordID": "r-1", "ServiceUnitsAllocated": "1.5",
        })
    }

    fn with(mut value: Value, name: &str, to: Value) -> Value {
        value[name] = to;
        value
    }

    #[test]
    fn a_request_says_what_is_granted_to_whom() {
        let Asked::Grant(grant) = asked(&example(), &packet("request_project_create", request())).unwrap() else {
            panic!("a grant")
        };
        assert_eq!((&grant.number[..], grant.units, grant.allocation), ("TG-1", 1_500_000, Allocation::New));
        assert_eq!((grant.ends_at.to_string().as_str(), &grant.title[..]), ("2027-11-23T00:00:00Z", "TG-1"));
        for (name, value) in [
            ("AllocationType", json!("gift")),
            ("GrantNumber", json!("")),
            ("GrantNumber", json!("x".repeat(121))),
            ("RecordID", Value::Null),
            ("ServiceUnitsAllocated", json!("1e9")),
            ("ServiceUnitsAllocated", json!({})),
            ("EndDate", json!("soon")),
            ("ResourceList", json!(["another"])),
            ("ResourceList", json!([])),
            ("ResourceList", Value::Null),
            ("PiLastName", json!("\n")),
            ("PiPersonID", json!("seven")),
            ("PiPersonID", json!(-1)),
        ] {
            let wrong = packet("request_project_create", with(request(), name, value.clone()));
            assert!(asked(&example(), &wrong).is_err(), "{name} {value}");
        }
    }

    #[test]
    fn what_a_site_says_is_not_said_to_it() {
        for kind in ["notify_project_create", "request_credits", "unreadable"] {
            asked(&example(), &packet(kind, request())).unwrap_err();
        }
        let own = json!({ "type": "x", "header": { "packet_rec_id": 1, "trans_rec_id": 2, "outgoing_flag": true } });
        assert_eq!(Incoming::read(&own), Ok(None));
        for header in
            [json!({}), json!({ "packet_rec_id": 1 }), json!({ "packet_rec_id": u64::MAX, "trans_rec_id": 1 })]
        {
            Incoming::read(&json!({ "type": "x", "header": header })).unwrap_err();
        }
        assert_eq!(packet("WORSE kind", json!({ "a": "x".repeat(70_000) })).body, Body::new());
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
            Just(json!(["comity.access"])),
            Just(json!("2027-01-01")),
            Just(json!("new")),
        ];
        leaf.prop_recursive(2, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(".{0,6}", inner, 0..4).prop_map(|map| json!(map)),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_packet_ends_the_house(kind in 0..Kind::ALL.len(), changes in prop::collection::vec((0..14_usize, any_json()), 0..4), whole in any_json()) {
            let _ = Incoming::read(&whole);
            let mut body = request();
            let names: Vec<String> = body.as_object().unwrap().keys().cloned().collect();
            for (at, value) in changes {
                body[&names[at % names.len()]] = value;
            }
            let _ = asked(&example(), &packet(Kind::ALL[kind].word(), body));
        }
    }
}
