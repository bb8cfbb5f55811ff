//! AMIE's sites, transactions and packets, and how projects and accounts stand at sites.

mod standing;
mod usage;

use comity_ledger::db::{Db, Row, query};
use comity_wire::{AwardId, Digest, OrgId, ProjectId, PublicKey, Timestamp};

use super::{Cells, int, json, seconds};
use crate::amie::{Body, Flow, Kind, State};
use crate::failure::Failure;

pub(crate) use standing::*;
pub(crate) use usage::*;

/// A site: an owner's resource that AMIE is spoken with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Site {
    pub(crate) name: String,
    pub(crate) owner: OrgId,
    pub(crate) resource: String,
    pub(crate) key: Digest,
    pub(crate) added_at: Timestamp,
    pub(crate) revoked_at: Option<Timestamp>,
}

fn site(row: &Row) -> Result<Site, Failure> {
    let cells = Cells { table: "amie_site", row };
    Ok(Site {
        name: cells.text("name")?,
        owner: OrgId(cells.bytes("owner")?),
        resource: cells.text("resource")?,
        key: cells.digest("key")?,
        added_at: cells.time("added_at")?,
        revoked_at: cells.time_maybe("revoked_at")?,
    })
}

pub(crate) async fn sites(conn: &mut Db<'_>) -> Result<Vec<Site>, Failure> {
    let rows = query("SELECT * FROM amie_site ORDER BY name").fetch_all(conn).await?;
    rows.iter().map(site).collect()
}

pub(crate) async fn site_find(conn: &mut Db<'_>, name: &str) -> Result<Option<Site>, Failure> {
    let row = query("SELECT * FROM amie_site WHERE name = ?").bind(name).fetch_optional(conn).await?;
    row.as_ref().map(site).transpose()
}

pub(crate) async fn site_insert_in_tx(conn: &mut Db<'_>, site: &Site) -> Result<(), Failure> {
    query("INSERT INTO amie_site (name, owner, resource, key, added_at) VALUES (?, ?, ?, ?, ?)")
        .bind(&site.name)
        .bind(site.owner.0.to_vec())
        .bind(&site.resource)
        .bind(site.key.0.to_vec())
        .bind(seconds(site.added_at))
        .execute(conn)
        .await?;
    Ok(())
}

/// Another key, or none any more.
pub(crate) async fn site_put_in_tx(conn: &mut Db<'_>, site: &Site) -> Result<(), Failure> {
    query("UPDATE amie_site SET key = ?, revoked_at = ? WHERE name = ?")
        .bind(site.key.0.to_vec())
        .bind(site.revoked_at.map(seconds))
        .bind(&site.name)
        .execute(conn)
        .await?;
    Ok(())
}

/// What sites may know of a member; none: a pseudonym.
pub(crate) async fn person_find<T: serde::de::DeserializeOwned>(
    conn: &mut Db<'_>,
    project: ProjectId,
    member: &PublicKey,
) -> Result<Option<T>, Failure> {
    let row = query("SELECT person FROM amie_person WHERE project = ? AND member = ?")
        .bind(project.0.to_vec())
        .bind(member.as_bytes().to_vec())
        .fetch_optional(conn)
        .await?;
    row.map(|row| Cells { table: "amie_person", row: &row }.json("person")).transpose()
}

pub(crate) async fn person_put_in_tx<T: serde::Serialize>(
    conn: &mut Db<'_>,
    project: ProjectId,
    member: &PublicKey,
    person: &T,
) -> Result<(), Failure> {
    query(
        "INSERT INTO amie_person (project, member, person) VALUES (?1, ?2, ?3) \
         ON CONFLICT (project, member) DO UPDATE SET person = excluded.person",
    )
    .bind(project.0.to_vec())
    .bind(member.as_bytes().to_vec())
    .bind(json(person))
    .execute(conn)
    .await?;
    Ok(())
}

/// A transaction as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transaction {
    pub(crate) id: u64,
    pub(crate) site: String,
    pub(crate) number: u64,
    pub(crate) flow: Flow,
    pub(crate) project: ProjectId,
    pub(crate) member: Option<PublicKey>,
    pub(crate) award: Option<AwardId>,
    pub(crate) record: Option<String>,
    pub(crate) state: State,
    pub(crate) message: String,
    pub(crate) began_at: Timestamp,
    pub(crate) changed_at: Timestamp,
}

fn transaction(cells: Cells<'_>, id: &'static str, state: &'static str) -> Result<Transaction, Failure> {
    let member: Option<[u8; 32]> = cells.bytes_maybe("member")?;
    let member =
        member.map(|bytes| PublicKey::from_bytes(&bytes).map_err(|_| cells.unreadable("member"))).transpose()?;
    Ok(Transaction {
        id: cells.uint(id)?,
        site: cells.text("site")?,
        number: cells.uint("trans_number")?,
        flow: Flow::from_number(cells.uint("flow")?).ok_or_else(|| cells.unreadable("flow"))?,
        project: ProjectId(cells.bytes("project")?),
        member,
        award: cells.bytes_maybe("award")?.map(AwardId),
        record: Some(cells.text("record")?).filter(|record| !record.is_empty()),
        state: State::from_number(cells.uint(state)?).ok_or_else(|| cells.unreadable("state"))?,
        message: cells.text("message")?,
        began_at: cells.time("began_at")?,
        changed_at: cells.time("trans_changed_at")?,
    })
}

const TRANSACTION: &str = "SELECT t.id AS trans_id, t.site, t.number AS trans_number, t.flow, t.project, t.member, t.award, \
     COALESCE(t.record, '') AS record, t.state AS trans_state, t.message, t.began_at, t.changed_at AS trans_changed_at";

pub(crate) async fn transaction_find(conn: &mut Db<'_>, site: &str, id: u64) -> Result<Option<Transaction>, Failure> {
    let row = query(format!("{TRANSACTION} FROM amie_transaction t WHERE t.site = ? AND t.id = ?"))
        .bind(site)
        .bind(int(id))
        .fetch_optional(conn)
        .await?;
    row.map(|row| transaction(Cells { table: "amie_transaction", row: &row }, "trans_id", "trans_state")).transpose()
}

/// The one that announced this record to a site.
pub(crate) async fn transaction_of_record(conn: &mut Db<'_>, site: &str, record: &str) -> Result<Option<u64>, Failure> {
    let row = query("SELECT id FROM amie_transaction WHERE site = ? AND record = ?")
        .bind(site)
        .bind(record)
        .fetch_optional(conn)
        .await?;
    row.map(|row| Cells { table: "amie_transaction", row: &row }.uint("id")).transpose()
}

/// The newest transactions, those in progress first.
pub(crate) async fn transactions(
    conn: &mut Db<'_>,
    state: Option<State>,
    limit: u32,
) -> Result<Vec<Transaction>, Failure> {
    let order = "ORDER BY CASE WHEN t.state = 0 THEN 0 ELSE 1 END, t.id DESC LIMIT ?";
    let asking = match state {
        Some(state) => query(format!("{TRANSACTION} FROM amie_transaction t WHERE t.state = ? {order}"))
            .bind(i64::from(state as u8)),
        None => query(format!("{TRANSACTION} FROM amie_transaction t {order}")),
    };
    let rows = asking.bind(i64::from(limit)).fetch_all(conn).await?;
    rows.iter().map(|row| transaction(Cells { table: "amie_transaction", row }, "trans_id", "trans_state")).collect()
}

/// How many transactions of a site are in progress.
pub(crate) async fn transactions_open(conn: &mut Db<'_>, site: &str) -> Result<u64, Failure> {
    let row = query("SELECT count(*) AS open_now FROM amie_transaction WHERE site = ? AND state = 0")
        .bind(site)
        .fetch_one(conn)
        .await?;
    Cells { table: "amie_transaction", row: &row }.uint("open_now")
}

/// Gives the next id, and the next number among the site's. The group commit has one writer (decision 0035).
pub(crate) async fn transaction_insert_in_tx(conn: &mut Db<'_>, new: &Transaction) -> Result<u64, Failure> {
    let row = query(
        "SELECT COALESCE(MAX(id), 0) + 1 AS next_id, \
         (SELECT COALESCE(MAX(number), 0) + 1 FROM amie_transaction WHERE site = ?) AS next_number FROM amie_transaction",
    )
    .bind(&new.site)
    .fetch_one(conn)
    .await?;
    let cells = Cells { table: "amie_transaction", row: &row };
    let (id, number) = (cells.uint("next_id")?, cells.uint("next_number")?);
    query(
        "INSERT INTO amie_transaction (id, site, number, flow, project, member, award, record, began_at, changed_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(int(id))
    .bind(&new.site)
    .bind(int(number))
    .bind(i64::from(new.flow as u8))
    .bind(new.project.0.to_vec())
    .bind(new.member.map(|member| member.as_bytes().to_vec()))
    .bind(new.award.map(|award| award.0.to_vec()))
    .bind(new.record.clone())
    .bind(seconds(new.began_at))
    .bind(seconds(new.changed_at))
    .execute(conn)
    .await?;
    Ok(id)
}

pub(crate) async fn transaction_put_in_tx(
    conn: &mut Db<'_>,
    id: u64,
    (state, message): (State, &str),
    now: Timestamp,
) -> Result<(), Failure> {
    query("UPDATE amie_transaction SET state = ?, message = ?, changed_at = ? WHERE id = ?")
        .bind(i64::from(state as u8))
        .bind(message)
        .bind(seconds(now))
        .bind(int(id))
        .execute(conn)
        .await?;
    Ok(())
}

/// A packet as it stands, with its transaction.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Packet {
    pub(crate) id: u64,
    pub(crate) transaction: Transaction,
    pub(crate) number: u64,
    pub(crate) from_site: bool,
    pub(crate) kind: Kind,
    pub(crate) body: Body,
    pub(crate) content: Option<Digest>,
    pub(crate) reply_to: Option<u64>,
    pub(crate) state: State,
    pub(crate) client_state: String,
    pub(crate) client_json: String,
    pub(crate) sent_at: Timestamp,
}

fn packet(row: &Row) -> Result<Packet, Failure> {
    let cells = Cells { table: "amie_packet", row };
    let reply_to = cells.row.int_maybe("reply_to")?.and_then(|id| u64::try_from(id).ok());
    Ok(Packet {
        id: cells.uint("id")?,
        transaction: transaction(cells, "trans_id", "trans_state")?,
        number: cells.uint("number")?,
        from_site: cells.int("from_site")? == 1,
        kind: Kind::from_word(&cells.text("kind")?).ok_or_else(|| cells.unreadable("kind"))?,
        body: cells.json("body")?,
        content: cells.bytes_maybe("content")?.map(Digest),
        reply_to,
        state: State::from_number(cells.uint("state")?).ok_or_else(|| cells.unreadable("state"))?,
        client_state: cells.text("client_state")?,
        client_json: cells.text("client_json")?,
        sent_at: cells.time("sent_at")?,
    })
}

const PACKET: &str = ", p.id, p.number, p.from_site, p.kind, p.body, p.content, p.reply_to, p.state, p.client_state, p.client_json, \
     p.sent_at FROM amie_packet p JOIN amie_transaction t ON t.id = p.trans";

/// What a list of packets is narrowed by. Empty lists narrow nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) transactions: Vec<u64>,
    pub(crate) states: Vec<State>,
    pub(crate) transaction_states: Vec<State>,
    pub(crate) client_states: Vec<String>,
    /// Of the site.
    pub(crate) outgoing: Option<bool>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) until: Option<Timestamp>,
}

/// A site's packets, oldest first.
pub(crate) async fn packets(
    conn: &mut Db<'_>,
    site: &str,
    filter: &Filter,
    limit: u32,
) -> Result<Vec<Packet>, Failure> {
    let mut sql = format!("{TRANSACTION}{PACKET} WHERE t.site = ?");
    let mut values: Vec<comity_ledger::db::Value> = vec![site.into()];
    let mut among = |column: &str, some: Vec<comity_ledger::db::Value>| {
        if !some.is_empty() {
            sql.push_str(&format!(" AND {column} IN ({})", comity_ledger::db::list("?", some.len())));
            values.extend(some);
        }
    };
    let numbers = |states: &[State]| states.iter().map(|state| i64::from(*state as u8).into()).collect();
    among("t.id", filter.transactions.iter().map(|id| int(*id).into()).collect());
    among("p.state", numbers(&filter.states));
    among("t.state", numbers(&filter.transaction_states));
    among("p.client_state", filter.client_states.iter().map(Into::into).collect());
    among("p.from_site", filter.outgoing.map(|outgoing| i64::from(outgoing).into()).into_iter().collect());
    for (at, sign) in [(filter.since, ">="), (filter.until, "<")] {
        if let Some(at) = at {
            sql.push_str(&format!(" AND p.changed_at {sign} ?"));
            values.push(seconds(at).into());
        }
    }
    sql.push_str(" ORDER BY p.id LIMIT ?");
    values.push(i64::from(limit).into());
    let asking = values.into_iter().fold(query(sql), comity_ledger::db::Query::bind);
    asking.fetch_all(conn).await?.iter().map(packet).collect()
}

pub(crate) async fn packet_find(conn: &mut Db<'_>, site: &str, id: u64) -> Result<Option<Packet>, Failure> {
    let row = query(format!("{TRANSACTION}{PACKET} WHERE t.site = ? AND p.id = ?"))
        .bind(site)
        .bind(int(id))
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(packet).transpose()
}

/// What answered a packet.
pub(crate) async fn packet_answer(conn: &mut Db<'_>, id: u64) -> Result<Option<Packet>, Failure> {
    let row = query(format!("{TRANSACTION}{PACKET} WHERE p.reply_to = ? AND p.from_site = 1"))
        .bind(int(id))
        .fetch_optional(conn)
        .await?;
    row.as_ref().map(packet).transpose()
}

/// A packet that is new.
pub(crate) struct NewPacket<'p> {
    pub(crate) transaction: u64,
    pub(crate) from_site: bool,
    pub(crate) kind: Kind,
    pub(crate) body: &'p Body,
    pub(crate) content: Option<Digest>,
    pub(crate) reply_to: Option<u64>,
}

pub(crate) async fn packet_insert_in_tx(
    conn: &mut Db<'_>,
    new: &NewPacket<'_>,
    now: Timestamp,
) -> Result<u64, Failure> {
    let row = query(
        "SELECT COALESCE(MAX(id), 0) + 1 AS next_id, \
         (SELECT COALESCE(MAX(number), 0) + 1 FROM amie_packet WHERE trans = ?) AS next_number FROM amie_packet",
    )
    .bind(int(new.transaction))
    .fetch_one(conn)
    .await?;
    let cells = Cells { table: "amie_packet", row: &row };
    let (id, number) = (cells.uint("next_id")?, cells.uint("next_number")?);
    query(
        "INSERT INTO amie_packet (id, trans, number, from_site, kind, body, content, reply_to, state, sent_at, changed_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(int(id))
    .bind(int(new.transaction))
    .bind(int(number))
    .bind(i64::from(new.from_site))
    .bind(new.kind.word())
    .bind(json(new.body))
    .bind(new.content.map(|content| content.0.to_vec()))
    .bind(new.reply_to.map(int))
    .bind(i64::from(new.from_site))
    .bind(seconds(now))
    .bind(seconds(now))
    .execute(conn)
    .await?;
    Ok(id)
}

pub(crate) async fn packet_state_in_tx(
    conn: &mut Db<'_>,
    id: u64,
    state: State,
    now: Timestamp,
) -> Result<(), Failure> {
    query("UPDATE amie_packet SET state = ?, changed_at = ? WHERE id = ?")
        .bind(i64::from(state as u8))
        .bind(seconds(now))
        .bind(int(id))
        .execute(conn)
        .await?;
    Ok(())
}

/// Everything that waits for the site in a transaction waits no more.
pub(crate) async fn packets_fail_in_tx(conn: &mut Db<'_>, transaction: u64, now: Timestamp) -> Result<(), Failure> {
    query("UPDATE amie_packet SET state = 2, changed_at = ? WHERE trans = ? AND state = 0")
        .bind(seconds(now))
        .bind(int(transaction))
        .execute(conn)
        .await?;
    Ok(())
}

/// What a site notes on a packet for itself.
pub(crate) async fn packet_note_in_tx(
    conn: &mut Db<'_>,
    id: u64,
    (client_state, client_json): (&str, &str),
    now: Timestamp,
) -> Result<(), Failure> {
    query("UPDATE amie_packet SET client_state = ?, client_json = ?, changed_at = ? WHERE id = ?")
        .bind(client_state)
        .bind(client_json)
        .bind(seconds(now))
        .bind(int(id))
        .execute(conn)
        .await?;
    Ok(())
}
