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

use std::future::IntoFuture as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use comity_sdk::client::Finished;
use comity_sdk::{Client, Name};
use comity_wire::Timestamp;
use tokio_util::sync::CancellationToken;

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
    /// The model that is meant where a request names none (tokenizer clients do not), or what it has to be
    #[arg(long)]
    model: Option<Name>,
    /// Tokens are ended once nothing was asked for so many seconds, so that what was not spent goes home; 0: only at the end
    #[arg(long, default_value_t = 60)]
    idle_s: u64,
}

struct Shared {
    client: Arc<Client>,
    key: Option<String>,
    model: Option<Name>,
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

/// How a proxy is run.
#[derive(Clone, Debug)]
pub struct Options {
    pub listen: SocketAddr,
    pub key: Option<String>,
    pub model: Option<Name>,
    /// Tokens are ended once nothing was asked for so long.
    pub idle: Option<Duration>,
}

/// A proxy that runs beside its caller, on the same wallet.
pub struct Serving {
    address: SocketAddr,
    shared: Proxied,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<std::io::Result<()>>,
    sends_home: Option<tokio::task::JoinHandle<()>>,
}

impl Serving {
    /// Listens, and takes up batches that are not over.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn start(client: Arc<Client>, home: &Path, options: Options) -> Result<Self, Failure> {
        let Options { listen, key, model, idle } = options;
        if !listen.ip().is_loopback() && key.is_none() {
            return Err(Failure::new(
                format!("{listen} can be reached by others"),
                "set a --key that clients must send, or listen on 127.0.0.1",
            ));
        }
        let started = client.now();
        let listener = tokio::net::TcpListener::bind(listen).await.map_err(|error| {
            Failure::new(format!("cannot listen on {listen}: {error}"), "choose another port with --listen")
        })?;
        let address = listener.local_addr()?;
        let batches = Runner::new(Arc::clone(&client), Store::open(home)?);
        let (calls, chains) = (call::Calls::default(), Mutex::default());
        let shared = Arc::new(Shared { client, key, model, started, calls, chains, batches });
        match shared.batches.resume()? {
            0 => {}
            count => note(&format!("{count} batches go on where they were")),
        }
        let app = routes::router(&shared).into_make_service_with_connect_info::<connection::Connection>();
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let serve = axum::serve(connection::Told(listener), app).with_graceful_shutdown(stopped);
        let served = tokio::spawn(serve.into_future());
        let client = Arc::clone(&shared.client);
        let sends_home = idle.map(|idle| tokio::spawn(async move { sends_home(&client, idle).await }));
        Ok(Self { address, shared, stop, served, sends_home })
    }

    /// What clients are given as their base address.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Lets calls that are under way end, and leaves batches to the next start.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Some(task) = self.sends_home {
            task.abort();
            let _ = task.await;
        }
        if let Ok(Err(error)) = self.served.await {
            tracing::warn!(%error, "the proxy ended badly");
        }
        self.shared.batches.leave().await;
    }
}

impl Proxy {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let client = Arc::new(session.client()?);
        client.refresh().await?;
        for (token, error) in client.reconcile().await {
            match error {
                error @ comity_sdk::Error::GivenUp { .. } => note(&error.to_string()),
                error => note(&format!("{token} was asked for and its answer never came; still unknown: {error}")),
            }
        }
        let idle = (self.idle_s > 0).then(|| Duration::from_secs(self.idle_s));
        let options = Options { listen: self.listen, key: self.key, model: self.model, idle };
        let serving = Serving::start(Arc::clone(&client), &session.home, options).await?;
        say(&serving.base_url());
        note("OPENAI_BASE_URL is the line above; OPENAI_API_KEY may be anything unless you set --key. Ctrl-C ends it.");
        stopped().await;
        serving.stop().await;
        finish(&client).await;
        Ok(())
    }
}

/// Never ends by itself.
async fn sends_home(client: &Client, idle: Duration) {
    loop {
        tokio::time::sleep((idle / 4).max(Duration::from_millis(250))).await;
        for (token, finished) in client.finish_idle(idle).await {
            match finished {
                Ok(finished) => told(&token, &finished),
                Err(error) => tracing::info!(%error, %token, "an idle token is not ended yet"),
            }
        }
    }
}

/// Sends home what is left of every open token.
pub(super) async fn finish(client: &Client) {
    for purse in client.purses().await.into_iter().filter(|purse| purse.unfinished) {
        if let Some(until) = purse.delegated_until {
            note(&stays(&purse.token, until));
            continue;
        }
        match client.finish(purse.token).await {
            Ok(finished) => {
                note(&format!("{} ended; spent {}", purse.token, purse.spent));
                told(&purse.token, &finished);
            }
            Err(error @ comity_sdk::Error::GivenUp { .. }) => note(&error.to_string()),
            Err(error) => note(&format!("{} stays open until it expires: {error}", purse.token)),
        }
    }
}

/// Of a token that others may be at work under.
pub(super) fn stays(token: &comity_wire::TokenId, until: comity_wire::Timestamp) -> String {
    format!(
        "{token} stays open: a part of it was handed on until {until}; comity wallet finish ends it then, comity wallet revoke {token} now"
    )
}

fn told(token: &comity_wire::TokenId, finished: &Finished) {
    finished.above.iter().for_each(|above| note(&format!("{token}: {above}; challenged at the house")));
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
