//! `comity chat`: one question, one answer, what it cost.

use comity_sdk::client::Served;
use comity_sdk::{Name, Query};
use comity_wire::Amount;

use crate::printer::{Failure, note, say, say_part};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub struct Chat {
    /// A model, or what it has to be: same:ORGANISATION/MODEL, any:context>=8k,price<=1,residency=EU
    model: Name,
    /// The question
    #[arg(required = true)]
    prompt: Vec<String>,
    /// Instructions that stand before it
    #[arg(long)]
    system: Option<String>,
    #[arg(long)]
    max_tokens: Option<u32>,
    /// The most this call may cost, in micro-credits
    #[arg(long)]
    max_charge: Option<i64>,
    /// The execution of an approved plan that it is part of: a name of your choice, the same in each of its calls
    #[arg(long)]
    run: Option<comity_wire::object::Run>,
    /// Wait for the whole answer instead of printing it as it comes
    #[arg(long)]
    whole: bool,
    /// Keep the receipt in this file
    #[arg(long)]
    receipt: Option<std::path::PathBuf>,
    #[arg(long)]
    json: bool,
}

impl Chat {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let client = session.client()?;
        let prompt = self.prompt.join(" ");
        let mut messages = Vec::new();
        if let Some(system) = &self.system {
            messages.push(("system", system.as_str()));
        }
        messages.push(("user", &prompt));
        let whole = self.whole || self.json;
        let mut query = Query::<Name>::question(&self.model, &messages, self.max_tokens, !whole);
        if let Some(run) = &self.run {
            query = query.within(run);
        }
        query.max_charge = self.max_charge.map(Amount::new).transpose()?;
        let (receipt, served) = if whole {
            let answer = client.ask(&query).await?;
            if self.json {
                let body: serde_json::Value = serde_json::from_slice(&answer.body)?;
                let mut said = serde_json::json!({"reply": body, "receipt": answer.receipt.object()});
                if let Some(served) = &answer.notes.served {
                    said["served"] = serde_json::json!(served);
                }
                say(&serde_json::to_string_pretty(&said)?);
            } else {
                say(&answer.text().unwrap_or_default());
            }
            (answer.receipt, answer.notes.served)
        } else {
            let mut stream = client.stream(&query).await?;
            loop {
                match stream.next().await {
                    Ok(Some(payload)) => say_part(&delta(&payload)),
                    Ok(None) => break,
                    Err(error) => {
                        say("");
                        stream.abandon().await;
                        return Err(error.into());
                    }
                }
            }
            say("");
            let served = stream.notes().served;
            (stream.receipt().await?, served)
        };
        if let Some(file) = &self.receipt {
            std::fs::write(file, receipt.bytes())?;
        }
        if let Some(served) = served {
            tell(&served);
        }
        note(&format!("cost {}; {} so far in this lane; receipt {}", receipt.charge, receipt.total, receipt.id()));
        Ok(())
    }
}

fn tell(served: &Served) {
    served.tried.iter().for_each(|tried| note(&format!("did not answer: {tried}")));
    note(&format!("{} was answered by {} at {}", served.asked, served.model, served.node));
}

fn delta(payload: &str) -> String {
    let text = |value: serde_json::Value| value.pointer("/choices/0/delta/content")?.as_str().map(str::to_owned);
    serde_json::from_str(payload).ok().and_then(text).unwrap_or_default()
}
