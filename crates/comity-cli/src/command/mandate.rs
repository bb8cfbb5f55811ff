//! `comity mandate`: a PI signs it, somebody else draws under it.

use std::path::PathBuf;

use comity_sdk::profile::Profile;
use comity_wire::api::clearing::MandateReply;
use comity_wire::cbor::List;
use comity_wire::object::Mandate;
use comity_wire::time::DAY_S;
use comity_wire::{Amount, Digest, MandateId, ModelId, PublicKey};

use crate::printer::{Failure, note, say};
use crate::session::{self, Session};

#[derive(Debug, clap::Subcommand)]
pub enum MandateCommand {
    /// Sign a mandate with your member key: as the project's PI or co-PI. Works offline
    Sign(Box<Sign>),
    /// Bring a mandate to the clearing house and draw under it from now on
    Redeem {
        /// What the PI signed
        file: PathBuf,
        /// The code that came with it, where it names nobody
        #[arg(long)]
        join_code: Option<String>,
    },
    /// What is drawn under a mandate, and what is left
    Show { mandate: MandateId },
    /// End a mandate; tokens that were drawn under it live on, but with --tokens
    Revoke {
        mandate: MandateId,
        /// End those, too
        #[arg(long)]
        tokens: bool,
    },
}

#[derive(Debug, clap::Args)]
pub struct Sign {
    #[command(flatten)]
    whom: Whom,
    /// The most that may be drawn under it, in micro-credits
    #[arg(long)]
    cap: i64,
    /// The most in a day (UTC), in micro-credits; left out: all of it
    #[arg(long)]
    cap_per_day: Option<i64>,
    /// How many days it is in force, from now on; a year is the most
    #[arg(long, default_value_t = 120)]
    days: u64,
    /// Only this model; may be given more than once
    #[arg(long = "model")]
    models: Vec<ModelId>,
    /// Where it goes
    #[arg(long, default_value = "mandate.cbor")]
    out: PathBuf,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Whom {
    /// The member's key, did:key:z6Mk…
    #[arg(long)]
    member: Option<PublicKey>,
    /// Whoever brings this code first
    #[arg(long)]
    join_code: Option<String>,
}

impl MandateCommand {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let client = session.look()?;
        match self {
            Self::Sign(sign) => {
                let Sign { whom, cap, cap_per_day, days, mut models, out } = *sign;
                let project = client.profile().project.ok_or_else(|| {
                    Failure::new("your profile names no project", "put `project = \"proj-…\"` into profile.toml")
                })?;
                models.sort();
                models.dedup();
                let mandate = Mandate {
                    id: fresh(),
                    project,
                    member: whom.member,
                    join_code: whom.join_code.as_ref().map(|code| Digest::of(code.as_bytes())),
                    cap: Amount::new(cap)?,
                    cap_per_day: Amount::new(cap_per_day.unwrap_or(cap))?,
                    models: List::new(models)?,
                    not_before: client.now(),
                    not_after: client.now().plus(days.saturating_mul(DAY_S)),
                    model_caps: List::default(),
                    assists: None,
                };
                let signed = client.sign_mandate(&mandate)?;
                std::fs::write(&out, signed.bytes())?;
                say(&format!("{}: {}, at most {}", out.display(), mandate.id, mandate.cap));
                note(&format!("the other side runs: comity mandate redeem {}", out.display()));
                Ok(())
            }
            Self::Redeem { file, join_code } => {
                let bytes = std::fs::read(&file).map_err(|error| {
                    Failure::new(format!("cannot read {}: {error}", file.display()), "name the file that the PI signed")
                })?;
                let redeemed = client.redeem_mandate(&bytes, join_code).await?;
                // The wallet draws under it from now on.
                Profile::amend(&session.home, |profile| {
                    (profile.project, profile.mandate) = (Some(redeemed.project), Some(redeemed.mandate));
                })?;
                show(&redeemed)
            }
            Self::Show { mandate } => show(&client.mandate(mandate).await?),
            Self::Revoke { mandate, tokens } => show(&client.revoke_mandate(mandate, tokens).await?),
        }
    }
}

/// An id that nobody has.
pub(super) fn fresh() -> MandateId {
    let mut id = [0; 16];
    id.copy_from_slice(&session::random()[..16]);
    MandateId(id)
}

fn show(reply: &MandateReply) -> Result<(), Failure> {
    say(&serde_json::to_string_pretty(reply)?);
    Ok(())
}
