//! Packets: their kinds, and what a site's packet must say.

use std::fmt;

use serde_json::{Map, Value, json};

use super::flow::Flow;
use super::text::{label, units};

/// A packet's body, by the names that AMIE gives.
pub type Body = Map<String, Value>;

/// The largest body that is kept, bytes.
const BODY_BYTES_MAX: usize = 64 << 10;
/// How long a site has to answer, minutes: what AMIE says everywhere. The house itself ends nothing by time.
const TIMEOUT_MINUTES: u32 = 30_240;

macro_rules! kinds {
    ($($variant:ident $word:literal;)+) => {
        /// What a packet is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind { $($variant,)+ }

        impl Kind {
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

kinds! {
    RequestProjectCreate "request_project_create";
    NotifyProjectCreate "notify_project_create";
    DataProjectCreate "data_project_create";
    RequestAccountCreate "request_account_create";
    NotifyAccountCreate "notify_account_create";
    DataAccountCreate "data_account_create";
    RequestProjectInactivate "request_project_inactivate";
    NotifyProjectInactivate "notify_project_inactivate";
    RequestProjectReactivate "request_project_reactivate";
    NotifyProjectReactivate "notify_project_reactivate";
    RequestAccountInactivate "request_account_inactivate";
    NotifyAccountInactivate "notify_account_inactivate";
    RequestAccountReactivate "request_account_reactivate";
    NotifyAccountReactivate "notify_account_reactivate";
    RequestUserModify "request_user_modify";
    RequestPersonMerge "request_person_merge";
    InformTransactionComplete "inform_transaction_complete";
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Kind {
    /// What is expected in answer to it.
    pub fn expects(self) -> Self {
        let flow = Flow::ALL.into_iter().find(|flow| flow.request() == self || flow.notify() == self);
        match flow {
            Some(flow) if flow.request() == self => flow.notify(),
            Some(flow) => flow.answer(),
            None => Self::InformTransactionComplete,
        }
    }

    /// As a header lists it.
    pub fn expected_reply_list(self) -> Value {
        json!([{ "type": self.expects().word(), "timeout": TIMEOUT_MINUTES }])
    }
}

/// A packet that a site sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    pub kind: Kind,
    /// The house's packet that it answers.
    pub reply_to: u64,
    pub body: Body,
}

impl Said {
    /// Reads a packet as `amieclient` sends it. What its header says besides `in_reply_to` is the house's to say.
    ///
    /// # Errors
    /// A sentence for the site.
    pub fn read(mut packet: Value) -> Result<Self, String> {
        let word = packet["type"].as_str().ok_or("a packet has a type")?;
        let kind = Kind::from_word(word).ok_or_else(|| format!("this house takes no packet of type {word}"))?;
        let reply_to = match &packet["header"]["in_reply_to"] {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        let reply_to = reply_to.ok_or(
            "in_reply_to names no packet. A site answers here and begins nothing: projects, members and their standing are changed \
             by the house's operator (comity clearing project)",
        )?;
        let Value::Object(body) = packet["body"].take() else { return Err("a packet has a body".into()) };
        if serde_json::to_string(&body).map_or(0, |text| text.len()) > BODY_BYTES_MAX {
            return Err(format!("a body has at most {BODY_BYTES_MAX} bytes"));
        }
        Ok(Self { kind, reply_to, body })
    }
}

/// Whether `inform_transaction_complete` reports success, and what it says.
///
/// # Errors
/// A sentence for the site.
pub fn success(body: &Body) -> Result<(bool, String), String> {
    let word = body.get("StatusCode").and_then(Value::as_str).unwrap_or_default();
    let success = match word.to_ascii_lowercase().as_str() {
        "success" => true,
        "failure" => false,
        _ => return Err("StatusCode is Success or Failure".into()),
    };
    label(body, "DetailCode")?;
    Ok((success, label(body, "Message")?))
}

/// The one element of a ResourceList.
///
/// # Errors
/// A sentence for the site.
pub fn resource_list(value: &Value) -> Result<&str, String> {
    match value.as_array().map(Vec::as_slice) {
        Some([one]) => one.as_str().ok_or_else(|| "ResourceList has one element, a text".into()),
        _ => Err("ResourceList has exactly one element".into()),
    }
}

/// Fills in what a notification may leave out, from the request that it answers; what it says in other words is refused.
///
/// # Errors
/// A sentence for the site.
pub fn complete(flow: Flow, said: &mut Body, request: &Body) -> Result<(), String> {
    if let Some(list) = said.get("ResourceList") {
        resource_list(list)?;
    }
    for name in ["GrantNumber", "ResourceList"] {
        if let (Some(theirs), Some(ours)) = (said.get(name), request.get(name))
            && theirs != ours
        {
            return Err(format!("{name} is {theirs}, and {ours} was asked for"));
        }
    }
    if let (Some(theirs), Some(ours)) = (said.get("ServiceUnitsAllocated"), request.get("ServiceUnitsAllocated"))
        && units(theirs) != units(ours)
    {
        return Err(format!(
            "ServiceUnitsAllocated is {theirs}, and {ours} was asked for: a site allocates what was awarded"
        ));
    }
    // Of a create the site names its project; of all others it was named in the request.
    let fixed: &[&str] = match flow {
        Flow::ProjectCreate => &[],
        Flow::AccountCreate => &["ProjectID"],
        _ => &["ProjectID", "PersonID"],
    };
    for name in fixed {
        if let (Some(theirs), Some(ours)) = (said.get(*name), request.get(*name))
            && theirs != ours
        {
            return Err(format!("{name} is {theirs}, and {ours} was asked for"));
        }
    }
    for (name, value) in request {
        // What the house says of itself is no part of an answer.
        if name != "RecordID" && name != "Comment" && said.get(name).is_none_or(Value::is_null) {
            said.insert(name.clone(), value.clone());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(value: Value) -> Body {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn each_kind_expects_what_amie_says() {
        let chain = |mut kind: Kind| {
            let mut chain = vec![kind.word()];
            while kind != Kind::InformTransactionComplete {
                kind = kind.expects();
                chain.push(kind.word());
            }
            chain
        };
        assert_eq!(
            chain(Kind::RequestAccountCreate),
            ["request_account_create", "notify_account_create", "data_account_create", "inform_transaction_complete"]
        );
        assert_eq!(
            chain(Kind::RequestProjectInactivate),
            ["request_project_inactivate", "notify_project_inactivate", "inform_transaction_complete"]
        );
        assert_eq!(chain(Kind::RequestUserModify), ["request_user_modify", "inform_transaction_complete"]);
        for kind in Kind::ALL {
            assert_eq!(Kind::from_word(kind.word()), Some(*kind));
        }
    }

    #[test]
    fn an_answer_says_what_it_answers() {
        let packet =
            |reply: Value| json!({ "type": "notify_project_create", "header": { "in_reply_to": reply }, "body": {} });
        assert_eq!(Said::read(packet(json!(7))).unwrap().reply_to, 7);
        assert_eq!(Said::read(packet(json!("7"))).unwrap().reply_to, 7);
        for wrong in [json!(null), json!(-1), json!("x"), json!(1.5)] {
            assert!(Said::read(packet(wrong)).unwrap_err().contains("begins nothing"));
        }
        assert!(Said::read(json!({ "type": "notify_user_modify" })).unwrap_err().contains("notify_user_modify"));
        assert!(Said::read(json!([])).is_err());
        let large = json!({ "type": "notify_project_create", "header": { "in_reply_to": 1 }, "body": { "Abstract": "x".repeat(70_000) } });
        assert!(Said::read(large).unwrap_err().contains("65536"));
    }

    #[test]
    fn what_was_asked_for_is_filled_in_and_never_contradicted() {
        let request = body(json!({
            "GrantNumber": "A-1", "ResourceList": ["r"], "ServiceUnitsAllocated": "10", "RecordID": "x", "StartDate": "2026-01-01",
        }));
        let mut said = body(json!({ "ProjectID": "P", "ServiceUnitsAllocated": 10, "StartDate": null }));
        complete(Flow::ProjectCreate, &mut said, &request).unwrap();
        assert_eq!((&said["GrantNumber"], &said["StartDate"]), (&json!("A-1"), &json!("2026-01-01")));
        assert!(!said.contains_key("RecordID"));
        for (name, value) in
            [("GrantNumber", json!("A-2")), ("ResourceList", json!(["s"])), ("ServiceUnitsAllocated", json!("11"))]
        {
            let mut said = body(json!({ name: value }));
            assert!(complete(Flow::ProjectCreate, &mut said, &request).unwrap_err().starts_with(name));
        }
        for list in [json!([]), json!(["r", "s"]), json!("r"), json!([1])] {
            let mut said = body(json!({ "ResourceList": list }));
            assert!(complete(Flow::ProjectCreate, &mut said, &request).is_err());
        }
        let request = body(json!({ "ProjectID": "P", "PersonID": "7" }));
        let mut said = body(json!({ "ProjectID": "Q" }));
        assert!(complete(Flow::AccountInactivate, &mut said, &request).is_err());
    }

    #[test]
    fn a_status_is_success_or_failure() {
        let said = |status: &str| success(&body(json!({ "StatusCode": status, "DetailCode": 1, "Message": "OK" })));
        assert_eq!(said("Success"), Ok((true, "OK".into())));
        assert_eq!(said("failure"), Ok((false, "OK".into())));
        assert!(said("maybe").is_err());
        assert!(success(&body(json!({ "StatusCode": "Success" }))).is_err());
    }
}
