//! `comity class`: a list becomes mandates with join codes; who has claimed, what they use, and what a PI or an assistant does about it.

mod change;
mod look;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use comity_sdk::{Client, Profile};
use comity_wire::time::DAY_S;
use comity_wire::{Amount, Timestamp};

use super::mandate::fresh;
use crate::class::{Allowed, Class, Handout, Place, Terms, Whose, allowed, named, private};
use crate::code::Code;
use crate::money::amount;
use crate::printer::{Failure, note, say};
use crate::roster::{self, Entry, Role};
use crate::session::{self, Session};

#[derive(Debug, Subcommand)]
pub enum ClassCommand {
    /// Sign a mandate for everybody on a list, each with a join code of its own. As the project's PI or co-PI; works offline
    Create(Box<Create>),
    /// One more, or a list of more
    Add {
        class: String,
        /// A list as for create, or the name of one student
        who: String,
        /// What one is who is named here
        #[arg(long, value_enum, default_value = "student")]
        role: Role,
        #[command(flatten)]
        out: Out,
    },
    /// Take your place in a class: on your computer, with the code that you were given
    Join {
        /// The file of the class, NAME.class
        file: PathBuf,
        code: String,
    },
    /// Who has claimed, what they drew, what is left
    Show {
        /// Its name, or the file of it that a PI handed you as an assistant
        class: String,
        #[arg(long)]
        json: bool,
    },
    /// What each student used of which model, as the clearing house knows it: calls and credits, no prompts
    Usage {
        class: String,
        /// Comma-separated, for a table program
        #[arg(long)]
        csv: bool,
    },
    /// Another cap for a student, from now on. What was drawn counts on
    Cap(Box<change::Cap>),
    /// A new code for a student whose laptop or code is lost: what the old one drew is stopped, and the place keeps what is left
    Code {
        class: String,
        student: String,
        #[command(flatten)]
        out: Out,
    },
    /// End a student's place, and what was drawn from it. Assistants may, too
    Revoke { class: String, student: String },
    /// Answer for everybody who has claimed a place, for models that ask for vetting
    Sponsor {
        class: String,
        /// How many days your word holds
        #[arg(long, default_value_t = 120)]
        days: u64,
    },
}

#[derive(Debug, clap::Args)]
pub struct Create {
    /// What the class is called: letters, digits, - and _
    #[arg(value_parser = named)]
    name: String,
    /// A list as registrars export it (CSV): columns id, email or name, and role where some are assistants
    roster: PathBuf,
    /// What a student may draw in all: micro-credits such as 250000, or credits such as 0.25cr
    #[arg(long, value_parser = amount)]
    cap_per_student: Amount,
    /// In a day (UTC); left out: all of it
    #[arg(long, value_parser = amount)]
    cap_per_day: Option<Amount>,
    /// Only this model; lab/tiny=0.5cr caps what may be drawn for it in all. May be given more than once
    #[arg(long = "model", value_parser = allowed)]
    models: Vec<Allowed>,
    /// How many days the class lasts, from now on; a year is the most
    #[arg(long, default_value_t = 120)]
    days: u64,
    /// Places for who comes late, or loses a laptop while you are away: their codes are with the others
    #[arg(long, default_value_t = 0)]
    spare: u16,
    #[command(flatten)]
    out: Out,
}

/// Where what is handed out goes.
#[derive(Debug, clap::Args)]
pub struct Out {
    /// A new file for the join codes, to be handed out one by one and deleted; left out: they are shown here. Nobody shows them again
    #[arg(long)]
    codes: Option<PathBuf>,
    /// The file of the class, for everybody in it; left out: NAME.class
    #[arg(long)]
    out: Option<PathBuf>,
}

impl ClassCommand {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Create(create) => create.run(session).await,
            Self::Add { class, who, role, out } => add(session, &class, &who, role, out).await,
            Self::Join { file, code } => join(session, &file, &code).await,
            Self::Show { class, json } => look::show(session, &class, json).await,
            Self::Usage { class, csv } => look::usage(session, &class, csv).await,
            Self::Cap(cap) => cap.run(session).await,
            Self::Code { class, student, out } => change::code(session, &class, &student, out).await,
            Self::Revoke { class, student } => change::revoke(session, &class, &student).await,
            Self::Sponsor { class, days } => change::sponsor(session, &class, days).await,
        }
    }
}

impl Create {
    async fn run(self, session: &Session) -> Result<(), Failure> {
        let client = session.look()?;
        let project = client.profile().project.ok_or_else(|| {
            Failure::new("your profile names no project", "put `project = \"proj-…\"` into profile.toml")
        })?;
        if Class::path(&session.home, &self.name).is_file() {
            return Err(Failure::new(
                format!("there is a class {} already", self.name),
                format!("comity class add {} for more students; another name for another class", self.name),
            ));
        }
        let mut entries = list(&self.roster)?;
        entries.extend((1..=self.spare).map(|n| Entry { label: format!("spare-{n:02}"), role: Role::Student }));
        let class = Class {
            name: self.name,
            project,
            terms: Terms::new(self.cap_per_student, self.cap_per_day, self.models)?,
            ends_at: client.now().plus(self.days.saturating_mul(DAY_S)),
            places: Vec::new(),
        };
        grow(session, &client, class, None, entries, self.out).await
    }
}

async fn add(session: &Session, name: &str, who: &str, role: Role, out: Out) -> Result<(), Failure> {
    let client = session.look()?;
    let class = Class::load(&session.home, name)?;
    let path = Path::new(who);
    let entries = if path.is_file() {
        list(path)?
    } else {
        let label = roster::labelled(who.trim(), 1).map_err(|why| Failure::new(why, "name a list, or a student"))?;
        vec![Entry { label, role }]
    };
    grow(session, &client, class, Some(name), entries, out).await
}

fn list(path: &Path) -> Result<Vec<Entry>, Failure> {
    let hint = "a list has a line for each student; a first line names the columns, such as id,name,role";
    let cannot = |why: String| Failure::new(format!("{}: {why}", path.display()), hint);
    let text = std::fs::read_to_string(path).map_err(|error| cannot(error.to_string()))?;
    roster::entries(&text).map_err(cannot)
}

/// Signs a place for each, and hands out what they need. The class is kept before any code is shown.
async fn grow(
    session: &Session,
    client: &Client,
    mut class: Class,
    known_as: Option<&str>,
    entries: Vec<Entry>,
    out: Out,
) -> Result<(), Failure> {
    let mut given = Vec::new();
    for Entry { label, role } in entries {
        if class.place(&label).is_ok() {
            return Err(Failure::new(format!("{label} is in {} already", class.name), "take the line out of the list"));
        }
        if class.places.len() >= roster::ROWS_MAX {
            return Err(Failure::new(format!("a class has {} places at most", roster::ROWS_MAX), "make another class"));
        }
        let code = Code::new(session::random());
        class.places.push(sign(client, &class, (label.clone(), role), Whose::Code(code.digest()))?);
        given.push((label, role, code));
    }
    let name = known_as.map_or_else(|| class.name.clone(), str::to_owned);
    class.save(&session.home, &name)?;
    let first = class.places.len() - given.len();
    hand_out(&class, &given, &out)?;
    lodge(client, &class.places[first..]).await;
    Ok(())
}

fn sign(client: &Client, class: &Class, (label, role): (String, Role), whose: Whose) -> Result<Place, Failure> {
    let (ids, dates) = ((fresh(), class.project), (client.now(), class.ends_at));
    let signed = client.sign_mandate(&class.terms.mandate(ids, (whose, role), dates)?)?;
    Ok(Place::new(label, role, signed.bytes()))
}

/// Tells the house of places that nobody has claimed yet, so that an assistant can end them. Who claims one brings it all the same.
async fn lodge(client: &Client, places: &[Place]) {
    for place in places {
        let told = match place.bytes() {
            Ok(bytes) => client.redeem_mandate(&bytes, None).await.map_err(Failure::from),
            Err(damaged) => Err(damaged),
        };
        if let Err(failure) = told {
            note(&format!(
                "the clearing house was not told, and need not be: places are claimed all the same ({})",
                failure.message
            ));
            return;
        }
    }
}

/// Join codes go to a new file, or here; the class goes to everybody in it.
fn hand_out(class: &Class, given: &[(String, Role, Code)], out: &Out) -> Result<(), Failure> {
    let path = out.out.clone().unwrap_or_else(|| PathBuf::from(format!("{}.class", class.name)));
    let handout: Handout = class.handout()?;
    let new = path.with_extension("class.new");
    std::fs::write(&new, serde_json::to_vec(&handout)?)?;
    std::fs::rename(&new, &path)?;
    let lines: Vec<String> = given
        .iter()
        .map(|(label, role, code)| format!("{},{},{}", roster::cell(label), role.word(), code.text()))
        .collect();
    let text = format!("student,role,code\n{}\n", lines.join("\n"));
    match &out.codes {
        Some(codes) => {
            use std::io::Write as _;
            let mut file =
                private(std::fs::OpenOptions::new().write(true).create_new(true)).open(codes).map_err(|error| {
                    // The places are signed: their codes must not be lost for a file that is there already.
                    say(text.trim_end());
                    Failure::new(
                        format!("cannot make {}: {error}", codes.display()),
                        "the codes are above, and nowhere else: keep them, or make new ones with comity class code",
                    )
                })?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            note(&format!("{}: hand each student their line by a safe way, then delete it", codes.display()));
        }
        None => say(text.trim_end()),
    }
    let ends: Timestamp = class.ends_at;
    note(&format!("{}: for everybody in {}, {} places until {ends}", path.display(), class.name, class.places.len()));
    note(&format!("students run: comity login, then comity class join {} CODE", path.display()));
    Ok(())
}

async fn join(session: &Session, file: &Path, typed: &str) -> Result<(), Failure> {
    let code = Code::read(typed).map_err(|why| Failure::new(why, "letters may be small, and hyphens left out"))?;
    let bytes = Handout::load(file)?.opened_by(code.digest())?;
    let reply = session.look()?.redeem_mandate(&bytes, Some(code.text().to_owned())).await?;
    Profile::amend(&session.home, |profile| {
        (profile.project, profile.mandate) = (Some(reply.project), Some(reply.mandate));
    })?;
    say(&format!("{}: {} in all, {} a day, until {}", reply.mandate, reply.cap, reply.cap_per_day, reply.not_after));
    if reply.assists {
        note("you assist: comity class show, usage and revoke take the file of the class that the PI gives you");
    }
    Ok(())
}
