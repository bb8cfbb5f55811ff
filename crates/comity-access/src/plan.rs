//! The experiment plan that a decision approves: an attachment of the application, read before anything is decided, and given
//! to the node with the grant.

use comity_wire::object::Plan;

use crate::act::{Act, Terms};
use crate::application::Application;
use crate::desk::Trouble;
use crate::store::Store;

/// What an attachment is called that is a plan; its bytes are the plan's one encoding.
pub const SUFFIX: &str = ".plan";

/// Whether what an act approves can be approved.
///
/// # Errors
/// [`Trouble::Content`] where the attachment is no plan for what is granted.
pub(crate) async fn check(store: &dyn Store, application: &Application, act: &Act) -> Result<(), Trouble> {
    match act {
        Act::Approve { terms, .. } | Act::Reinstate { terms, .. } => read(store, application, terms).await.map(drop),
        _ => Ok(()),
    }
}

/// The bytes of the plan that is approved.
///
/// # Errors
/// As [`check`].
pub(crate) async fn read(
    store: &dyn Store,
    application: &Application,
    terms: &Terms,
) -> Result<Option<Vec<u8>>, Trouble> {
    let Some(digest) = terms.plan else { return Ok(None) };
    let bytes = store.attachment(application.id(), digest).await?;
    let bytes =
        bytes.ok_or(Trouble::Content("the bytes of the plan have not arrived; the applicant sends them again"))?;
    let plan = Plan::from_bytes(&bytes).map_err(|_| Trouble::Content("the attachment is no experiment plan"))?;
    if !terms.models.iter().all(|model| plan.models.contains(model)) {
        return Err(Trouble::Content("a model is granted that the plan does not name"));
    }
    Ok(Some(bytes))
}
