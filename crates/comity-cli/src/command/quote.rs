//! `comity quote`.

use comity_sdk::token::directory::Directory as _;
use comity_wire::object::Demand;
use comity_wire::{ModelId, Op};

use crate::printer::{Failure, say};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub struct Quote {
    model: ModelId,
    #[arg(long, default_value = "chat")]
    op: Op,
    /// Length of a request's body in bytes, for the estimate
    #[arg(long, default_value_t = 500)]
    bytes: u64,
    /// Output tokens at most
    #[arg(long, default_value_t = 256)]
    max_tokens: u64,
    #[arg(long)]
    json: bool,
}

impl Quote {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let client = session.look()?;
        let quote = client.quote(&self.model, &[self.op]).await?;
        let quote = quote.unverified();
        let scope = quote.scope.first().ok_or_else(|| Failure::new("the quote is empty", "ask the clearing house"))?;
        let missing = || Failure::new("the tariff is not known", "try again: the federation may be catching up");
        let tariff = client.directory().tariff(&scope.tariff).ok_or_else(missing)?;
        let demand = Demand { op: self.op, input_bytes: self.bytes, choices: 1, output_tokens: self.max_tokens };
        let worst = tariff.worst_case(&demand)?;
        if self.json {
            say(&serde_json::to_string_pretty(&serde_json::json!({"quote": quote, "worst_case_ucr": worst}))?);
            return Ok(());
        }
        say(&format!(
            "{} {}: at most {worst} for {} bytes in and {} tokens out\nprice pinned until {}; tariff {}",
            self.model, self.op, self.bytes, self.max_tokens, quote.expires_at, scope.tariff
        ));
        Ok(())
    }
}
