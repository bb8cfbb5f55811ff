//! `comity delegate`: a narrower right for a student or a job, made offline.

mod job;

use std::path::PathBuf;

use comity_sdk::token::Narrow;
use comity_wire::{Amount, ModelId, PublicKey, TokenId};

use crate::money::amount;
use crate::printer::{Failure, note, say};
use crate::session::{self, Session};

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Delegate {
    #[command(subcommand)]
    what: Option<What>,
    /// The token to delegate from
    #[arg(required = true)]
    token: Option<TokenId>,
    /// The most the other may spend: micro-credits such as 250000, or credits such as 0.25cr
    #[arg(long, required = true, value_parser = amount)]
    cap: Option<Amount>,
    /// How long, in hours
    #[arg(long, default_value_t = 8)]
    hours: u64,
    /// Parallel lanes
    #[arg(long, default_value_t = 1)]
    lanes: u16,
    /// How many further delegations may follow
    #[arg(long, default_value_t = 0)]
    depth: u8,
    /// Only these models
    #[arg(long = "model")]
    models: Vec<ModelId>,
    /// The other's key, did:key:z6Mk…; without it a new key is made beside the chain
    #[arg(long)]
    to: Option<PublicKey>,
    /// Where the chain goes
    #[arg(long, default_value = "delegated.chain")]
    out: PathBuf,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// A folder that a batch job spends from, days later too: for a Slurm script
    Job(Box<job::Job>),
}

impl Delegate {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let (token, cap) = match (self.what, self.token, self.cap) {
            (Some(What::Job(job)), ..) => return job.run(session).await,
            (None, Some(token), Some(cap)) => (token, cap),
            _ => return Err(Failure::new("a token and a cap are missing", "comity wallet status lists your tokens")),
        };
        let client = session.look()?;
        let next = match self.to {
            Some(key) => key,
            None => {
                let path = self.out.with_extension("key");
                let key = session::write_key(&path, &session::random())?;
                note(&format!("the key goes with the chain, by a safe way: {}", path.display()));
                key.public()
            }
        };
        let narrow = Narrow {
            cap,
            expires_at: client.now().plus(self.hours.saturating_mul(3600)),
            lanes: self.lanes,
            depth: self.depth,
            models: self.models,
            ops: Vec::new(),
            next,
        };
        let chain = client.delegate(token, narrow).await?;
        std::fs::write(&self.out, chain)?;
        say(&format!("{}: at most {cap}, {} hours", self.out.display(), self.hours));
        note("the other side runs: comity wallet adopt CHAIN --key KEY");
        Ok(())
    }
}
