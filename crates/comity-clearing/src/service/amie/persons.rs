//! Persons at sites: what the operator says of one, and of two that they are one.

use comity_ledger::Db;
use comity_wire::{Digest, ProjectId, PublicKey, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::super::{Clearing, acts};
use super::announce::{begin_in_tx, begins, due_in_tx, extend};
use crate::amie::{Body, Flow, State};
use crate::failure::Failure;
use crate::pseudonym;
use crate::store;
use crate::store::amie::{Site, Transaction};

/// What sites may know of a member. `POST /admin/amie/persons`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersonSay {
    pub project: ProjectId,
    pub member: PublicKey,
    pub person: Person,
}

/// A person, as a site's accounting knows persons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    pub first_name: String,
    pub last_name: String,
    pub organization: String,
    #[serde(default = "none")]
    pub org_code: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub email: String,
    /// Field of science: of a PI's project.
    #[serde(default = "none")]
    pub pfos: String,
}

fn none() -> String {
    "0".into()
}

/// A member of a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberOf {
    pub project: ProjectId,
    pub member: PublicKey,
}

/// `POST /admin/amie/merge`: two members are one person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Merge {
    pub keep: MemberOf,
    /// Whose number sites give up. The member stays one: keys are added and taken away by `project member`.
    pub gone: MemberOf,
}

impl Clearing {
    /// Lets sites know who a member is. Those that know the member otherwise are asked to change it.
    ///
    /// # Errors
    /// [`Failure`] where the key is no member's.
    pub async fn amie_person(&self, say: PersonSay) -> Result<(), Failure> {
        let PersonSay { project, member, person } = say;
        let Person { first_name, last_name, organization, org_code, pfos, email } = &person;
        let named = [
            ("a first name", first_name),
            ("a last name", last_name),
            ("an organisation's name", organization),
            ("an organisation's code", org_code),
            ("a field of science", pfos),
        ];
        for (what, said) in named {
            acts::text(what, said)?;
        }
        if !email.is_empty() {
            acts::text("an address", email)?;
        }
        let (now, secret) = (self.now(), self.inner.keys.pseudonyms.clone());
        self.write(move |conn| {
            Box::pin(async move {
                if store::projects::role_of(conn, project, &member).await?.is_none() {
                    return Err(Failure::NotFound { what: format!("member {member} of {project}") });
                }
                store::amie::person_put_in_tx(conn, project, &member, &person).await?;
                store::amie::accounts_untold_in_tx(conn, project, &member).await?;
                due_in_tx(conn, &secret, project, now).await.map(drop)
            })
        })
        .await
    }

    /// Asks each site that knows these two members as two persons to make them one; the transactions that stand for it.
    /// Asked before, it is the same transaction; what failed is asked for again.
    ///
    /// # Errors
    /// [`Failure`] where no site knows them so.
    pub async fn amie_merge(&self, merge: Merge) -> Result<Vec<u64>, Failure> {
        let (now, secret) = (self.now(), self.inner.keys.pseudonyms.clone());
        self.write(move |conn| {
            Box::pin(async move {
                let mut transactions = Vec::new();
                for site in store::amie::sites(conn).await?.into_iter().filter(|site| site.revoked_at.is_none()) {
                    transactions.extend(merge_in_tx(conn, &secret, &site, &merge, now).await?);
                }
                if transactions.is_empty() {
                    return Err(Failure::invalid(
                        "no site knows these two members as two persons: comity clearing amie transactions shows what sites know",
                    ));
                }
                Ok(transactions)
            })
        })
        .await
    }
}

async fn merge_in_tx(
    conn: &mut Db<'_>,
    secret: &[u8; 32],
    site: &Site,
    merge: &Merge,
    now: Timestamp,
) -> Result<Option<u64>, Failure> {
    let mut persons = Vec::with_capacity(2);
    for MemberOf { project, member } in [merge.keep, merge.gone] {
        let accounts = store::amie::accounts_at(conn, &site.name, project).await?;
        let account = accounts.into_iter().find(|account| account.member == member && !account.person.is_empty());
        let Some(account) = account else { return Ok(None) };
        persons.push((account.person, pseudonym::member(secret, project, site.owner, &member).to_string()));
    }
    let [(keep, keep_global), (gone, gone_global)] = &persons[..] else { return Ok(None) };
    if keep == gone {
        return Ok(None);
    }
    let pair = [&(keep.len() as u64).to_be_bytes()[..], keep.as_bytes(), gone.as_bytes()];
    let (pair, mut attempt) = (Digest::of_parts(&pair), 1_u64);
    let record = loop {
        let record = format!("merge/{pair}/{attempt}");
        let Some(known) = store::amie::transaction_of_record(conn, &site.name, &record).await? else { break record };
        match store::amie::transaction_find(conn, &site.name, known).await? {
            Some(known) if known.state == State::InProgress => return Ok(Some(known.id)),
            // It failed, or the site gave both their numbers again since.
            _ => attempt += 1,
        }
    };
    let mut body = Body::new();
    let own = json!({
        "KeepGlobalID": keep_global, "KeepPersonID": keep, "DeleteGlobalID": gone_global, "DeletePersonID": gone,
    });
    extend(&mut body, own);
    let MemberOf { project, member } = merge.keep;
    let new = Transaction {
        flow: Flow::PersonMerge,
        member: Some(member),
        record: Some(record),
        ..begins(site, project, now)
    };
    begin_in_tx(conn, new, &body, now).await
}
