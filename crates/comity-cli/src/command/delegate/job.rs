//! `comity delegate job`: a folder from which a batch job spends, and nothing else of yours.
//!
//! What lasts as long as a token may (24 hours) is a token of its own, drawn now. A job that may start later than that has a mandate, under
//! which it draws when it runs: longer trust is a mandate (spec/00-overview.md, rule 10).

use std::path::{Path, PathBuf};

use comity_sdk::profile::Limits;
use comity_sdk::token::Narrow;
use comity_sdk::{Client, Error, Profile};
use comity_wire::cbor::List;
use comity_wire::object::{Mandate, Token};
use comity_wire::{Amount, Code, ModelId, SecretKey, TokenId};

use crate::command::mandate::fresh;
use crate::money::amount;
use crate::printer::{Failure, note, say};
use crate::session::{self, Session};

#[derive(Debug, clap::Args)]
pub(super) struct Job {
    /// The most the job may spend: micro-credits such as 250000, or credits such as 0.25cr
    #[arg(long, value_parser = amount)]
    cap: Amount,
    /// How long it runs, in hours
    #[arg(long)]
    hours: u64,
    /// How long it may wait until it starts, in hours
    #[arg(long, default_value_t = 72)]
    starts_within: u64,
    /// The model that it asks
    #[arg(long)]
    model: Option<ModelId>,
    /// From this token of your wallet, offline; it has to last as long as the job may, and what others spend of it is gone
    #[arg(long)]
    token: Option<TokenId>,
    /// The job's folder: made new, with its own key and its own wallet
    #[arg(long, default_value = "job")]
    out: PathBuf,
}

const HOUR_S: u64 = 3_600;
/// What is left of a token's life for clocks that differ.
const SLACK_S: u64 = 120;

impl Job {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let (profile, member) = session.profile()?;
        let lasts_s = self.starts_within.saturating_add(self.hours).saturating_mul(HOUR_S);
        if lasts_s == 0 {
            return Err(Failure::new("a job of no time", "--hours 8"));
        }
        std::fs::create_dir(&self.out).map_err(|error| {
            Failure::new(format!("cannot make {}: {error}", self.out.display()), "name a new folder with --out")
        })?;
        readable_by_owner(&self.out)?;
        let done = match (self.token, member, &self.model) {
            (Some(token), ..) => self.block_of(session, &profile, token, lasts_s).await,
            (None, Some(member), Some(model)) if lasts_s + SLACK_S <= Token::VALID_S_MAX => {
                self.drawn(session, &profile, member, model, lasts_s).await
            }
            (None, Some(_), _) => self.mandated(session, &profile, lasts_s).await,
            (None, None, _) => Err(Failure::new("your profile has no member key", "comity init, or --token")),
        };
        match done {
            Ok(first) => {
                self.say(&first)?;
                Ok(())
            }
            Err(failure) => {
                if self.is_for_nothing(session).await {
                    std::fs::remove_dir_all(&self.out)?;
                } else {
                    note(&format!("{} is left: a token that was asked for may have been sold", self.out.display()));
                }
                Err(failure)
            }
        }
    }

    /// Whether the folder holds nothing that costs.
    async fn is_for_nothing(&self, session: &Session) -> bool {
        let Ok(profile) = Profile::load(&self.out) else { return true };
        match session.client_at(&self.out, profile, None) {
            Ok(job) => job.purses().await.is_empty(),
            Err(_) => false,
        }
    }

    /// The script's lines; `first` stands before what the job does.
    fn say(&self, first: &[String]) -> Result<(), Failure> {
        let home = std::fs::canonicalize(&self.out)?;
        say(&format!("export COMITY_HOME={}", home.display()));
        for line in first {
            say(line);
        }
        let model = self.model.as_ref().map_or_else(|| "OWNER/MODEL".to_owned(), ToString::to_string);
        say(&format!("comity chat {model} \"…\""));
        say("comity wallet finish");
        note(&format!(
            "at most {}, for {} hours, begun within {}; chat, compare, batch and proxy all work there",
            self.cap, self.hours, self.starts_within
        ));
        Ok(())
    }

    /// The job's own profile and key: it may spend so much, and draw under what it is given. The key of a job without a mandate is known to
    /// nobody: it signs what everybody may ask of the house, such as to take a node's final.
    fn profile(&self, of: &Profile) -> Result<(Profile, SecretKey), Failure> {
        let key = session::write_key(&self.out.join("member.key"), &session::random())?;
        std::fs::copy(&of.roster, self.out.join("roster.cbor"))?;
        let limits = Limits { token: self.cap, total: self.cap, day: None };
        let (roster, entry, house) = (PathBuf::from("roster.cbor"), of.entry.clone(), of.house.clone());
        let member_key = Some("member.key".into());
        Ok((Profile { roster, entry, house, project: None, member_key, mandate: None, limits }, key))
    }

    /// A block, made offline.
    async fn block_of(
        &self,
        session: &Session,
        of: &Profile,
        token: TokenId,
        lasts_s: u64,
    ) -> Result<Vec<String>, Failure> {
        let client = session.look()?;
        let ends = client.now().plus(lasts_s);
        let purse = client.purses().await.into_iter().find(|purse| purse.token == token && purse.open);
        let purse = purse.ok_or_else(|| {
            Failure::new(format!("no token {token} is open in your wallet"), "comity wallet status lists them")
        })?;
        if purse.expires_at < ends {
            return Err(Failure::new(
                format!("the token ends at {}, the job may last until {ends}", purse.expires_at),
                "leave --token out: then the job has a right of its own, which lasts",
            ));
        }
        let key = SecretKey::from_seed(session::random());
        let models = self.model.iter().cloned().collect();
        let narrow =
            Narrow { cap: self.cap, expires_at: ends, lanes: 1, depth: 0, models, ops: Vec::new(), next: key.public() };
        let chain = client.delegate(token, narrow).await?;
        self.profile(of)?.0.put(&self.out)?;
        let job = session.client_at(&self.out, Profile::load(&self.out)?, None)?;
        job.adopt(&chain, &key, self.cap).await?;
        Ok(Vec::new())
    }

    /// A token of the job's own, drawn now by the member's key, which does not go along.
    async fn drawn(
        &self,
        session: &Session,
        of: &Profile,
        member: SecretKey,
        model: &ModelId,
        lasts_s: u64,
    ) -> Result<Vec<String>, Failure> {
        self.profile(of)?.0.put(&self.out)?;
        let draws = Profile { project: of.project, mandate: of.mandate, ..Profile::load(&self.out)? };
        let job = session.client_at(&self.out, draws, Some(member))?;
        job.refresh().await?;
        let valid_s = u32::try_from(lasts_s + SLACK_S).unwrap_or(u32::MAX);
        job.buy_lasting(model, self.cap, 0, valid_s).await?;
        Ok(Vec::new())
    }

    /// A mandate for a key of the job's own.
    async fn mandated(&self, session: &Session, of: &Profile, lasts_s: u64) -> Result<Vec<String>, Failure> {
        let client = session.look()?;
        let project = of.project.ok_or_else(|| {
            Failure::new("your profile names no project", "put `project = \"proj-…\"` into profile.toml")
        })?;
        // A member signs within what they have themselves.
        let mine = match of.mandate {
            Some(mandate) => client.mandate(mandate).await.ok(),
            None => None,
        };
        let models = match (&self.model, &mine) {
            (Some(model), _) => vec![model.clone()],
            (None, Some(mine)) => mine.models.clone(),
            (None, None) => Vec::new(),
        };
        let (profile, key) = self.profile(of)?;
        let mandate = Mandate {
            id: fresh(),
            project,
            member: Some(key.public()),
            join_code: None,
            cap: self.cap,
            cap_per_day: mine.map_or(self.cap, |mine| mine.cap_per_day.min(self.cap)),
            models: List::new(models)?,
            not_before: client.now(),
            not_after: client.now().plus(lasts_s),
            model_caps: List::default(),
            assists: None,
        };
        let signed = client.sign_mandate(&mandate)?;
        let profile = Profile { project: Some(project), mandate: Some(mandate.id), ..profile };
        profile.put(&self.out)?;
        std::fs::write(self.out.join("mandate.cbor"), signed.bytes())?;
        let job = session.client_at(&self.out, Profile::load(&self.out)?, Some(key))?;
        match job.redeem_mandate(signed.bytes(), None).await {
            Ok(_) => {
                belongs(&client, &job).await;
                Ok(Vec::new())
            }
            Err(error) if error.code() == Some(Code::NotYours) => Err(Failure::new(
                format!("{error}: a job that may last longer than a token's 24 hours has a mandate"),
                "a PI signs it, or you within a mandate of your own: no more than its caps, its models, its end; a shorter time needs none",
            )),
            Err(error) if error.code().is_none() => {
                note(&format!("the clearing house was not reached ({error}): the job brings its mandate itself"));
                Ok(vec![format!(
                    "comity mandate redeem {}",
                    std::fs::canonicalize(&self.out)?.join("mandate.cbor").display()
                )])
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Says that the job's key is the same person's, where the house knows who that is: for models that ask.
async fn belongs(client: &Client, job: &Client) {
    let said: Result<bool, Error> = async {
        let Some(person) = client.whoami().await?.person else { return Ok(false) };
        client.add_key(job.member_key()?, job.key_proof(person)?).await?;
        Ok(true)
    }
    .await;
    match said {
        Ok(true) => note("the job's key is yours: comity whoami lists it, and comity whoami --revoke ends it"),
        Ok(false) => note("nobody has said whose key yours is: a model that asks for vetting refuses the job"),
        Err(error) => note(&format!("a model that asks for vetting refuses the job: {}", Failure::from(error))),
    }
}

fn readable_by_owner(folder: &Path) -> Result<(), Failure> {
    #[cfg(unix)]
    std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    Ok(())
}
