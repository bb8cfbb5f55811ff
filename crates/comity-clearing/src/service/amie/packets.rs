//! A site's packets: listed, answered, noted upon.

use comity_ledger::Db;
use comity_wire::{Digest, ProjectId, Timestamp};
use serde_json::{Value, json};

use super::super::Clearing;
use super::announce::due_in_tx;
use crate::amie::{Body, Flow, Kind, Known, Said, Standing, State, complete, iso, label, step, success, told};
use crate::failure::Failure;
use crate::store;
use crate::store::amie::{AccountAt, Filter, NewPacket, Packet, Site, Transaction};

/// Packets that a list has at most; what lies behind them comes when these are answered.
const LIST_MAX: u32 = 1_000;
/// Ids or states that a list is narrowed by.
const NARROWED_MAX: usize = 200;
const CLIENT_STATE_BYTES_MAX: usize = 64;
const CLIENT_JSON_BYTES_MAX: usize = 16 << 10;

/// A list as its query asks for it: the names of AMIE's parameters.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct List {
    trans_rec_id: Option<String>,
    outgoing: Option<String>,
    incoming: Option<String>,
    update_time: Option<String>,
    states: Option<String>,
    client_state: Option<String>,
    transaction_state: Option<String>,
}

/// What a site notes on a packet.
#[derive(Clone)]
pub(crate) enum Note {
    State(String),
    Json(Value),
    NoState,
    NoJson,
}

impl List {
    /// Asked for nothing in particular, it is what the site has to answer.
    fn filter(&self) -> Result<Filter, Failure> {
        fn split<T>(what: &str, list: &Option<String>, one: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, Failure> {
            let parts: Vec<&str> =
                list.iter().flat_map(|list| list.split(',')).map(str::trim).filter(|part| !part.is_empty()).collect();
            if parts.len() > NARROWED_MAX {
                return Err(Failure::invalid(format!("{what} names at most {NARROWED_MAX}")));
            }
            let wrong = |part: &str| Failure::invalid(format!("{what}: '{part}' is none"));
            parts.into_iter().map(|part| one(part).ok_or_else(|| wrong(part))).collect()
        }
        let flag = |what: &str, value: &Option<String>| match value.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None => Ok(None),
            Some("true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(other) => Err(Failure::invalid(format!("{what} is true or false, not '{other}'"))),
        };
        let incoming = flag("incoming", &self.incoming)?.map(|incoming| !incoming);
        let (since, until) = self.update_time.as_deref().map_or(Ok((None, None)), range)?;
        let filter = Filter {
            transactions: split("trans_rec_id", &self.trans_rec_id, |part| part.parse().ok())?,
            states: split("states", &self.states, State::from_word)?,
            transaction_states: split("transaction_state", &self.transaction_state, State::from_word)?,
            client_states: split("client_state", &self.client_state, |part| Some(part.to_owned()))?,
            outgoing: flag("outgoing", &self.outgoing)?.or(incoming),
            since,
            until,
        };
        Ok(match filter {
            nothing
                if nothing == Filter::default() || nothing == Filter { outgoing: Some(false), ..Filter::default() } =>
            {
                Filter { states: vec![State::InProgress], outgoing: Some(false), ..nothing }
            }
            asked => asked,
        })
    }
}

/// `start,end`, either of which may be empty.
fn range(text: &str) -> Result<(Option<Timestamp>, Option<Timestamp>), Failure> {
    let (start, end) = text.split_once(',').unwrap_or((text, ""));
    let time = |text: &str| match text {
        "" => Ok(None),
        text => iso(text)
            .map(Some)
            .ok_or_else(|| Failure::invalid(format!("update_time: '{text}' is not a time of ISO 8601"))),
    };
    Ok((time(start)?, time(end)?))
}

impl Clearing {
    /// A site's packets as AMIE writes them, and whether there are more.
    pub(crate) async fn amie_packets(&self, site: &Site, list: &List) -> Result<(Vec<Value>, bool), Failure> {
        let filter = list.filter()?;
        let rows = store::amie::packets(&mut self.read().await?.db(), &site.name, &filter, LIST_MAX).await?;
        let more = rows.len() == LIST_MAX as usize;
        Ok((rows.iter().map(|row| self.amie_packet_json(row)).collect(), more))
    }

    pub(crate) async fn amie_packet(&self, site: &Site, id: u64) -> Result<Value, Failure> {
        let row = packet_of(&mut self.read().await?.db(), site, id).await?;
        Ok(self.amie_packet_json(&row))
    }

    /// A transaction with all its packets.
    pub(crate) async fn amie_transaction(&self, site: &Site, id: u64) -> Result<Value, Failure> {
        let mut conn = self.read().await?;
        let mut snapshot = conn.snapshot().await?;
        let mut seen = snapshot.db();
        let transaction = transaction_of(&mut seen, site, id).await?;
        let filter = Filter { transactions: vec![id], ..Filter::default() };
        let packets = store::amie::packets(&mut seen, &site.name, &filter, LIST_MAX).await?;
        snapshot.rollback().await?;
        let house = self.amie_name();
        Ok(json!({
            "DATA_TYPE": "Transaction",
            "transaction_id": transaction.number,
            "trans_rec_id": transaction.id,
            "state": transaction.state.word(),
            "originating_site_name": house,
            "remote_site_name": house,
            "local_site_name": site.name,
            "DATA": packets.iter().map(|row| self.amie_packet_json(row)).collect::<Vec<_>>(),
        }))
    }

    /// Takes a site's packet; gives it back as it stands. The same packet again changes nothing.
    pub(crate) async fn amie_take(&self, site: &Site, packet: Value) -> Result<Value, Failure> {
        let said = Said::read(packet).map_err(Failure::invalid)?;
        let (now, secret, site) = (self.now(), self.inner.keys.pseudonyms.clone(), site.clone());
        let taken =
            self.write(move |conn| Box::pin(async move { take_in_tx(conn, &secret, &site, said, now).await })).await?;
        Ok(self.amie_packet_json(&taken))
    }

    /// The site cannot do what a transaction asks for. Failed before, it stays so.
    pub(crate) async fn amie_fail(&self, site: &Site, id: u64) -> Result<(), Failure> {
        let (now, site) = (self.now(), site.clone());
        self.write(move |conn| {
            Box::pin(async move {
                let transaction = transaction_of(conn, &site, id).await?;
                match transaction.state {
                    State::Failed => Ok(()),
                    State::InProgress => fail_in_tx(conn, &transaction, "set to failed by the site", now).await,
                    State::Completed => Err(Failure::AmieOver { id, state: "completed" }),
                }
            })
        })
        .await
    }

    pub(crate) async fn amie_note(&self, site: &Site, id: u64, note: Note) -> Result<(), Failure> {
        let (now, site) = (self.now(), site.clone());
        self.write(move |conn| {
            Box::pin(async move {
                let packet = packet_of(conn, &site, id).await?;
                let (mut state, mut text) = (packet.client_state, packet.client_json);
                match note {
                    Note::State(said) => {
                        let plain = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
                        if said.is_empty() || said.len() > CLIENT_STATE_BYTES_MAX || !said.bytes().all(plain) {
                            return Err(Failure::invalid(format!(
                                "a client_state is 1 to {CLIENT_STATE_BYTES_MAX} printable characters of ASCII"
                            )));
                        }
                        state = said;
                    }
                    Note::Json(said) => {
                        text = said.to_string();
                        if text.len() > CLIENT_JSON_BYTES_MAX {
                            return Err(Failure::invalid(format!(
                                "a client_json has at most {CLIENT_JSON_BYTES_MAX} bytes"
                            )));
                        }
                    }
                    Note::NoState => state.clear(),
                    Note::NoJson => text.clear(),
                }
                store::amie::packet_note_in_tx(conn, id, (&state, &text), now).await
            })
        })
        .await
    }

    fn amie_packet_json(&self, packet: &Packet) -> Value {
        let (house, transaction) = (self.amie_name(), &packet.transaction);
        let mut header = json!({
            "packet_rec_id": packet.id,
            "packet_id": packet.number,
            "transaction_id": transaction.number,
            "trans_rec_id": transaction.id,
            "expected_reply_list": packet.kind.expected_reply_list(),
            "local_site_name": transaction.site,
            "remote_site_name": house,
            "originating_site_name": house,
            "outgoing_flag": packet.from_site,
            "transaction_state": transaction.state.word(),
            "packet_state": packet.state.word(),
            "packet_timestamp": packet.sent_at.to_string().replace('Z', ".000Z"),
        });
        if let Some(reply_to) = packet.reply_to {
            header["in_reply_to"] = json!(reply_to);
        }
        if !packet.client_state.is_empty() {
            header["client_state"] = json!(packet.client_state);
        }
        if !packet.client_json.is_empty() {
            header["client_json"] = serde_json::from_str(&packet.client_json).unwrap_or(Value::Null);
        }
        json!({ "DATA_TYPE": "Packet", "type": packet.kind.word(), "header": header, "body": packet.body })
    }
}

async fn packet_of(conn: &mut Db<'_>, site: &Site, id: u64) -> Result<Packet, Failure> {
    let found = match i64::try_from(id) {
        Ok(_) => store::amie::packet_find(conn, &site.name, id).await?,
        Err(_) => None,
    };
    found.ok_or_else(|| Failure::NotFound { what: format!("packet {id} of site {}", site.name) })
}

async fn transaction_of(conn: &mut Db<'_>, site: &Site, id: u64) -> Result<Transaction, Failure> {
    let found = match i64::try_from(id) {
        Ok(_) => store::amie::transaction_find(conn, &site.name, id).await?,
        Err(_) => None,
    };
    found.ok_or_else(|| Failure::NotFound { what: format!("transaction {id} of site {}", site.name) })
}

async fn take_in_tx(
    conn: &mut Db<'_>,
    secret: &[u8; 32],
    site: &Site,
    said: Said,
    now: Timestamp,
) -> Result<Packet, Failure> {
    let Said { kind, reply_to, mut body } = said;
    let asked = packet_of(conn, site, reply_to).await?;
    if asked.from_site {
        return Err(Failure::invalid(format!("packet {reply_to} is the site's own: it answers the house's")));
    }
    let content = Digest::of_parts(&[kind.word().as_bytes(), b"\n", store::json(&body).as_bytes()]);
    if let Some(known) = store::amie::packet_answer(conn, reply_to).await? {
        return if known.content == Some(content) {
            Ok(known)
        } else {
            Err(Failure::AmieAnswered { id: reply_to, by: known.id })
        };
    }
    let flow = asked.transaction.flow;
    let (ok, message) = if kind == Kind::InformTransactionComplete {
        success(&body).map_err(Failure::invalid)?
    } else {
        (true, String::new())
    };
    let done = step(flow, asked.transaction.state, asked.kind, (kind, ok)).map_err(Failure::invalid)?;
    if done.done {
        if !flow.ends_with_the_answer() {
            complete(flow, &mut body, &asked.body).map_err(Failure::invalid)?;
        }
        done_in_tx(conn, site, &asked, &body).await?;
    }
    let transaction = asked.transaction.id;
    let new =
        NewPacket { transaction, from_site: true, kind, body: &body, content: Some(content), reply_to: Some(reply_to) };
    let id = store::amie::packet_insert_in_tx(conn, &new, now).await?;
    if done.state == State::Failed {
        fail_in_tx(conn, &asked.transaction, &message, now).await?;
    } else {
        store::amie::packet_state_in_tx(conn, reply_to, State::Completed, now).await?;
        if done.state != asked.transaction.state {
            store::amie::transaction_put_in_tx(conn, transaction, (done.state, &message), now).await?;
        }
    }
    if let Some(kind) = done.answer {
        let answer = answer_body(kind, &body);
        let new = NewPacket { transaction, from_site: false, kind, body: &answer, content: None, reply_to: Some(id) };
        store::amie::packet_insert_in_tx(conn, &new, now).await?;
    }
    // What was waiting for this may be due now: the accounts of a project that is there, a freeze that came meanwhile.
    due_in_tx(conn, secret, asked.transaction.project, now).await?;
    packet_of(conn, site, id).await
}

/// What the house says to a notification.
fn answer_body(kind: Kind, said: &Body) -> Body {
    let own = match kind {
        Kind::DataProjectCreate => {
            json!({ "ProjectID": said.get("ProjectID"), "PersonID": said.get("PiPersonID"), "DnList": [] })
        }
        Kind::DataAccountCreate => {
            json!({ "ProjectID": said.get("ProjectID"), "PersonID": said.get("UserPersonID"), "DnList": [] })
        }
        _ => json!({ "StatusCode": "Success", "DetailCode": "1", "Message": "OK" }),
    };
    own.as_object().cloned().unwrap_or_default()
}

/// The site has done it: what it calls project, person and login, and how they stand from now on.
async fn done_in_tx(conn: &mut Db<'_>, site: &Site, asked: &Packet, body: &Body) -> Result<(), Failure> {
    let transaction = &asked.transaction;
    let project = transaction.project;
    let at = store::amie::project_at_find(conn, &site.name, project).await?;
    let mut at = at.ok_or_else(|| Failure::Books { what: format!("{project} was announced and is not noted") })?;
    let active = Known { standing: Standing::Active, refused: None, waits: false };
    match transaction.flow {
        Flow::ProjectCreate => {
            let called = label(body, "ProjectID").map_err(Failure::invalid)?;
            let person = label(body, "PiPersonID").map_err(Failure::invalid)?;
            // Not every site says a login of the PI's; who it pays for is then told by the person.
            let login = match body.get("PiRemoteSiteLogin") {
                None | Some(Value::Null) => person.clone(),
                Some(_) => label(body, "PiRemoteSiteLogin").map_err(Failure::invalid)?,
            };
            called_in_tx(conn, site, project, at.site_project.as_deref(), &called).await?;
            at.site_project = Some(called);
            // A further grant does not wake up a project that is inactive.
            if at.known.standing != Standing::Inactive {
                at.known = active;
            }
            store::amie::project_at_put_in_tx(conn, &at).await?;
            if let Some((member, _)) = store::projects::members_of(conn, project).await?.first() {
                let pi = AccountAt {
                    member: *member,
                    person,
                    login,
                    pi: true,
                    known: Known { standing: at.known.standing, ..active },
                    told: Some(told("Pi", &asked.body)),
                };
                store::amie::account_at_put_in_tx(conn, (&site.name, project), &pi).await?;
            }
            Ok(())
        }
        Flow::ProjectInactivate => {
            at.known = Known { standing: Standing::Inactive, ..active };
            store::amie::project_at_put_in_tx(conn, &at).await?;
            store::amie::accounts_rest_in_tx(conn, &site.name, project).await
        }
        Flow::ProjectReactivate => {
            at.known = active;
            store::amie::project_at_put_in_tx(conn, &at).await?;
            // The PI's account comes back with the project, and no other.
            for account in store::amie::accounts_at(conn, &site.name, project).await? {
                if account.pi {
                    let account = AccountAt { known: active, ..account };
                    store::amie::account_at_put_in_tx(conn, (&site.name, project), &account).await?;
                }
            }
            Ok(())
        }
        Flow::AccountCreate | Flow::AccountInactivate | Flow::AccountReactivate | Flow::UserModify => {
            account_in_tx(conn, site, asked, body).await
        }
        Flow::PersonMerge => {
            let person = |name| label(&asked.body, name).map_err(|what| Failure::Books { what });
            let (keep, gone) = (person("KeepPersonID")?, person("DeletePersonID")?);
            store::amie::persons_merge_in_tx(conn, &site.name, (&keep, &gone)).await
        }
    }
}

/// What a site calls a project stays, and is no other project's: its usage is told by it.
async fn called_in_tx(
    conn: &mut Db<'_>,
    site: &Site,
    project: ProjectId,
    before: Option<&str>,
    called: &str,
) -> Result<(), Failure> {
    if let Some(before) = before.filter(|before| *before != called) {
        return Err(Failure::invalid(format!("ProjectID is {called}, and this project was {before} before")));
    }
    match store::amie::project_called(conn, &site.name, called).await? {
        Some(other) if other != project => Err(Failure::invalid(format!(
            "ProjectID {called} is another project's at this site: its usage could not be told apart"
        ))),
        _ => Ok(()),
    }
}

async fn account_in_tx(conn: &mut Db<'_>, site: &Site, asked: &Packet, body: &Body) -> Result<(), Failure> {
    let transaction = &asked.transaction;
    let missing = || Failure::Books { what: format!("transaction {} is about no account", transaction.id) };
    let member = transaction.member.ok_or_else(missing)?;
    let accounts = store::amie::accounts_at(conn, &site.name, transaction.project).await?;
    let mut account = accounts.into_iter().find(|account| account.member == member).ok_or_else(missing)?;
    account.known.refused = None;
    account.known.standing = match transaction.flow {
        Flow::AccountInactivate => Standing::Inactive,
        _ => Standing::Active,
    };
    if transaction.flow == Flow::AccountCreate {
        account.person = label(body, "UserPersonID").map_err(Failure::invalid)?;
        account.login = label(body, "UserRemoteSiteLogin").map_err(Failure::invalid)?;
        account.told = Some(told("User", &asked.body));
    }
    if transaction.flow == Flow::UserModify {
        account.told = Some(told("", &asked.body));
    }
    store::amie::account_at_put_in_tx(conn, (&site.name, transaction.project), &account).await
}

/// A transaction ends without what it asked for; that is not asked for again by itself.
async fn fail_in_tx(
    conn: &mut Db<'_>,
    transaction: &Transaction,
    message: &str,
    now: Timestamp,
) -> Result<(), Failure> {
    let (site, project, flow) = (&transaction.site, transaction.project, transaction.flow);
    tracing::warn!(site, flow = flow.word(), transaction = transaction.id, "an AMIE transaction failed at its site");
    store::amie::transaction_put_in_tx(conn, transaction.id, (State::Failed, message), now).await?;
    store::amie::packets_fail_in_tx(conn, transaction.id, now).await?;
    match transaction.member {
        // Of a merge the operator's word is all there is: it is said again by the operator.
        Some(_) if flow == Flow::PersonMerge => {}
        Some(member) => {
            let accounts = store::amie::accounts_at(conn, site, project).await?;
            if let Some(mut account) = accounts.into_iter().find(|account| account.member == member) {
                account.known.refused = Some(flow);
                store::amie::account_at_put_in_tx(conn, (site, project), &account).await?;
            }
        }
        None => {
            if let Some(mut at) = store::amie::project_at_find(conn, site, project).await? {
                at.known.refused = Some(flow);
                store::amie::project_at_put_in_tx(conn, &at).await?;
            }
        }
    }
    Ok(())
}
