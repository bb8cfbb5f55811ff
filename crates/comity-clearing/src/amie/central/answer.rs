//! What this house answers to a central site.

use comity_wire::{ProjectId, Timestamp};
use serde_json::{Value, json};

use super::read::day;
use crate::amie::{Body, Kind};

/// The longest sentence that goes out, bytes: what a message has room for.
const MESSAGE_BYTES_MAX: usize = 300;

/// What notify_project_create repeats of the request, where it was said.
const OF_THE_GRANT: [&str; 13] = [
    "GrantNumber",
    "PfosNumber",
    "PiFirstName",
    "PiMiddleName",
    "PiLastName",
    "PiOrganization",
    "PiOrgCode",
    "ProjectTitle",
    "ResourceList",
    "ServiceUnitsAllocated",
    "StartDate",
    "EndDate",
    "BoardType",
];
const OF_THE_ACCOUNT: [&str; 8] = [
    "GrantNumber",
    "ResourceList",
    "UserFirstName",
    "UserMiddleName",
    "UserLastName",
    "UserOrganization",
    "UserOrgCode",
    "AcademicDegree",
];
const OF_A_STANDING: [&str; 4] = ["ProjectID", "PersonID", "GrantNumber", "ResourceList"];

fn repeated(request: &Body, names: &[&str]) -> Body {
    let said = names.iter().filter_map(|name| Some(((*name).to_owned(), request.get(*name)?.clone())));
    said.filter(|(_, value)| !value.is_null()).collect()
}

fn with(mut body: Body, own: Value) -> Body {
    if let Value::Object(own) = own {
        body.extend(own);
    }
    body
}

/// The project is there, and its PI.
pub fn grant_notice(request: &Body, project: ProjectId, (person, login): (u64, &str)) -> (Kind, Body) {
    let own = json!({ "ProjectID": project.to_string(), "PiPersonID": person.to_string(), "PiRemoteSiteLogin": login });
    (Kind::NotifyProjectCreate, with(repeated(request, &OF_THE_GRANT), own))
}

/// The account is there.
pub fn account_notice(
    request: &Body,
    project: ProjectId,
    (person, login): (u64, &str),
    now: Timestamp,
) -> (Kind, Body) {
    let own = json!({
        "ProjectID": project.to_string(),
        "UserPersonID": person.to_string(),
        "UserRemoteSiteLogin": login,
        "AccountActivityTime": day(now),
    });
    (Kind::NotifyAccountCreate, with(repeated(request, &OF_THE_ACCOUNT), own))
}

/// What was asked for stands. `asked` is the request's kind.
pub fn standing_notice(asked: Kind, request: &Body) -> (Kind, Body) {
    (asked.expects(), repeated(request, &OF_A_STANDING))
}

/// Heard, and done where there was anything to do.
pub fn heard() -> (Kind, Body) {
    let own = json!({ "StatusCode": "Success", "DetailCode": "1", "Message": "OK" });
    (Kind::InformTransactionComplete, with(Body::new(), own))
}

/// It cannot be done, and why.
pub fn refusal(why: &str) -> (Kind, Body) {
    let mut message = String::new();
    for c in why.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if message.len() + c.len_utf8() > MESSAGE_BYTES_MAX {
            break;
        }
        message.push(c);
    }
    let own = json!({ "StatusCode": "Failure", "DetailCode": "2", "Message": message });
    (Kind::InformTransactionComplete, with(Body::new(), own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_repeats_what_was_said_and_no_more() {
        let request = json!({
            "GrantNumber": "TG-1", "ServiceUnitsAllocated": "5", "PiEmail": "ada@x", "PfosNumber": null, "RecordID": "r",
        });
        let request = request.as_object().unwrap();
        let (kind, body) = grant_notice(request, ProjectId([1; 16]), (7, "u7"));
        assert_eq!(kind, Kind::NotifyProjectCreate);
        let mut names: Vec<&String> = body.keys().collect();
        names.sort();
        assert_eq!(names, ["GrantNumber", "PiPersonID", "PiRemoteSiteLogin", "ProjectID", "ServiceUnitsAllocated"]);
        let (_, body) = refusal(&"é\n".repeat(400));
        assert!(crate::amie::success(&body).is_ok_and(|(success, _)| !success), "{body:?}");
    }
}
