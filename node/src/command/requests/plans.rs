//! The experiment plans that are attached to an application.

use std::path::Path;

use comity_wire::Digest;
use comity_wire::api::access as api;
use comity_wire::object::Plan;
use serde_json::Value;

use super::Attachment;
use crate::failure::Failure;
use crate::service::admin;

/// Those that were attached under the name of one, in order.
fn attached(shown: &api::Application) -> Vec<Digest> {
    let events = shown.events.iter().filter_map(|event| event.text.as_deref());
    let acts = events.filter_map(|text| serde_json::from_str::<Value>(text).ok());
    let plan = |event: Value| {
        let act = &event["act"];
        let is_plan = act["kind"] == "attach"
            && act["name"].as_str().is_some_and(|name| name.ends_with(comity_access::plan::SUFFIX));
        if is_plan { act["digest"].as_str()?.parse().ok() } else { None }
    };
    acts.filter_map(plan).collect()
}

/// The plan that is meant.
///
/// # Errors
/// [`Failure`] where none is attached, or several are and none is named.
pub(super) fn named(shown: &api::Application, named: Option<Digest>) -> Result<Digest, Failure> {
    let attached = attached(shown);
    match (named, &attached[..]) {
        (Some(digest), _) => Ok(digest),
        (None, [only]) => Ok(*only),
        (None, []) => Err(Failure::new("no experiment plan is attached to this application")
            .hint("ask the applicant for one: comity requests ask … --applicant")),
        (None, several) => {
            let several: Vec<String> = several.iter().map(ToString::to_string).collect();
            Err(Failure::new("several experiment plans are attached")
                .hint(format!("approve one of them with --plan: {}", several.join(", "))))
        }
    }
}

/// The application with its plans below it, as anybody can read them.
pub(super) async fn beside(mut text: String, home: &Path, shown: &api::Application) -> Result<String, Failure> {
    for digest in attached(shown) {
        let path = format!("/admin/requests/{}/attachments/{digest}", shown.id);
        let plan = match admin::get::<Attachment>(home, &path).await {
            Ok(found) => {
                let bytes = found.bytes()?;
                // What is read is what was attached, whoever passed it on.
                Plan::from_bytes(&bytes).ok().filter(|plan| plan.digest() == digest)
            }
            Err(_) => None,
        };
        text.push_str(&format!("\n\nplan {digest}\n"));
        match plan {
            Some(plan) => text.push_str(&comity_cli::plan::told(&plan)),
            None => {
                text.push_str("  its bytes have not arrived, or are no experiment plan: nothing of it can be approved")
            }
        }
    }
    Ok(text)
}
