//! `comity node decisions`: whether what was decided here is as it was, and where houses have logged that, through the admin socket.

use std::path::PathBuf;

use comity_access::register::{self, Act, Deed};
use comity_access::seal::Found;
use comity_wire::api::decisions::{ActProof, HeadKnown};

use crate::failure::{Failure, While as _};
use crate::service::admin;
use crate::service::decisions::{AtHouse, Checked, Renew, Standing};

#[derive(Debug, clap::Subcommand)]
pub enum Decisions {
    /// How many events are sealed, and what each house has in its log
    Status(At),
    /// Seal now what waits, instead of within a minute
    Seal(At),
    /// Hold every event against what was sealed, and that against what houses have; exit code 1 where something was changed
    Check(At),
    /// Who did what by hand, when and why: stops, grants without an application, removed texts, the policies and rules in force
    Acts(ActsArguments),
    /// One act with its proof, for whoever asks: comity access proof --act FILE verifies it
    Act(ActArguments),
    /// Begin another log, where the store was set back and cannot go on from what houses have. Everybody sees that one ended
    Renew(RenewArguments),
}

#[derive(Debug, clap::Args)]
pub struct At {
    /// The node's home folder
    #[arg(long)]
    home: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub struct ActsArguments {
    #[command(flatten)]
    at: At,
    /// The last one that is known already
    #[arg(long, default_value_t = 0, value_name = "N")]
    after: u64,
}

#[derive(Debug, clap::Args)]
pub struct ActArguments {
    /// The node's home folder
    #[arg(long)]
    home: PathBuf,
    /// Its number
    n: u64,
    /// Where to write it; left out: standard output
    #[arg(long)]
    file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub struct RenewArguments {
    #[command(flatten)]
    at: At,
    /// Why; it is kept
    #[arg(long)]
    reason: String,
    /// Who says so, where it is not this login's name
    #[arg(long = "by", value_name = "NAME")]
    author: Option<String>,
}

impl Decisions {
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Status(at) => at.tell(&admin::get::<Standing>(&at.home, "/admin/decisions").await?),
            Self::Seal(at) => at.tell(&admin::post::<Standing>(&at.home, "/admin/decisions/seal", &()).await?),
            Self::Acts(acts) => acts.run().await,
            Self::Act(ActArguments { home, n, file }) => {
                let proof: ActProof = admin::get(&home, &format!("/admin/decisions/acts/{n}")).await?;
                let text = serde_json::to_string_pretty(&proof)?;
                match file {
                    None => comity_cli::say(&text),
                    Some(file) => {
                        std::fs::write(&file, text + "\n").while_(format!("cannot write {}", file.display()))?;
                        comity_cli::say(&file.display().to_string());
                    }
                }
                Ok(())
            }
            Self::Renew(RenewArguments { at, reason, author }) => {
                let ask = Renew { author: author.unwrap_or_else(crate::command::login), reason };
                at.tell(&admin::post::<Standing>(&at.home, "/admin/decisions/renew", &ask).await?)
            }
            Self::Check(at) => {
                let checked: Checked = admin::get(&at.home, "/admin/decisions/check").await?;
                at.told(&checked)
            }
        }
    }
}

impl ActsArguments {
    /// Page by page.
    async fn run(self) -> Result<(), Failure> {
        let Self { at: At { home, json }, mut after } = self;
        loop {
            let page: Vec<String> = admin::get(&home, &format!("/admin/decisions/acts?after={after}")).await?;
            if page.is_empty() {
                return Ok(());
            }
            for text in &page {
                let act = register::read(text.as_bytes()).map(|act| act.event().clone());
                let later = register::later(text.as_bytes());
                after = act.as_ref().map(|act| act.n).or_else(|| later.as_ref().map(|(n, _)| *n)).unwrap_or(after + 1);
                comity_cli::say(&match (act, &later) {
                    _ if json => text.clone(),
                    // Names and reasons are whatever somebody wrote.
                    (Some(act), _) => comity_cli::plain(&said(&act)),
                    (None, Some((n, kind))) => comity_cli::plain(&format!(
                        "{n}  an act that this version does not know ({kind}); a later one says what it is"
                    )),
                    (None, None) => {
                        format!("{after}  this is no act that a node has written: comity node decisions check")
                    }
                });
            }
        }
    }
}

fn said(act: &Act) -> String {
    let Act { n, at, entered, author, reason, deed, .. } = act;
    let late = if entered.since(*at) > register::LATE_S { format!("  (entered {entered})") } else { String::new() };
    format!("{n}  {at}  {}  by {author}: {reason}{late}", words(deed))
}

fn words(deed: &Deed) -> String {
    match deed {
        Deed::Begin => "the register begins".into(),
        Deed::Stop { target, now: false } => format!("stopped {target}"),
        Deed::Stop { target, now: true } => format!("stopped {target}, ending what ran"),
        Deed::Resume { target } => format!("resumed {target}"),
        Deed::Lift { target } => format!("let {target} in again, which the filter had suspended"),
        Deed::LetPass { target, category, until } => format!("lets {category} of {target} pass until {until}"),
        Deed::EndPass { target, category } => format!("holds {category} of {target} again"),
        Deed::Grant { grant, subject, .. } => format!("gave {subject} the grant {grant}"),
        Deed::TakeBack { grant } => format!("took back the grant {grant}"),
        Deed::RemoveTexts { of, calls, .. } => format!("removed the texts of {calls} calls ({of})"),
        Deed::HoldTexts { hold, of } => format!("hold {hold} keeps the texts of {of}"),
        Deed::ReleaseTexts { hold } => format!("ended hold {hold}"),
        Deed::Configure { what, digest } => format!("{what}: {digest}"),
        Deed::Renew { log } => format!("began log {log} of decisions"),
        other => format!("{other:?}"),
    }
}

impl At {
    fn tell(&self, standing: &Standing) -> Result<(), Failure> {
        if self.json {
            comity_cli::say(&serde_json::to_string_pretty(standing)?);
            return Ok(());
        }
        let Standing { log, sealed, waiting, head, over, heard, houses } = standing;
        comity_cli::say(&format!("log {log}: {sealed} events are sealed, {waiting} wait; head {head} is over {over}"));
        if !heard && !houses.is_empty() {
            comity_cli::say("nothing is signed before each house that has something of this node has said what");
        }
        houses.iter().for_each(|at| comity_cli::say(&line(at)));
        Ok(())
    }

    fn told(&self, checked: &Checked) -> Result<(), Failure> {
        let Checked { holds, log, sealed, waiting, root, found, houses } = checked;
        if self.json {
            comity_cli::say(&serde_json::to_string_pretty(checked)?);
        } else {
            comity_cli::say(&format!("log {log}: {sealed} events, root {root}; {waiting} wait"));
            for one in found {
                comity_cli::say(&match one {
                    Found::Changed { of, n } => format!("changed     event {n} of {of} is another one than was sealed"),
                    Found::Gone { of, n } => format!("gone        event {n} of {of} was sealed"),
                    Found::NeverSealed { of, n } => {
                        format!("unsealed    event {n} of {of} neither is sealed nor waits for it")
                    }
                    Found::LeafMissing { place } => format!("gone        leaf {place} of the tree"),
                    Found::TreeDiffers { size } => {
                        format!("changed     the tree over {size} events is not what its leaves make")
                    }
                    Found::Unlinked { n } => {
                        format!("changed     act {n} of the register does not follow the one before it")
                    }
                    Found::LineChanged { n, source, line } => {
                        format!(
                            "changed     line {line} of {source} says something else than act {n}, which is a copy of it"
                        )
                    }
                    Found::LineGone { n, source, line } => {
                        format!("gone        line {line} of {source}, of which act {n} is a copy")
                    }
                    Found::LineLate { n, source, line, at, entered } => {
                        format!(
                            "late        act {n}, line {line} of {source}, names {at} and came into the register at {entered}"
                        )
                    }
                    Found::NotEntered { source, line } => {
                        format!(
                            "late        line {line} of {source} names a moment of long ago and is not in the register"
                        )
                    }
                    Found::GrantUnsaid { grant } => {
                        format!(
                            "unsaid      grant {grant}: neither an application nor the register says who gave it, or took it back"
                        )
                    }
                    Found::Undone { what } => format!("undone      {what}"),
                    other => format!("{other:?}"),
                });
            }
            houses.iter().for_each(|at| comity_cli::say(&line(at)));
        }
        if *holds {
            return Ok(());
        }
        if found.is_empty() && houses.iter().all(|at| at.broken.is_none()) {
            return Err(Failure::new("nothing was changed as far as this store goes, and not every house has said so")
                .hint("a store that was set back looks whole by itself: check again when each house answers"));
        }
        Err(Failure::new("what was decided here is not what was sealed").hint(
            "find out who changed the store before anything else; where a backup was restored: comity node decisions renew --reason …",
        ))
    }
}

fn line(AtHouse { house, newest, broken, trouble }: &AtHouse) -> String {
    let has = match newest {
        None => "has nothing of this node".to_owned(),
        Some(HeadKnown { n, log, size, index, .. }) => match index {
            Some(index) => format!("has head {n} of log {log} over {size} events, entry {index} of its own log"),
            None => format!("has head {n} of log {log} over {size} events, and has not sealed it yet"),
        },
    };
    match (broken, trouble) {
        (Some(broken), _) => format!("{house}  {has}. BROKEN: {broken}"),
        (None, Some(trouble)) => format!("{house}  {has}. It was not reached: {trouble}"),
        (None, None) => format!("{house}  {has}"),
    }
}
