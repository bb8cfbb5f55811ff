//! What the operator sees of a central site, and does: refuse, send again, bind a key to a person.

use comity_ledger::Db;
use comity_wire::{Digest, ProjectId, PublicKey, Timestamp};
use serde::{Deserialize, Serialize};

use super::super::projects::alone_in_tx;
use super::super::{Clearing, acts};
use super::decide::answered;
use super::{grants, persons};
use crate::amie::Body;
use crate::amie::central::refusal;
use crate::failure::Failure;
use crate::mandates::Role;
use crate::store;
use crate::store::central::{Move, PacketRow, PersonRow};

/// Packets or accounts that the operator is shown at once.
const SHOWN_MAX: u32 = 1_000;

/// A packet, and whose move it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PacketView {
    pub central: String,
    pub packet: u64,
    pub transaction: u64,
    pub kind: String,
    pub body: Body,
    pub whose_move: String,
    /// What it asks the officers for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Digest>,
    /// That act in JSON: its digest is the id.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub act_body: String,
    /// Whether it was done here.
    pub done: bool,
    /// Why not, or what the central site said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub said: String,
    /// What kept the answer from being sent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
    pub taken_at: Timestamp,
}

impl From<PacketRow> for PacketView {
    fn from(row: PacketRow) -> Self {
        let whose_move = match row.state {
            Move::Officers => "the officers': approve or refuse it",
            Move::House => "this house's: its answer is sent at the next turn",
            Move::Nobody => "nobody's: it is answered",
            Move::Operator => "the operator's: the central site does not take the answer; send it again, or ask there",
        };
        Self {
            central: row.central,
            packet: row.id,
            transaction: row.transaction,
            kind: row.kind,
            body: row.body,
            whose_move: whose_move.into(),
            act: row.act,
            act_body: if row.state == Move::Officers { row.act_body } else { String::new() },
            done: row.done,
            said: row.said,
            error: row.error,
            taken_at: row.taken_at,
        }
    }
}

/// An account, and whether anybody can use it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountView {
    pub central: String,
    pub person: u64,
    pub first_name: String,
    pub last_name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub email: String,
    pub project: ProjectId,
    pub login: String,
    pub role: Role,
    pub active: bool,
    /// None: it waits for a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<PublicKey>,
}

/// `POST /admin/amie/central/retry`: which packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PacketAt {
    pub central: String,
    pub packet: u64,
}

/// `POST /admin/amie/central/refuse`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PacketRefuse {
    pub central: String,
    pub packet: u64,
    /// What the central site is told.
    pub because: String,
}

/// `POST /admin/amie/central/bind`: by which key a person acts; an act, where two officers keep the books.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bind {
    pub central: String,
    pub person: u64,
    pub member: PublicKey,
    /// Of an act: what it rests on; tells one time from the next.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

impl Clearing {
    /// The newest packets of central sites; those that are somebody's move stand first.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn central_packets(&self) -> Result<Vec<PacketView>, Failure> {
        let rows = store::central::packets(&mut self.read().await?.db(), SHOWN_MAX).await?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    /// The accounts that central sites asked for; those that wait for a key stand first.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn central_accounts(&self) -> Result<Vec<AccountView>, Failure> {
        let rows = store::central::accounts(&mut self.read().await?.db(), SHOWN_MAX).await?;
        let view =
            |(central, person, account): (String, store::central::PersonRow, store::central::AccountRow)| AccountView {
                central,
                person: person.number,
                first_name: person.said.first_name,
                last_name: person.said.last_name,
                email: person.said.email,
                project: account.project,
                login: account.login,
                role: account.role,
                active: account.active,
                member: person.member,
            };
        Ok(rows.into_iter().map(view).collect())
    }

    /// The officers will not have a grant: the central site is told so. An act that one of them proposed for it is dropped.
    ///
    /// # Errors
    /// [`Failure`] where it does not wait for them.
    pub async fn central_refuse(&self, ask: PacketRefuse) -> Result<(), Failure> {
        acts::text("the reason", &ask.because)?;
        let now = self.now();
        self.write(move |conn| {
            Box::pin(async move {
                let PacketRefuse { central, packet, because } = ask;
                let row = store::central::packet_find(conn, &central, packet).await?;
                let row = row.filter(|row| row.state == Move::Officers);
                let act = row.and_then(|row| row.act).ok_or_else(|| Failure::NotFound {
                    what: format!("packet {packet} of {central} that waits for the officers"),
                })?;
                for row in store::central::packets_of_act(conn, act).await? {
                    grants::grant_refused_in_tx(conn, &row.central, &row.body).await?;
                    let row = PacketRow { said: because.clone(), ..answered(row, refusal(&because), false) };
                    store::central::packet_put_in_tx(conn, &row, now).await?;
                }
                store::acts::act_drop_in_tx(conn, act).await.map(drop)
            })
        })
        .await
    }

    /// Sends an answer again that the central site refused.
    ///
    /// # Errors
    /// [`Failure`] where there is none.
    pub async fn central_retry(&self, ask: PacketAt) -> Result<(), Failure> {
        let now = self.now();
        self.write(move |conn| {
            Box::pin(async move {
                let row = store::central::packet_find(conn, &ask.central, ask.packet).await?;
                let row = row.filter(|row| row.state == Move::Operator).ok_or_else(|| Failure::NotFound {
                    what: format!("packet {} of {} whose answer was refused", ask.packet, ask.central),
                })?;
                let row = PacketRow { state: Move::House, error: String::new(), ..row };
                store::central::packet_put_in_tx(conn, &row, now).await
            })
        })
        .await
    }

    /// Lets a person act by this key, and by no other of before, wherever the person's accounts are active.
    ///
    /// # Errors
    /// [`Failure::DutyConflict`] once two officers are registered: then it is an act; [`Failure`] where there is no such person, or
    /// the key is another one's.
    pub async fn central_bind(&self, ask: Bind) -> Result<(), Failure> {
        let (now, secret) = (self.now(), self.inner.keys.pseudonyms.clone());
        self.write(move |conn| {
            Box::pin(async move {
                alone_in_tx(conn).await?;
                bind_in_tx(conn, &secret, &ask, now).await
            })
        })
        .await
    }
}

/// Whether the person is there and the key nobody else's.
pub(in crate::service) async fn bind_check(conn: &mut Db<'_>, ask: &Bind) -> Result<(), Failure> {
    acts::text("the reason", &ask.reason)?;
    bound(conn, ask).await.map(drop)
}

/// The person who is to act by this key.
async fn bound(conn: &mut Db<'_>, ask: &Bind) -> Result<PersonRow, Failure> {
    let Bind { central, person: number, member, .. } = ask;
    let person = persons::person_now(conn, central, *number).await?;
    let person = person.ok_or_else(|| Failure::NotFound { what: format!("person {number} of {central}") })?;
    match store::central::person_of_member(conn, central, member).await? {
        Some(other) if other.number != person.number => {
            Err(Failure::invalid(format!("{member} is person {}'s already", other.number)))
        }
        _ => Ok(person),
    }
}

pub(in crate::service) async fn bind_in_tx(
    conn: &mut Db<'_>,
    secret: &[u8; 32],
    ask: &Bind,
    now: Timestamp,
) -> Result<(), Failure> {
    let mut person = bound(conn, ask).await?;
    let before = person.member.replace(ask.member).filter(|before| *before != ask.member);
    store::central::person_put_in_tx(conn, &ask.central, &person).await?;
    for account in store::central::accounts_of_person(conn, &ask.central, person.number).await? {
        if let Some(before) = &before {
            store::projects::member_remove_in_tx(conn, account.project, before).await?;
        }
        persons::account_in_tx(conn, (secret, &ask.central, now), &person, &account).await?;
    }
    Ok(())
}
