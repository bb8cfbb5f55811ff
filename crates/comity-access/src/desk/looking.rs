//! Who sees what of an application.
//!
//! Whoever operates the node can read its database; what is kept from persons here is kept from those who act over HTTP with a key of
//! their own: a draft, from everybody but its project; what others than their own institution ask for, from those who sign; and
//! everything, from those who stepped back.

use comity_wire::api::access as api;
use comity_wire::api::decisions::{DecisionProof, ProofAsked};

use super::{Desk, Project, Trouble};
use crate::act::{Act, State};
use crate::application::Application;
use crate::config::Person;
use crate::id::ApplicationId;
use crate::seal::{self, Of, Unproved};
use crate::store::Row;
use crate::view::{self, Side};

impl Desk {
    /// An application, as far as a person may see it.
    ///
    /// # Errors
    /// [`Trouble::NotFound`] where it is a draft, or another institution's than the one that they sign for; [`Trouble::SteppedBack`].
    pub async fn find_for(&self, person: &Person, id: ApplicationId) -> Result<Application, Trouble> {
        let found = self.find(id).await?;
        sees(person, &found)?;
        Ok(found)
    }

    /// Those of a page's rows that a person may see.
    ///
    /// # Errors
    /// [`Trouble::Store`].
    pub async fn seen_by(&self, person: &Person, rows: Vec<Row>) -> Result<Vec<Row>, Trouble> {
        let mut seen = Vec::with_capacity(rows.len());
        for row in rows {
            // Only those that end so may never have been handed in; of the others the row says enough.
            let is_looked_into = person.signs_only() || matches!(row.state, State::Withdrawn | State::Lapsed);
            let is_seen = match row.state {
                State::Draft => false,
                _ if is_looked_into => match self.find_for(person, row.id).await {
                    Ok(_) | Err(Trouble::SteppedBack) => true,
                    Err(Trouble::NotFound) => false,
                    Err(trouble) => return Err(trouble),
                },
                _ => true,
            };
            if is_seen {
                seen.push(row);
            }
        }
        Ok(seen)
    }

    /// That its newest sealed event cannot be rewritten unseen.
    ///
    /// # Errors
    /// [`Unproved`].
    pub async fn proof(&self, application: &Application, asked: ProofAsked) -> Result<DecisionProof, Unproved> {
        seal::shown(&*self.0.store, Of::Application(application.id()), asked).await
    }

    /// As the applicant's side sees it.
    pub fn for_project(&self, project: &Project, application: &Application) -> api::Application {
        view::shown(application, Side::Applicant, project.roles())
    }

    /// As one of the owner's side sees it; whoever only signs reads what the applicant reads.
    pub fn for_person(&self, person: &Person, application: &Application) -> api::Application {
        let side = if person.signs_only() { Side::Applicant } else { Side::Owner };
        view::shown(application, side, &person.roles)
    }
}

fn sees(person: &Person, application: &Application) -> Result<(), Trouble> {
    let is_handed_in = application.events().iter().any(|recorded| matches!(recorded.event().act, Act::Submit { .. }));
    if !is_handed_in || person.signs_only() && !application.is_of(person.organisation.as_deref()) {
        return Err(Trouble::NotFound);
    }
    if application.has_stepped_back(&person.id) {
        return Err(Trouble::SteppedBack);
    }
    Ok(())
}
