//! What the clearing house knows of a class.

use comity_sdk::{Client, Error};
use comity_wire::api::clearing::MandateReply;
use comity_wire::{Amount, Code, MandateId, ModelId};
use serde::Serialize;

use crate::class::{Class, Place};
use crate::printer::{Failure, note, plain, say, table};
use crate::roster::cell;
use crate::session::Session;

/// A place and how it stands; none: the house has not heard of it.
pub(super) async fn stands(client: &Client, id: MandateId) -> Result<Option<MandateReply>, Error> {
    match client.mandate(id).await {
        Ok(reply) => Ok(Some(reply)),
        Err(error) if error.code() == Some(Code::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// One line of a class.
#[derive(Debug, Serialize)]
struct Row {
    student: String,
    role: &'static str,
    state: String,
    cap_ucr: Amount,
    cap_per_day_ucr: Amount,
    drawn_ucr: Amount,
    today_ucr: Amount,
    settled_ucr: Amount,
    left_ucr: Amount,
}

impl Row {
    fn new(place: &Place, reply: Option<&MandateReply>) -> Result<Self, Failure> {
        let mandate = place.mandate()?;
        let zero = Amount::ZERO;
        let (cap, cap_per_day) =
            reply.map_or((mandate.cap, mandate.cap_per_day), |reply| (reply.cap, reply.cap_per_day));
        let (drawn, today, settled) =
            reply.map_or((zero, zero, zero), |reply| (reply.drawn, reply.drawn_today, reply.settled));
        let over = reply.and_then(|reply| reply.over.as_ref());
        // "mandate mand-… was revoked": its id is of no use here.
        let over = over.map(|why| {
            plain(why.split_once("mand-").and_then(|(_, rest)| rest.split_once(' ')).map_or(why, |(_, rest)| rest))
        });
        let state = match (over, reply) {
            (Some(over), _) => over,
            (None, Some(reply)) if reply.redeemed => "claimed".to_owned(),
            _ => "not claimed".to_owned(),
        };
        Ok(Self {
            student: place.label.clone(),
            role: place.role.word(),
            state,
            cap_ucr: cap,
            cap_per_day_ucr: cap_per_day,
            drawn_ucr: drawn,
            today_ucr: today,
            settled_ucr: settled,
            left_ucr: cap.saturating_sub(drawn),
        })
    }

    fn cells(&self) -> Vec<String> {
        let amounts = [self.drawn_ucr, self.today_ucr, self.settled_ucr, self.left_ucr, self.cap_ucr];
        let words = [self.student.clone(), self.role.to_owned(), self.state.clone()];
        words.into_iter().chain(amounts.map(|amount| amount.to_string())).collect()
    }
}

pub(super) async fn show(session: &Session, name: &str, json: bool) -> Result<(), Failure> {
    let (client, class) = (session.look()?, Class::load(&session.home, name)?);
    let mut rows = Vec::with_capacity(class.places.len());
    for place in &class.places {
        rows.push(Row::new(place, stands(&client, place.mandate()?.id).await?.as_ref())?);
    }
    if json {
        say(&serde_json::to_string_pretty(&rows)?);
        return Ok(());
    }
    let head = ["student", "role", "state", "drawn", "today", "settled", "left", "cap"];
    say(&table(&head, &rows.iter().map(Row::cells).collect::<Vec<_>>()));
    let claimed = rows.iter().filter(|row| row.state == "claimed").count();
    note(&format!("{claimed} of {} have claimed; {} lasts until {}", rows.len(), class.name, class.ends_at));
    note("drawn: what tokens hold or have spent; settled: what owners were paid of it");
    Ok(())
}

/// A student's use of a model.
struct Use {
    student: String,
    model: Option<ModelId>,
    calls: u64,
    settled: Amount,
    drawn: Amount,
}

pub(super) async fn usage(session: &Session, name: &str, csv: bool) -> Result<(), Failure> {
    let (client, class) = (session.look()?, Class::load(&session.home, name)?);
    let mut uses = Vec::new();
    for place in &class.places {
        let reply = stands(&client, place.mandate()?.id).await?;
        for row in reply.into_iter().flat_map(|reply| reply.by_model) {
            let student = place.label.clone();
            uses.push(Use { student, model: row.model, calls: row.calls, settled: row.settled, drawn: row.drawn });
        }
    }
    let model = |one: &Use| one.model.as_ref().map_or_else(|| "several".to_owned(), ToString::to_string);
    if csv {
        say("student,model,calls,settled_ucr,drawn_ucr");
        for one in &uses {
            let (calls, settled, drawn) = (one.calls, one.settled.ucr(), one.drawn.ucr());
            say(&format!("{},{},{calls},{settled},{drawn}", cell(&one.student), cell(&model(one))));
        }
        return Ok(());
    }
    let row = |one: &Use| {
        vec![one.student.clone(), model(one), one.calls.to_string(), one.settled.to_string(), one.drawn.to_string()]
    };
    say(&table(&["student", "model", "calls", "settled", "drawn"], &uses.iter().map(row).collect::<Vec<_>>()));
    note("calls are what owners have claimed so far, settled what they were paid; nobody tells a PI what was asked");
    Ok(())
}
