//! Projects, vetting, freezing: what the operator does.

use comity_ledger::Db;
use comity_wire::cbor::Text;
use comity_wire::object::Vetting;
use comity_wire::{OrgId, ProjectId, Pseudonym, PublicKey, Timestamp};

use super::{Clearing, amie};
use crate::acts;
use crate::admin::{Members, ProjectAdd, ProjectVet};
use crate::failure::Failure;
use crate::mandates::Role;
use crate::pseudonym;
use crate::store;
use crate::store::projects::Project;
use crate::vetting::{self, Statement};

/// The most purposes that a project declares: a token carries them.
const PURPOSES_MAX: usize = 16;

impl Clearing {
    /// Registers a project and its members' keys. With the id it had before, only new members are added.
    ///
    /// # Errors
    /// [`Failure`]; [`Failure::DutyConflict`] where two officers keep the books and the project was there before.
    pub async fn project_add(&self, ask: ProjectAdd) -> Result<ProjectId, Failure> {
        let ProjectAdd { id, title, purposes, members } = ask;
        let id = match id {
            Some(id) => id,
            None => ProjectId(random()?),
        };
        Text::<96>::new(title.clone()).map_err(Failure::invalid)?;
        if purposes.len() > PURPOSES_MAX {
            return Err(Failure::Limit { what: "purposes of a project", max: PURPOSES_MAX.to_string() });
        }
        for purpose in &purposes {
            Text::<48>::new(purpose.clone()).map_err(Failure::invalid)?;
        }
        let (now, secret) = (self.now(), self.inner.keys.pseudonyms.clone());
        self.write(move |conn| {
            Box::pin(async move {
                let is_new = store::projects::project_find(conn, id).await?.is_none();
                if is_new {
                    let project = Project { id, title, purposes, frozen: false };
                    store::projects::project_insert_in_tx(conn, &project, now).await?;
                }
                // Somebody must be able to sign mandates: the first key, until the operator says otherwise.
                let mut next = if store::projects::members(conn, id).await? == 0 { Role::Pi } else { Role::Manager };
                for key in &members {
                    if store::projects::role_of(conn, id, key).await?.is_none() {
                        // A new project has no credits; an old one may.
                        if !is_new {
                            alone_in_tx(conn).await?;
                        }
                        store::projects::member_put_in_tx(conn, id, key, next, now).await?;
                    }
                    next = Role::Manager;
                }
                amie::due_in_tx(conn, &secret, id, now).await?;
                Ok(id)
            })
        })
        .await
    }

    /// Adds and removes members' keys, or gives them another role; gives back how many there are now.
    ///
    /// # Errors
    /// [`Failure`]; [`Failure::DutyConflict`] where two officers keep the books and keys are added.
    pub async fn members(&self, ask: Members) -> Result<u64, Failure> {
        let (now, house) = (self.now(), self.clone());
        self.write(move |conn| {
            Box::pin(async move {
                if !ask.add.is_empty() {
                    alone_in_tx(conn).await?;
                }
                members_in_tx(&house, conn, &ask, now).await?;
                store::projects::members(conn, ask.project).await
            })
        })
        .await
    }

    /// Records a statement on a project; gives back what the house states from now on.
    ///
    /// # Errors
    /// [`Failure`]; [`Failure::DutyConflict`] where two officers keep the books and it says more than nothing.
    pub async fn project_vet(&self, ask: ProjectVet) -> Result<Vetting, Failure> {
        let now = self.now();
        self.write(move |conn| {
            Box::pin(async move {
                if ask.vetting != Vetting::None {
                    alone_in_tx(conn).await?;
                }
                vet_in_tx(conn, &ask, now).await?;
                Ok(vetting::of(&store::projects::vetting_statements(conn, ask.project).await?, now))
            })
        })
        .await
    }

    /// Stops new reservations of a project, or allows them again. Tokens that are out live on, and are paid.
    ///
    /// # Errors
    /// [`Failure`]; [`Failure::DutyConflict`] where two officers keep the books and they are allowed again.
    pub async fn freeze(&self, project: ProjectId, frozen: bool) -> Result<(), Failure> {
        let (now, house) = (self.now(), self.clone());
        self.write(move |conn| {
            Box::pin(async move {
                if !frozen {
                    alone_in_tx(conn).await?;
                }
                freeze_in_tx(&house, conn, (project, frozen), now).await
            })
        })
        .await
    }

    /// What an organisation knows a project by, whether or not it has met it yet.
    pub fn pseudonym(&self, project: ProjectId, owner: OrgId) -> Pseudonym {
        pseudonym::derive(&self.inner.keys.pseudonyms, project, owner)
    }

    /// Whether `caller` may act for `project`.
    pub(super) async fn member_of(conn: &mut Db<'_>, caller: &PublicKey, project: ProjectId) -> Result<(), Failure> {
        let projects = store::projects::projects_of_member(conn, caller).await?;
        match projects.binary_search(&project) {
            Ok(_) => Ok(()),
            Err(_) if projects.is_empty() => Err(Failure::NotRegistered),
            Err(_) => Err(Failure::NotYours { what: "another project's" }),
        }
    }
}

pub(super) async fn freeze_in_tx(
    house: &Clearing,
    conn: &mut Db<'_>,
    (project, frozen): (ProjectId, bool),
    now: Timestamp,
) -> Result<(), Failure> {
    store::projects::project_freeze_in_tx(conn, project, frozen).await?;
    amie::due_in_tx(conn, &house.inner.keys.pseudonyms, project, now).await.map(drop)
}

/// Whether one person may give rights by themselves.
pub(super) async fn alone_in_tx(conn: &mut Db<'_>) -> Result<(), Failure> {
    acts::alone(&store::acts::officers(conn).await?)
}

pub(super) async fn members_in_tx(
    house: &Clearing,
    conn: &mut Db<'_>,
    ask: &Members,
    now: Timestamp,
) -> Result<(), Failure> {
    let Members { project, add, remove, role, .. } = ask;
    exists(conn, *project).await?;
    for key in remove {
        store::projects::member_remove_in_tx(conn, *project, key).await?;
    }
    for key in add {
        // The same command again must not make a PI a manager.
        let role = match role {
            Some(role) => *role,
            None => store::projects::role_of(conn, *project, key).await?.unwrap_or(Role::Manager),
        };
        store::projects::member_put_in_tx(conn, *project, key, role, now).await?;
    }
    amie::due_in_tx(conn, &house.inner.keys.pseudonyms, *project, now).await.map(drop)
}

/// Whether a statement could be recorded.
pub(super) async fn vet_check(conn: &mut Db<'_>, ask: &ProjectVet, now: Timestamp) -> Result<(), Failure> {
    if ask.until.is_some_and(|until| until <= ask.from.unwrap_or(now)) {
        return Err(Failure::invalid("a statement must end after it begins"));
    }
    exists(conn, ask.project).await.map(drop)
}

pub(super) async fn vet_in_tx(conn: &mut Db<'_>, ask: &ProjectVet, now: Timestamp) -> Result<(), Failure> {
    vet_check(conn, ask, now).await?;
    let ProjectVet { project, vetting, issuer, claim, from, until } = ask.clone();
    let statement = Statement { value: vetting, issuer, claim, from: from.unwrap_or(now), until };
    store::projects::vetting_insert_in_tx(conn, project, &statement, now).await
}

pub(super) async fn exists(conn: &mut Db<'_>, id: ProjectId) -> Result<Project, Failure> {
    let project = store::projects::project_find(conn, id).await?;
    project.ok_or_else(|| Failure::NotFound { what: format!("project {id}") })
}

pub(super) fn random() -> Result<[u8; 16], Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| Failure::Entropy)?;
    Ok(bytes)
}
