//! Persons at the house: whose key it is, what is known of them, and the level that follows for a project.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use comity_ledger::Db;
use comity_wire::api::clearing::SignedBytes;
use comity_wire::api::person::{
    KeyAddRequest, KeyStatus, Level, MemberLevel, MissingReply, ProjectOfKey, TOKENS_SHOWN_MAX, TokensStopped,
    WhoamiReply,
};
use comity_wire::object::Vetting;
use comity_wire::{MemberId, ProjectId, PublicKey, Timestamp};

use super::projects::{alone_in_tx, exists, random};
use super::proposals::{conduct_value, is_accepted};
use super::{Clearing, amie};
use crate::admin::{EvidenceRow, PersonKey, PersonRow, PersonShow, PersonVouch};
use crate::failure::Failure;
use crate::mandates::Role;
use crate::persons::{Bound, By, KEYS_MAX, TEXT_MAX, key_proof};
use crate::store;
use crate::store::persons::Kept;
use crate::store::tokens::Drawn;
use crate::vetting::evidence::{HOUSE, claim};
use crate::vetting::{self, Case, Evidence, How, Person, Statement};

/// The most that lists for the operator show.
const SHOWN_MAX: u32 = 1_000;
/// Who recorded what the operator said.
const OPERATOR: &str = "operator";

impl Clearing {
    /// The operator answers for a person: by letter, by sight. Named by a key that nobody has, the person is new.
    ///
    /// # Errors
    /// [`Failure`]; [`Failure::DutyConflict`] where two officers keep the books and it says more than nothing.
    pub async fn person_vouch(&self, ask: PersonVouch) -> Result<PersonShow, Failure> {
        let (now, fresh) = (self.now(), MemberId(random()?));
        let person = self
            .write(move |conn| {
                Box::pin(async move {
                    if ask.vetting != Vetting::None {
                        alone_in_tx(conn).await?;
                    }
                    vouch_in_tx(conn, &ask, fresh, now).await
                })
            })
            .await?;
        self.person_show(person).await
    }

    /// The operator says that a key is a person's too.
    ///
    /// # Errors
    /// [`Failure`] where it is another's, or there are too many; [`Failure::DutyConflict`] where two officers keep the books.
    pub async fn person_key_add(&self, ask: PersonKey) -> Result<PersonShow, Failure> {
        let (now, person) = (self.now(), ask.person);
        self.write(move |conn| {
            Box::pin(async move {
                alone_in_tx(conn).await?;
                person_key_in_tx(conn, &ask, now).await
            })
        })
        .await?;
        self.person_show(person).await
    }

    /// A person says, with one key, that another which agrees to it is theirs too.
    ///
    /// # Errors
    /// [`Failure`] where the caller is nobody's key, or the other has not signed.
    pub async fn key_add(&self, by: &PublicKey, ask: KeyAddRequest) -> Result<(), Failure> {
        let (now, by) = (self.now(), *by);
        self.write(move |conn| {
            Box::pin(async move {
                let own = store::persons::key_find(conn, &by).await?.filter(|own| own.revoked_at.is_none());
                let own = own.ok_or(Failure::NotRegistered)?;
                let proof =
                    <[u8; 64]>::try_from(&ask.proof[..]).map_err(|_| Failure::invalid("a proof has 64 bytes"))?;
                if ask.key.verify(&key_proof(own.person), &proof).is_err() {
                    return Err(Failure::NotYours { what: "a key that has not signed that it is this person's" });
                }
                bind_in_tx(conn, own.person, &ask.key, By::Key, now).await
            })
        })
        .await
    }

    /// The newest persons.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn persons(&self) -> Result<Vec<PersonRow>, Failure> {
        let mut conn = self.read().await?;
        let mut rows = Vec::new();
        for (person, since) in store::persons::persons(&mut conn.db(), SHOWN_MAX).await? {
            let subjects = store::persons::subjects_of(&mut conn.db(), person).await?;
            let keys = store::persons::keys_of(&mut conn.db(), person).await?;
            let keys = keys.iter().filter(|bound| bound.revoked_at.is_none()).map(|bound| bound.key).collect();
            rows.push(PersonRow { person, since, subjects, keys });
        }
        Ok(rows)
    }

    /// A person: names, keys, and the level in each project.
    ///
    /// # Errors
    /// [`Failure::NotFound`].
    pub async fn person_show(&self, person: MemberId) -> Result<PersonShow, Failure> {
        let now = self.now();
        let mut conn = self.read().await?;
        let mut db = conn.db();
        known(&mut db, person).await?;
        let subjects = store::persons::subjects_of(&mut db, person).await?;
        let keys = store::persons::keys_of(&mut db, person).await?;
        let mut projects = Vec::new();
        for bound in keys.iter().filter(|bound| bound.revoked_at.is_none()) {
            projects.extend(projects_of(&mut db, &bound.key, now).await?);
        }
        Ok(PersonShow { person, subjects, keys: keys.iter().map(status).collect(), projects })
    }

    /// All that was recorded on a person, the newest first.
    ///
    /// # Errors
    /// [`Failure::NotFound`].
    pub async fn person_evidence(&self, person: MemberId) -> Result<Vec<EvidenceRow>, Failure> {
        let mut conn = self.read().await?;
        known(&mut conn.db(), person).await?;
        let rows = store::persons::evidence_of(&mut conn.db(), person, SHOWN_MAX).await?;
        let row = |kept: Kept| EvidenceRow {
            evidence: kept.evidence,
            note: kept.note,
            recorded_by: kept.recorded_by,
            recorded_at: kept.recorded_at,
        };
        Ok(rows.into_iter().map(row).collect())
    }

    /// A key acts for nobody any more: it is no member's of any project, and is never taken again, and what it drew is stopped.
    /// `by`: a key of the same person; none: the operator. Again, it stops what was not stopped.
    ///
    /// # Errors
    /// [`Failure`] where it is another person's, or nobody's.
    pub async fn key_revoke(&self, by: Option<PublicKey>, key: PublicKey) -> Result<TokensStopped, Failure> {
        let (now, secret) = (self.now(), self.inner.keys.pseudonyms.clone());
        self.write(move |conn| {
            Box::pin(async move {
                let bound = store::persons::key_find(conn, &key).await?;
                if let Some(by) = by {
                    let own = store::persons::key_find(conn, &by).await?.filter(|own| own.revoked_at.is_none());
                    let own = own.ok_or(Failure::NotRegistered)?;
                    if bound.is_none_or(|bound| bound.person != own.person) {
                        return Err(Failure::NotYours { what: "another person's key" });
                    }
                }
                if bound.is_none() {
                    // A key that the operator added to a project is nobody's yet: it ends all the same, and is never taken again.
                    if store::projects::projects_of_member(conn, &key).await?.is_empty()
                        && store::tokens::tokens_live_of(conn, Drawn::By(key), now, 1).await?.is_empty()
                    {
                        return Err(Failure::NotFound { what: format!("person, member or token of the key {key}") });
                    }
                    let person = MemberId(random()?);
                    store::persons::person_insert_in_tx(conn, person, now).await?;
                    let bound = Bound { key, person, bound_at: now, by: By::Operator, revoked_at: None };
                    store::persons::key_insert_in_tx(conn, &bound).await?;
                }
                for project in store::projects::projects_of_member(conn, &key).await? {
                    store::projects::member_remove_in_tx(conn, project, &key).await?;
                    amie::due_in_tx(conn, &secret, project, now).await?;
                }
                store::persons::key_revoke_in_tx(conn, &key, now).await
            })
        })
        .await?;
        self.revoke_drawn(Drawn::By(key), by.is_some()).await
    }

    /// Tokens that a revoked key drew and that can still be ended at their nodes, those first that may spend the most: for another key of the
    /// person, since the holder keys are lost with the computer.
    ///
    /// # Errors
    /// [`Failure`].
    pub(crate) async fn tokens_to_end(&self, key: PublicKey) -> Result<Vec<SignedBytes>, Failure> {
        let now = self.now();
        let mut conn = self.read().await?;
        let mut db = conn.db();
        let mut shown = Vec::new();
        for id in store::tokens::tokens_live_of(&mut db, Drawn::By(key), now, TOKENS_SHOWN_MAX).await? {
            if let Some(row) = store::tokens::token_find(&mut db, id).await? {
                let bytes =
                    row.bytes.clone().map_or_else(|| Ok(self.sign(&row)?.bytes().to_vec()), Ok::<_, Failure>)?;
                shown.push(SignedBytes::new(bytes).map_err(Failure::invalid)?);
            }
        }
        Ok(shown)
    }

    /// What the house knows of a key, for who has it.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn whoami(&self, key: &PublicKey) -> Result<WhoamiReply, Failure> {
        let now = self.now();
        let mut conn = self.read().await?;
        let mut db = conn.db();
        let mut reply = WhoamiReply {
            key: *key,
            person: None,
            subjects: Vec::new(),
            keys: Vec::new(),
            projects: Vec::new(),
            tokens: None,
        };
        if let Some(bound) = store::persons::key_find(&mut db, key).await? {
            reply.person = Some(bound.person);
            // One that was revoked may be in other hands: it learns that, and nothing of the person.
            if bound.revoked_at.is_some() {
                reply.keys = vec![status(&bound)];
                return Ok(reply);
            }
            reply.subjects = store::persons::subjects_of(&mut db, bound.person).await?;
            reply.keys = store::persons::keys_of(&mut db, bound.person).await?.iter().map(status).collect();
        }
        reply.projects = projects_of(&mut db, key, now).await?;
        Ok(reply)
    }

    /// All that is missing in a project, and whose move it is.
    ///
    /// # Errors
    /// [`Failure`] where the caller is no member.
    pub async fn missing(&self, caller: &PublicKey, id: ProjectId) -> Result<MissingReply, Failure> {
        let now = self.now();
        let mut conn = self.read().await?;
        let mut db = conn.db();
        Self::member_of(&mut db, caller, id).await?;
        let project = exists(&mut db, id).await?;
        let statements = store::projects::vetting_statements(&mut db, id).await?;
        let members = store::persons::members_of(&mut db, id).await?;
        let mut persons = BTreeMap::new();
        for person in members.iter().filter_map(|(.., person)| *person) {
            if let Entry::Vacant(place) = persons.entry(person) {
                place.insert(store::persons::person(&mut db, person, now).await?);
            }
        }
        let pis: Vec<Person> =
            store::persons::pis_of(&mut db, id).await?.iter().filter_map(|pi| persons.get(pi).cloned()).collect();
        let (accepted, conduct) = (is_accepted(&mut db, id).await?, conduct_value(&mut db).await?);
        let told = |(key, role, person): (PublicKey, Role, Option<MemberId>)| {
            let known = person.and_then(|person| persons.get(&person));
            let conduct = conduct.as_deref();
            let case = Case { role, person: known, pis: &pis, accepted, conduct, ..bare(id, &statements) };
            MemberLevel { key, person, role: word(role), level: vetting::level(vetting::VERSION, &case, now) }
        };
        Ok(MissingReply { project: id, title: project.title, members: members.into_iter().map(told).collect() })
    }
}

/// Whether a check of a person could be recorded.
pub(super) fn vouch_check(ask: &PersonVouch, now: Timestamp) -> Result<(), Failure> {
    if ask.seen.is_empty() || ask.seen.len() > TEXT_MAX {
        return Err(Failure::invalid(format!("say what was seen, in 1 to {TEXT_MAX} bytes")));
    }
    if ask.until.is_some_and(|until| until <= now) {
        return Err(Failure::invalid("a check must end after now"));
    }
    Ok(())
}

/// Records a check; a key that nobody has makes the person `fresh`.
pub(super) async fn vouch_in_tx(
    conn: &mut Db<'_>,
    ask: &PersonVouch,
    fresh: MemberId,
    now: Timestamp,
) -> Result<MemberId, Failure> {
    vouch_check(ask, now)?;
    let PersonVouch { who, vetting, seen, until } = ask.clone();
    let person = person_named_in_tx(conn, &who, fresh, now).await?;
    let row = Evidence {
        issuer: HOUSE.into(),
        claim: claim::OWN_CHECK.into(),
        value: vetting.to_string(),
        asserted_at: now,
        expires_at: until,
        how: How::House,
        occasion: store::persons::occasion_next(conn, person).await?,
    };
    let kept = Kept { evidence: row, note: seen, recorded_by: OPERATOR.into(), recorded_at: now };
    store::persons::evidence_insert_in_tx(conn, person, &[kept]).await?;
    Ok(person)
}

/// One more key of a person.
pub(super) async fn person_key_in_tx(conn: &mut Db<'_>, ask: &PersonKey, now: Timestamp) -> Result<(), Failure> {
    known(conn, ask.person).await?;
    bind_in_tx(conn, ask.person, &ask.key, By::Operator, now).await
}

/// A case without persons.
fn bare(project: ProjectId, statements: &[Statement]) -> Case<'_> {
    Case { project, statements, accepted: true, role: Role::Member, person: None, pis: &[], conduct: None }
}

/// What the house states of a key for a project where the operator has said the most, or the last, that there is to say: then persons
/// do not matter.
pub(super) fn level_said(
    (project, statements): (ProjectId, &[Statement]),
    role: Role,
    now: Timestamp,
) -> Option<Level> {
    let said = vetting::stated(statements, now).map(|said| said.value);
    let is_said = matches!(said, Some(Vetting::Vetted | Vetting::None));
    is_said.then(|| vetting::level(vetting::VERSION, &Case { role, ..bare(project, statements) }, now))
}

/// What the house states of a key for a project.
pub(super) async fn level_of(
    conn: &mut Db<'_>,
    (project, statements): (ProjectId, &[Statement]),
    (key, role): (&PublicKey, Role),
    now: Timestamp,
) -> Result<Level, Failure> {
    if let Some(level) = level_said((project, statements), role, now) {
        return Ok(level);
    }
    let case = Case { role, ..bare(project, statements) };
    let person = match store::persons::key_find(conn, key).await? {
        Some(bound) if bound.revoked_at.is_none() => Some(store::persons::person(conn, bound.person, now).await?),
        _ => None,
    };
    let mut pis = Vec::new();
    if !role.signs_mandates() {
        for pi in store::persons::pis_of(conn, project).await? {
            pis.push(store::persons::person(conn, pi, now).await?);
        }
    }
    let (accepted, conduct) = (is_accepted(conn, project).await?, conduct_value(conn).await?);
    let case = Case { person: person.as_ref(), pis: &pis, accepted, conduct: conduct.as_deref(), ..case };
    Ok(vetting::level(vetting::VERSION, &case, now))
}

async fn projects_of(conn: &mut Db<'_>, key: &PublicKey, now: Timestamp) -> Result<Vec<ProjectOfKey>, Failure> {
    let mut projects = Vec::new();
    for id in store::projects::projects_of_member(conn, key).await? {
        let Some((project, role, statements)) = store::projects::project_of_member(conn, id, key).await? else {
            continue;
        };
        let level = level_of(conn, (id, &statements), (key, role), now).await?;
        projects.push(ProjectOfKey { project: id, title: project.title, role: word(role), level });
    }
    Ok(projects)
}

fn status(bound: &Bound) -> KeyStatus {
    let bound_by = bound.by.word().to_owned();
    KeyStatus { key: bound.key, bound_at: bound.bound_at, bound_by, revoked_at: bound.revoked_at }
}

fn word(role: Role) -> String {
    let word = match role {
        Role::Pi => "pi",
        Role::CoPi => "co_pi",
        Role::Manager => "manager",
        Role::Member => "member",
    };
    word.to_owned()
}

pub(super) async fn known(conn: &mut Db<'_>, person: MemberId) -> Result<(), Failure> {
    if store::persons::person_exists(conn, person).await? {
        return Ok(());
    }
    Err(Failure::NotFound { what: format!("person {person}") })
}

/// The person of this id, or whose key it is; a key that nobody has makes a new one.
async fn person_named_in_tx(
    conn: &mut Db<'_>,
    who: &str,
    fresh: MemberId,
    now: Timestamp,
) -> Result<MemberId, Failure> {
    if let Ok(person) = who.parse::<MemberId>() {
        known(conn, person).await?;
        return Ok(person);
    }
    let key: PublicKey =
        who.parse().map_err(|_| Failure::invalid("a person is named by its id, mem-…, or by a key, did:key:z6Mk…"))?;
    match store::persons::key_find(conn, &key).await? {
        Some(bound) if bound.revoked_at.is_none() => Ok(bound.person),
        Some(_) => Err(Failure::invalid(format!("{key} was revoked: name another key, or the person's id"))),
        None => {
            store::persons::person_insert_in_tx(conn, fresh, now).await?;
            bind_in_tx(conn, fresh, &key, By::Operator, now).await?;
            Ok(fresh)
        }
    }
}

/// A key becomes a person's, once and for good.
pub(super) async fn bind_in_tx(
    conn: &mut Db<'_>,
    person: MemberId,
    key: &PublicKey,
    by: By,
    now: Timestamp,
) -> Result<(), Failure> {
    if let Some(bound) = store::persons::key_find(conn, key).await? {
        return match bound.revoked_at {
            None if bound.person == person => Ok(()),
            None => Err(Failure::NotYours { what: "a key of another person" }),
            Some(_) => Err(Failure::invalid(format!("{key} was revoked: make another one (comity init)"))),
        };
    }
    let live = store::persons::keys_of(conn, person).await?.iter().filter(|bound| bound.revoked_at.is_none()).count();
    if live as u64 >= KEYS_MAX {
        return Err(Failure::Limit { what: "keys of a person: revoke one (comity whoami)", max: KEYS_MAX.to_string() });
    }
    store::persons::key_insert_in_tx(conn, &Bound { key: *key, person, bound_at: now, by, revoked_at: None }).await
}
