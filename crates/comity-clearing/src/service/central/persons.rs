//! Persons of a central site, and the keys by which they act here.
//!
//! A person acts by a key that the operator has bound to it; until then an account exists and nobody can use it.

use comity_ledger::Db;
use comity_wire::Timestamp;

use crate::amie::central::PersonSaid;
use crate::failure::Failure;
use crate::service::amie::due_in_tx;
use crate::store;
use crate::store::central::{AccountRow, PersonRow};

/// Persons of one central site.
const PERSONS_MAX: u64 = 1_000_000;

/// The pseudonyms' secret, the central site, and the time.
pub(super) type At<'a> = (&'a [u8; 32], &'a str, Timestamp);

/// What a person is called as a user here.
pub(super) fn login(number: u64) -> String {
    format!("u{number}")
}

/// The person of a number, who may have become another one's.
pub(super) async fn person_now(conn: &mut Db<'_>, central: &str, number: u64) -> Result<Option<PersonRow>, Failure> {
    let mut person = store::central::person_find(conn, central, number).await?;
    // Who was merged leads to one that was not: no chain is longer than the merges that made it.
    for _ in 0..PERSONS_MAX {
        match person.as_ref().and_then(|person| person.merged) {
            Some(next) => person = store::central::person_find(conn, central, next).await?,
            None => break,
        }
    }
    Ok(person)
}

/// The person that a packet names: known by this house's number, or by the central site's; else a new one.
pub(super) async fn person_in_tx(
    conn: &mut Db<'_>,
    central: &str,
    said: &PersonSaid,
) -> Result<Result<PersonRow, String>, Failure> {
    let known = match (said.number, &said.global_id) {
        (Some(number), _) => match person_now(conn, central, number).await? {
            Some(person) => Some(person),
            None => return Ok(Err(format!("person {number} is nobody here"))),
        },
        (None, global_id) if global_id.is_empty() => None,
        (None, global_id) => match store::central::person_called(conn, central, global_id).await? {
            Some(person) => person_now(conn, central, person.number).await?,
            None => None,
        },
    };
    let person = match known {
        Some(person) => PersonRow { said: person.said.changed(said), ..person },
        None => {
            let number = store::central::person_next(conn, central).await?;
            if number > PERSONS_MAX {
                return Ok(Err(format!("this house knows at most {PERSONS_MAX} persons of a central site")));
            }
            PersonRow { number, said: said.clone(), member: None, merged: None }
        }
    };
    store::central::person_put_in_tx(conn, central, &person).await?;
    Ok(Ok(person))
}

/// Writes an account down, and makes the person's key a member, or no member any more.
pub(super) async fn account_in_tx(
    conn: &mut Db<'_>,
    (secret, central, now): At<'_>,
    person: &PersonRow,
    account: &AccountRow,
) -> Result<(), Failure> {
    store::central::account_put_in_tx(conn, central, account).await?;
    let Some(key) = &person.member else { return Ok(()) };
    if account.active {
        store::projects::member_put_in_tx(conn, account.project, key, account.role, now).await?;
    } else {
        store::projects::member_remove_in_tx(conn, account.project, key).await?;
    }
    due_in_tx(conn, secret, account.project, now).await.map(drop)
}

/// Two numbers become one person: accounts go over, and a key that only one of them had.
pub(super) async fn merge_in_tx(
    conn: &mut Db<'_>,
    at: At<'_>,
    keep: u64,
    gone: u64,
) -> Result<Result<(), String>, Failure> {
    let (_, central, _) = at;
    let (Some(mut kept), Some(mut other)) =
        (person_now(conn, central, keep).await?, person_now(conn, central, gone).await?)
    else {
        return Ok(Err(format!("persons {keep} and {gone} are not both known here")));
    };
    if kept.number == other.number {
        return Ok(Ok(()));
    }
    let own = store::central::accounts_of_person(conn, central, kept.number).await?;
    let mut accounts = own.clone();
    for account in store::central::accounts_of_person(conn, central, other.number).await? {
        if let Some(key) = &other.member {
            store::projects::member_remove_in_tx(conn, account.project, key).await?;
        }
        store::central::account_drop_in_tx(conn, central, (account.project, other.number)).await?;
        match accounts.iter_mut().find(|own| own.project == account.project) {
            Some(own) => (own.role, own.active) = (own.role.min(account.role), own.active || account.active),
            None => accounts.push(AccountRow { person: kept.number, ..account }),
        }
    }
    let key = other.member.take();
    kept.member = kept.member.or(key);
    other.merged = Some(kept.number);
    store::central::person_put_in_tx(conn, central, &other).await?;
    store::central::person_put_in_tx(conn, central, &kept).await?;
    for account in accounts {
        account_in_tx(conn, at, &kept, &account).await?;
    }
    Ok(Ok(()))
}
