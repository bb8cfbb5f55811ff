//! `comity proxy`: plain OpenAI on loopback. Tokens, signatures, acknowledgements and receipts happen here.

mod batches;
mod call;
mod check;
mod connection;
mod files;
mod models;
mod relay;
mod retry;
mod routes;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use comity_sdk::Client;
use comity_sdk::client::Finished;
use comity_wire::{ModelId, Timestamp};

use crate::batch::run::Runner;
use crate::batch::store::Store;
use crate::printer::{Failure, note, say};
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub struct Proxy {
    /// Where to listen. Anything but loopback needs --key
    #[arg(long, default_value = "127.0.0.1:8899")]
    listen: SocketAddr,
    /// The API key that clients must send
    #[arg(long, env = "COMITY_PROXY_KEY", hide_env_values = true)]
    key: Option<String>,
    /// The model that is meant where a request names none (tokenizer clients do not)
    #[arg(long)]
    model: Option<ModelId>,
}

struct Shared {
    client: Arc<Client>,
    key: Option<String>,
    model: Option<ModelId>,
    started: Timestamp,
    calls: call::Calls,
    chains: Mutex<retry::Chains>,
    batches: Runner,
}

type Proxied = Arc<Shared>;

impl Shared {
    fn chains(&self) -> MutexGuard<'_, retry::Chains> {
        self.chains.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Proxy {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        if !self.listen.ip().is_loopback() && self.key.is_none() {
            return Err(Failure::new(
                format!("{} can be reached by others", self.listen),
                "set a --key that clients must send, or listen on 127.0.0.1",
            ));
        }
        let client = Arc::new(session.client()?);
        let started = client.now();
        client.refresh().await?;
        for (token, error) in client.reconcile().await {
            note(&format!("{token} was asked for and its answer never came; still unknown: {error}"));
        }
        let listener = tokio::net::TcpListener::bind(self.listen).await.map_err(|error| {
            Failure::new(format!("cannot listen on {}: {error}", self.listen), "choose another port with --listen")
        })?;
        let address = listener.local_addr()?;
        let batches = Runner::new(Arc::clone(&client), Store::open(&session.home)?);
        let shared = Arc::new(Shared {
            client,
            key: self.key,
            model: self.model,
            started,
            calls: call::Calls::default(),
            chains: Mutex::default(),
            batches,
        });
        match shared.batches.resume()? {
            0 => {}
            count => note(&format!("{count} batches go on where they were")),
        }
        let app = routes::router(&shared).into_make_service_with_connect_info::<connection::Connection>();
        say(&format!("http://{address}/v1"));
        note("OPENAI_BASE_URL is the line above; OPENAI_API_KEY may be anything unless you set --key. Ctrl-C ends it.");
        axum::serve(connection::Told(listener), app).with_graceful_shutdown(stopped()).await?;
        shared.batches.leave().await;
        finish(&shared.client).await;
        Ok(())
    }
}

/// Sends home what is left of every open token.
async fn finish(client: &Client) {
    for purse in client.purses().await.into_iter().filter(|purse| purse.unfinished) {
        match client.finish(purse.token).await {
            Ok(Finished { above, .. }) => {
                note(&format!("{} ended; spent {}", purse.token, purse.spent));
                above.iter().for_each(|above| note(&format!("{above}; challenged at the house")));
            }
            Err(error) => note(&format!("{} stays open until it expires: {error}", purse.token)),
        }
    }
}

async fn stopped() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).expect("a signal handler can be installed");
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await.ok();
}
