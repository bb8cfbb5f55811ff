//! `comity models search|show|choose`.

mod card;

use clap::Subcommand;
use comity_sdk::client::Choice;
use comity_sdk::token::directory::Directory as _;
use comity_sdk::want::Want;
use comity_wire::api::node::SearchQuery;
use comity_wire::object::Summary;
use comity_wire::{ModelId, Op};

use crate::printer::{Failure, note, plain, say, table};
use crate::session::Session;

#[derive(Debug, Subcommand)]
pub enum Models {
    /// Search by words and facets; says of each whether you may use it now, and if not, what is missing
    Search(Search),
    /// Read a model's card: whose it is, what it costs you, what becomes of prompts, how it was made, which one it is
    Show {
        model: ModelId,
        #[arg(long)]
        json: bool,
    },
    /// Which models a call that leaves its model open would be answered by, in the order in which they are asked
    Choose {
        /// same:ORGANISATION/MODEL, or any:CONDITIONS
        want: Want,
        /// What the call is
        #[arg(long, default_value = "chat")]
        op: Op,
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
pub struct Search {
    /// Words that must occur
    words: Vec<String>,
    /// Only models of this organisation
    #[arg(long)]
    org: Option<String>,
    /// Only models that offer this op (chat, completions, embeddings …)
    #[arg(long)]
    op: Option<Op>,
    /// Only models that know this language (en, de …)
    #[arg(long)]
    language: Option<String>,
    /// Context of at least so many tokens
    #[arg(long)]
    context: Option<u32>,
    /// relevance, price, context, newest
    #[arg(long)]
    sort: Option<String>,
    /// Twenty models a page: 2 is what comes after the first twenty
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=PAGES_MAX))]
    page: u32,
    #[arg(long)]
    json: bool,
}

/// Models on a page of a search.
const PAGE: u32 = 20;
/// Whoever looks further says more of what is looked for.
const PAGES_MAX: i64 = 10_000;

impl Models {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Search(search) => search.run(session).await,
            Self::Show { model, json } => card::show(session, &model, json).await,
            Self::Choose { want, op, json } => choose(session, &want, op, json).await,
        }
    }
}

impl Search {
    async fn run(self, session: &Session) -> Result<(), Failure> {
        let client = session.look()?;
        let query = SearchQuery {
            q: self.words.join(" "),
            org: self.org,
            op: self.op,
            language: self.language,
            context_min: self.context,
            sort: self.sort,
            limit: Some(PAGE),
            offset: Some((self.page - 1) * PAGE),
            ..SearchQuery::default()
        };
        let choices = client.choices(&query).await?;
        if self.json {
            say(&serde_json::to_string_pretty(&choices.iter().map(Choice::json).collect::<Vec<_>>())?);
            return Ok(());
        }
        if choices.is_empty() {
            note(if self.page == 1 {
                "no model fits: fewer words or facets find more"
            } else {
                "no model is left on this page: the one before has the last"
            });
            return Ok(());
        }
        let rows = choices.iter().map(|choice| row(&client, choice)).collect::<Vec<_>>();
        say(&table(&["model", "owner", "price", "prompts kept", "usable now"], &rows));
        if choices.len() == PAGE as usize {
            note(&format!("there may be more: the same with --page {}", self.page + 1));
        }
        note("comity models show MODEL is its card; comity estimate tells what a file of prompts would cost");
        Ok(())
    }
}

async fn choose(session: &Session, want: &Want, op: Op, json: bool) -> Result<(), Failure> {
    let client = session.look()?;
    let models = client.ways(want, op).await?;
    if json {
        say(&serde_json::to_string_pretty(&models)?);
        return Ok(());
    }
    let row = |model: &ModelId| {
        let summary = client.directory().summary(model);
        vec![model.to_string(), summary.map_or_else(String::new, |summary| price(&summary))]
    };
    say(&table(&["model", "price"], &models.iter().map(row).collect::<Vec<_>>()));
    note("all are of one release: the next is asked where the one before cannot answer and charged nothing");
    Ok(())
}

fn row(client: &comity_sdk::Client, choice: &Choice) -> Vec<String> {
    let summary = &choice.summary;
    let owner = client.directory().roster().organisation(summary.org).map(|org| org.title.to_string());
    let kept = match summary.retention_days {
        0 => "no".to_owned(),
        days => format!("{days} days"),
    };
    let usable = match &choice.missing {
        None if choice.op == Op::Chat => "yes".to_owned(),
        None => format!("yes: {}", choice.op),
        Some(missing) => format!("no: {missing}"),
    };
    vec![
        summary.model.to_string(),
        plain(&owner.unwrap_or_else(|| summary.model.organisation().to_owned())),
        price(summary),
        kept,
        usable,
    ]
}

/// For a million tokens in and out, and for a request where that costs something by itself.
fn price(summary: &Summary) -> String {
    let Some(hint) = &summary.price_hint else { return "see its card".to_owned() };
    let parts = (hint.input_ucr_per_million, hint.output_ucr_per_million, hint.request_ucr);
    match parts {
        (0, 0, 0) => "free".to_owned(),
        (input, output, 0) => format!("{} + {} per 10^6 tokens", money(input), money(output)),
        (0, 0, request) => format!("{} a request", money(request)),
        (input, output, request) => {
            format!("{} + {} per 10^6 tokens, {} a request", money(input), money(output), money(request))
        }
    }
}

fn money(ucr: u64) -> String {
    i64::try_from(ucr)
        .ok()
        .and_then(|ucr| comity_wire::Amount::new(ucr).ok())
        .map_or_else(|| ucr.to_string(), |a| a.to_string())
}
