//! Other gateways before the same upstream: what they are started with, how they are asked.
//!
//! Each as its own pages say, with what a fair race needs and no more: no database, no log of requests, a key of its own where it
//! has keys. None of them makes anything durable or signs anything.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::callers::{self, Caller, Repeat, Script, Target};
use crate::figure::{Figure, median};
use crate::rig::{CALLERS, Crew, Rig};

/// One to be raced, or why it is not.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) kind: Kind,
    pub(crate) found: Result<PathBuf, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Portkey,
    Litellm,
    Literllm,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Portkey, Self::Litellm, Self::Literllm];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Portkey => "portkey",
            Self::Litellm => "litellm",
            Self::Literllm => "literllm",
        }
    }

    pub(crate) fn metric(self) -> &'static str {
        match self {
            Self::Portkey => "gateway_vs_portkey",
            Self::Litellm => "gateway_vs_litellm",
            Self::Literllm => "gateway_vs_literllm",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Portkey => "Portkey gateway 1.15.2, one process",
            Self::Litellm => "LiteLLM 1.108.7, no database, two workers of gunicorn",
            Self::Literllm => "liter-llm 2.4.4, a key with a budget",
        }
    }

    /// Below the folder that its package manager filled.
    fn command(self, folder: &Path, own: &Path, address: SocketAddr) -> Command {
        let port = address.port().to_string();
        let host = address.ip().to_string();
        match self {
            Self::Portkey => {
                let mut command = Command::new("node");
                command.arg(folder.join("node_modules/@portkey-ai/gateway/build/start-server.js"));
                command.arg("--headless").arg(format!("--port={port}"));
                command
            }
            Self::Litellm => {
                let mut command = Command::new(folder.join("bin/litellm"));
                // Under gunicorn: uvicorn ends workers that have not answered within 5 s, and they need longer to start.
                command.args(["--host", &host, "--port", &port, "--num_workers", "2", "--run_gunicorn", "--config"]);
                command.arg(own.join("litellm.yaml"));
                // Else it asks the internet for prices at each start.
                command.env("LITELLM_LOCAL_MODEL_COST_MAP", "True");
                command
            }
            Self::Literllm => {
                let mut command = Command::new(folder.join("bin/liter-llm"));
                command.args(["api", "--host", &host, "--port", &port, "--config"]).arg(own.join("liter.toml"));
                command.env("RUST_LOG", "error");
                command
            }
        }
    }

    fn headers(self, upstream: &str) -> Vec<(&'static str, String)> {
        match self {
            Self::Portkey => vec![
                ("authorization", "Bearer none".to_owned()),
                ("x-portkey-provider", "openai".to_owned()),
                ("x-portkey-custom-host", upstream.to_owned()),
            ],
            Self::Litellm => vec![("authorization", format!("Bearer {KEY}"))],
            Self::Literllm => vec![("authorization", format!("Bearer {KEY}"))],
        }
    }

    fn request(self, upstream: &str) -> Vec<u8> {
        let message = serde_json::json!({"role": "user", "content": "lane 255, seq 1000"});
        let body = serde_json::json!({"model": "scripted", "messages": [message], "max_tokens": 8}).to_string();
        let mut head =
            format!("POST /v1/chat/completions HTTP/1.1\r\nhost: door\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in self.headers(upstream).iter().chain(&[("content-type", "application/json".to_owned())]) {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        (head + "\r\n" + &body).into_bytes()
    }
}

const KEY: &str = "sk-bench";
const ROUNDS: usize = 5;
const ROUND_TIME: Duration = Duration::from_secs(3);
/// Python needs a while to import what it needs.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// A running one, on loopback. Dropping it ends it.
struct Running {
    address: SocketAddr,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Running {
    async fn start(kind: Kind, installed: &Path, upstream: &str) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("error: {}: {error}", kind.name());
        let folder = tempfile::Builder::new().prefix("comity-bench-peer-").tempdir().map_err(failed)?;
        std::fs::write(folder.path().join("litellm.yaml"), litellm(upstream)).map_err(failed)?;
        std::fs::write(folder.path().join("liter.toml"), liter(upstream)).map_err(failed)?;
        // None takes port 0, so one is asked for here and given back.
        let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).map_err(failed)?;
        let log = std::fs::File::create(folder.path().join("log")).map_err(failed)?;
        let errors = log.try_clone().map_err(failed)?;
        let mut command = kind.command(installed, folder.path(), address);
        command.current_dir(folder.path()).stdin(Stdio::null()).stdout(log).stderr(errors);
        let child = command.spawn().map_err(failed)?;
        let mut running = Self { address, child, _folder: folder };
        let (until, request) = (Instant::now() + READY_TIMEOUT, kind.request(upstream));
        loop {
            let asked = match Caller::connect(&Target::plain(address)).await {
                Ok(mut caller) => caller.ask(&request).await,
                Err(refused) => Err(refused),
            };
            let Err(seen) = asked else { return Ok(running) };
            let ended = running.child.try_wait().map_err(failed)?;
            if ended.is_some() || Instant::now() > until {
                let said = std::fs::read_to_string(running._folder.path().join("log")).unwrap_or_default();
                let last: String = said.chars().rev().take(2_000).collect::<Vec<_>>().into_iter().rev().collect();
                return Err(format!("error: {} does not answer ({ended:?}): {seen}\n{last}", kind.name()));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Asked, not killed: a parent that is killed leaves its workers behind.
        let asked = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        if asked.is_ok_and(|status| status.success()) {
            let _ = self.child.wait();
        }
    }
}

/// A figure for each: the node and it in turns, sixteen callers.
///
/// # Errors
/// Where one that was found does not come up or does not answer.
pub(crate) async fn measure(rig: &mut Rig, crew: &mut Crew, peers: &[Peer]) -> Result<Vec<Figure>, String> {
    let mut figures = Vec::with_capacity(peers.len());
    for peer in peers {
        let figure = match &peer.found {
            Ok(installed) => race(rig, crew, peer.kind, installed).await?,
            Err(why) => {
                let (metric, note) = (peer.kind.metric(), why.clone());
                Figure { metric, value: None, unit: "1/s", yardstick: None, n: 0, note }
            }
        };
        figures.push(figure);
    }
    Ok(figures)
}

async fn race(rig: &mut Rig, crew: &mut Crew, kind: Kind, installed: &Path) -> Result<Figure, String> {
    let upstream = rig.upstream();
    eprintln!("starting {}", kind.title());
    let running = Running::start(kind, installed, &upstream).await?;
    let request = kind.request(&upstream);
    let round = async |time| {
        // Anew for each round: some let go of a connection that was idle for two seconds.
        let mut theirs = Vec::with_capacity(usize::from(CALLERS));
        for _ in 0..CALLERS {
            theirs.push(Caller::connect(&Target::plain(running.address)).await?);
        }
        let mut scripts: Vec<_> = theirs.iter().map(|_| Script::new(vec![request.clone()], Repeat::Again)).collect();
        callers::round(&mut theirs, &mut scripts, time).await
    };
    round(ROUND_TIME).await?;
    let (mut ours, mut rates, mut answered) = (Vec::new(), Vec::new(), 0);
    for turn in 1..=ROUNDS {
        let node = rig.node_round(crew, ROUND_TIME).await?;
        let other = round(ROUND_TIME).await?;
        eprintln!("round {turn} of {ROUNDS}: node {:.0}/s, {} {:.0}/s", node.rate, kind.name(), other.rate());
        answered += node.answered;
        ours.push(node.rate);
        rates.push(other.rate());
    }
    Ok(Figure {
        metric: kind.metric(),
        value: Some(median(&mut ours)),
        unit: "1/s",
        yardstick: Some((format!("{}, over plain HTTP", kind.title()), median(&mut rates))),
        n: answered,
        note: format!(
            "{ROUNDS} rounds of {ROUND_TIME:?}, {CALLERS} callers, same upstream; ours over HTTPS, signed, durable"
        ),
    })
}

fn litellm(upstream: &str) -> String {
    format!(
        "model_list:\n  - model_name: scripted\n    litellm_params:\n      model: openai/gpt-4o-mini\n      api_base: {upstream}\n      \
         api_key: none\ngeneral_settings:\n  master_key: {KEY}\nlitellm_settings:\n  num_retries: 0\n"
    )
}

fn liter(upstream: &str) -> String {
    format!(
        "[general]\nmaster_key = \"sk-master\"\nenable_cost_tracking = true\nmax_retries = 0\n\n[security]\noutbound_policy = \"off\"\n\n\
         [[models]]\nname = \"scripted\"\nprovider_model = \"openai/gpt-4o-mini\"\napi_key = \"none\"\nbase_url = \"{upstream}\"\n\n\
         [[keys]]\nkey = \"{KEY}\"\nmodels = [\"scripted\"]\nbudget_limit = 1000000.0\n"
    )
}
