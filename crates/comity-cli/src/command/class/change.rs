//! What is changed about a place after it was signed. It keeps its id, so that what was drawn counts on.

use comity_sdk::Client;
use comity_wire::api::clearing::MandateReply;
use comity_wire::time::DAY_S;
use comity_wire::{Amount, Digest};

use super::look::stands;
use super::{Out, hand_out};
use crate::class::{Allowed, Class, Place, Terms, Whose, allowed};
use crate::code::Code;
use crate::money::amount;
use crate::printer::{Failure, note, say};
use crate::session::{self, Session};

#[derive(Debug, clap::Args)]
pub struct Cap {
    class: String,
    student: String,
    /// What the student may draw in all
    #[arg(long, value_parser = amount)]
    cap: Amount,
    /// In a day (UTC); left out: as before, and no more than the whole
    #[arg(long, value_parser = amount)]
    cap_per_day: Option<Amount>,
    /// The models instead of those before, as for create
    #[arg(long = "model", value_parser = allowed)]
    models: Vec<Allowed>,
}

impl Cap {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let (client, mut class) = (session.look()?, Class::load(&session.home, &self.class)?);
        let place = class.place(&self.student)?;
        let before = Terms::of(&place.mandate()?);
        let within = |one: Allowed| Allowed { cap: one.cap.map(|cap| cap.min(self.cap)), ..one };
        let models = if self.models.is_empty() { before.models } else { self.models };
        let per_day = self.cap_per_day.unwrap_or_else(|| before.cap_per_day.min(self.cap));
        let terms = Terms::new(self.cap, Some(per_day), models.into_iter().map(within).collect())?;
        let known = stands(&client, place.mandate()?.id).await?;
        let whose = match (&known, place.mandate()?.join_code) {
            (Some(reply), _) if reply.redeemed => Whose::Key(reply.member),
            (_, Some(code)) => Whose::Code(code),
            (_, None) => return Err(Failure::new("nobody has this place, and it has no code", "comity class code")),
        };
        let reply = anew(&client, place, &terms, whose).await?;
        say(&format!("{}: {} in all, {} a day, {} drawn", place.label, reply.cap, reply.cap_per_day, reply.drawn));
        class.save(&session.home, &self.class)?;
        Ok(())
    }
}

/// Signs a place anew under its id, and brings it to the house, which from then on knows this one alone.
async fn anew(client: &Client, place: &mut Place, terms: &Terms, whose: Whose) -> Result<MandateReply, Failure> {
    let before = place.mandate()?;
    let dates = (before.not_before, before.not_after);
    let signed = client.sign_mandate(&terms.mandate((before.id, before.project), (whose, place.role), dates)?)?;
    let reply = client.redeem_mandate(signed.bytes(), None).await?;
    *place = Place::new(place.label.clone(), place.role, signed.bytes());
    Ok(reply)
}

pub(super) async fn code(session: &Session, name: &str, student: &str, out: Out) -> Result<(), Failure> {
    let (client, mut class) = (session.look()?, Class::load(&session.home, name)?);
    let place = class.place(student)?;
    let (id, terms) = (place.mandate()?.id, Terms::of(&place.mandate()?));
    signs_here(&client, &class).await?;
    let place = class.place(student)?;
    if stands(&client, id).await?.is_some() {
        client.revoke_mandate(id, true).await?;
    }
    let code = Code::new(session::random());
    let reply = anew(&client, place, &terms, Whose::Code(code.digest())).await?;
    let (label, role) = (place.label.clone(), place.role);
    class.save(&session.home, name)?;
    note(&format!(
        "{label}: the old key and the old code open nothing any more; {} of {} is drawn",
        reply.drawn, reply.cap
    ));
    hand_out(&class, &[(label, role, code)], &out)
}

/// Before anything is ended that could not be signed anew.
async fn signs_here(client: &Client, class: &Class) -> Result<(), Failure> {
    let projects = client.whoami().await?.projects;
    let mine = projects.iter().find(|one| one.project == class.project);
    match mine.map(|one| one.role.as_str()) {
        Some("pi" | "co_pi") => Ok(()),
        _ => Err(Failure::new(
            format!("your key signs nothing for {}", class.project),
            "a PI makes new codes; an assistant hands out a spare one, and ends the old place: comity class revoke",
        )),
    }
}

pub(super) async fn revoke(session: &Session, name: &str, student: &str) -> Result<(), Failure> {
    let (client, mut class) = (session.look()?, Class::load(&session.home, name)?);
    let place = class.place(student)?;
    let mandate = place.mandate()?;
    if stands(&client, mandate.id).await?.is_none() {
        // Nobody has claimed it: the house learns of it, so that nobody will.
        let code = mandate.join_code.unwrap_or(Digest([0; 32]));
        anew(&client, place, &Terms::of(&mandate), Whose::Code(code)).await?;
    }
    let reply = client.revoke_mandate(mandate.id, true).await?;
    place.ended = true;
    say(&format!("{}: ended; {} was drawn, {} settled", place.label, reply.drawn, reply.settled));
    note(
        "within a minute no node takes work under what was drawn; what was not spent goes home when its token settles",
    );
    class.save(&session.home, name)?;
    Ok(())
}

pub(super) async fn sponsor(session: &Session, name: &str, days: u64) -> Result<(), Failure> {
    let (client, class) = (session.look()?, Class::load(&session.home, name)?);
    let until = client.now().plus(days.saturating_mul(DAY_S));
    let (mut done, mut failed) = (0, 0);
    for place in class.places.iter().filter(|place| !place.ended) {
        let Some(reply) = stands(&client, place.mandate()?.id).await?.filter(|reply| reply.redeemed) else { continue };
        match client.sponsor(reply.member, until).await {
            Ok(_) => done += 1,
            Err(error) => {
                failed += 1;
                note(&format!("{}: {}", place.label, Failure::from(error)));
            }
        }
    }
    say(&format!("you answer for {done} until {until}"));
    if failed == 0 {
        Ok(())
    } else {
        Err(Failure::new(
            format!("{failed} were refused"),
            "who has not logged in does so first, then again: comity class sponsor",
        ))
    }
}
