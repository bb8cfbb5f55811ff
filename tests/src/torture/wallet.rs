//! The story of a researcher's wallet: `comity proxy` under load, and `comity chat`, each killed with what it was about to
//! write.
//!
//! Both are started from `comity-crash`, which hands its failpoint to every command. A question is never asked twice here:
//! what a retry after a crash may cost is the wallet's own story.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use comity_sdk::Profile;
use comity_sdk::profile::Limits;
use comity_wire::object::Receipt;
use comity_wire::{Amount, Code, Digest, ModelId, Signed};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::books::{self, Kept};
use super::cycle::{self, Death, PATIENCE, RECOVERY};
use super::{Kind, Tally};
use crate::federation::{AWARD, PER_TOKEN, eventually, within};
use crate::{Chance, Federation, Owner, Scripted, process};

const CALLERS: usize = 4;
/// Small, so that the wallet draws tokens under load too.
const TOKEN: Amount = Amount::from_ucr(300);
const PAUSE: Duration = Duration::from_millis(25);

struct Story {
    federation: Federation,
    shared: Arc<Shared>,
    home: PathBuf,
    _upstream: Scripted,
}

struct Shared {
    model: ModelId,
    tally: Tally,
    http: legacy::Client<HttpConnector, Full<Bytes>>,
    /// What callers were answered with: the receipt's id and its charge.
    answered: Mutex<BTreeMap<Digest, Amount>>,
    progress: AtomicU64,
}

pub(super) async fn story(cycles: u32, chance: &mut Chance, tally: &Tally) {
    let deaths = cycle::deaths(Kind::Wallet, cycles, chance);
    let story = Story::begin(tally).await;
    let of = deaths.len();
    for (number, death) in deaths.into_iter().enumerate() {
        // Every second random death is that of a process of one question.
        let how = match death {
            Death::AtRandom if number % 2 == 1 => story.chat(chance).await,
            death => story.proxy(death, chance).await,
        };
        story.has_resumed().await;
        cycle::told(Kind::Wallet, number + 1, of, &how, tally);
    }
    story.end().await;
}

impl Story {
    async fn begin(tally: &Tally) -> Self {
        let upstream = Scripted::start().await;
        let lab = Owner::scripted("lab", &upstream, PER_TOKEN);
        let federation = Federation::start(std::slice::from_ref(&lab)).await;
        let home = federation.wallet("researcher");
        std::fs::create_dir_all(&home).expect("a wallet's folder");
        let profile = Profile {
            roster: federation.path().join("roster/roster.cbor"),
            entry: vec![federation.address("hub")],
            house: None,
            project: Some(federation.project),
            member_key: Some(home.join("member.key")),
            mandate: None,
            limits: Limits { token: TOKEN, total: AWARD, day: None },
        };
        let text = toml::to_string(&profile).expect("a profile has a TOML form");
        std::fs::write(home.join(Profile::FILE), text).expect("a profile");
        let seed = Digest(*federation.member().seed());
        std::fs::write(home.join("member.key"), seed.to_string()).expect("a member's key");
        let shared = Arc::new(Shared {
            model: lab.model(),
            tally: tally.clone(),
            http: legacy::Client::builder(TokioExecutor::new()).build_http(),
            answered: Mutex::default(),
            progress: AtomicU64::new(0),
        });
        Self { federation, shared, home, _upstream: upstream }
    }

    /// A proxy under load, until it dies.
    async fn proxy(&self, death: Death, chance: &mut Chance) -> String {
        let armed = match death {
            Death::At(point) => Some((point, point.armed(chance))),
            Death::AtRandom => None,
        };
        let mut proxy = Proxy::start(&self.home, armed.as_ref().map(|(_, at)| at.as_str())).await;
        let load = Load::start(&self.shared, &proxy.url);
        let how = match armed {
            Some((point, at)) => {
                if tokio::time::timeout(PATIENCE, proxy.child.wait()).await.is_ok() {
                    self.shared.tally.died_at(Kind::Wallet, point.name);
                } else {
                    self.shared.tally.missed_point(Kind::Wallet, point.name);
                    proxy.kill().await;
                }
                format!("as a proxy, at {at}")
            }
            None => {
                let (progress, strike) = cycle::moment(chance);
                let due = self.shared.progress.load(Ordering::SeqCst) + progress;
                eventually("answers before the kill", async || {
                    let now = self.shared.progress.load(Ordering::SeqCst);
                    if now >= due { Ok(()) } else { Err(format!("{now} of {due}")) }
                })
                .await;
                tokio::time::sleep(strike).await;
                proxy.kill().await;
                self.shared.tally.was_killed();
                format!("as a proxy, at random, {progress} answers and {strike:?} later")
            }
        };
        load.end().await;
        how
    }

    /// Questions one after the other, each a process of its own; the last is killed somewhere between its first
    /// instruction and its last.
    async fn chat(&self, chance: &mut Chance) -> String {
        const LONGEST_US: u64 = 300_000;
        let strike = Duration::from_micros(chance.within(0..LONGEST_US));
        let until = tokio::time::Instant::now() + strike;
        let receipt = self.home.join("receipt.cbor");
        let mut ended = 0;
        loop {
            std::fs::remove_file(&receipt).ok();
            let file = receipt.display().to_string();
            let model = self.shared.model.to_string();
            let question = format!("Where, at {ended}?");
            let mut chat = wallet(&self.home)
                .args(["chat", &model, &question, "--max-tokens", "8", "--receipt", &file])
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .expect("the binary starts");
            let Ok(status) = tokio::time::timeout_at(until, chat.wait()).await else {
                chat.kill().await.expect("a child can be killed");
                self.shared.tally.was_killed();
                return format!("as a chat, after {strike:?}, {ended} chats");
            };
            if status.expect("a child can be waited for").success() {
                let bytes = std::fs::read(&receipt).expect("a receipt's file");
                let signed = Signed::<Receipt>::decode(&bytes).expect("a receipt");
                self.shared.took(signed.id(), signed.unverified().charge);
            } else {
                let output = chat.wait_with_output().await.expect("a child's output");
                self.shared.tally.phantom(&format!("a chat: {}", String::from_utf8_lossy(&output.stderr).trim()));
            }
            ended += 1;
        }
    }

    /// The wallet opens, answers, and has every receipt that a caller was told of.
    async fn has_resumed(&self) {
        let mut proxy = Proxy::start(&self.home, None).await;
        let ask = async || self.shared.ask(&proxy.url, "Still there?").await;
        if let Err(error) = within(RECOVERY, ask).await {
            self.shared.tally.phantom(&format!("no answer after the restart: {error}"));
        }
        proxy.kill().await;
        let kept = Kept::read(std::slice::from_ref(&self.home));
        // What was found once stays: the journal only grows.
        let answered = std::mem::take(&mut *self.shared.answered());
        for (id, charge) in answered {
            if kept.receipts.get(&id).map(|kept| kept.charge) != Some(charge) {
                self.shared.tally.lost(&format!("receipt {id} was answered and is not in the wallet"));
            }
        }
    }

    async fn end(self) {
        let home = self.home.display().to_string();
        let finish = async || {
            let ended = process::run(&["--home", &home, "wallet", "finish"]).await;
            if ended.success { Ok(()) } else { Err(format!("{} {}", ended.stdout, ended.stderr)) }
        };
        if let Err(error) = within(RECOVERY, finish).await {
            self.shared.tally.broken(&format!("tokens do not come to their end: {error}"));
        }
        let kept = Kept::read(std::slice::from_ref(&self.home));
        books::reckon(&self.federation, &kept, &self.shared.tally).await;
        self.federation.end().await;
    }
}

impl Shared {
    fn answered(&self) -> std::sync::MutexGuard<'_, BTreeMap<Digest, Amount>> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn took(&self, id: Digest, charge: Amount) {
        if self.answered().insert(id, charge).is_some() {
            self.tally.doubled(&format!("two answers under the receipt {id}"));
        }
        self.tally.acked();
        self.progress.fetch_add(1, Ordering::SeqCst);
    }

    /// One question to a proxy, as any OpenAI client puts it.
    async fn ask(&self, url: &str, question: &str) -> Result<(), String> {
        let body = json!({"model": self.model, "max_tokens": 8, "messages": [{"role": "user", "content": question}]});
        let request = http::Request::post(format!("{url}/chat/completions"))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Full::from(body.to_string()))
            .expect("a request");
        let response = self.http.request(request).await.map_err(|error| crate::federation::chain(&error))?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| crate::federation::chain(&error))?.to_bytes();
        if !head.status.is_success() {
            let said = String::from_utf8_lossy(&body).into_owned();
            let code = serde_json::from_slice::<Value>(&body).ok();
            let code = code.and_then(|body| body["error"]["code"].as_str()?.parse::<Code>().ok());
            if code.is_some_and(|code| !code.should_retry() && code != Code::UpstreamFailed) {
                self.tally.phantom(&format!("asking a proxy: {said}"));
            }
            return Err(said);
        }
        let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match (text("comity-receipt-id").parse(), text("comity-cost").parse().map(Amount::new)) {
            (Ok(id), Ok(Ok(charge))) => self.took(id, charge),
            _ => self.tally.lost(&format!("an answer came without its receipt: {:?}", head.headers)),
        }
        Ok(())
    }
}

/// A running `comity proxy`. Dropping it kills it.
struct Proxy {
    url: String,
    child: Child,
}

fn wallet(home: &Path) -> Command {
    let mut command = Command::new(process::crash_binary());
    command.arg("--home").arg(home).stdin(Stdio::null()).kill_on_drop(true);
    command
}

impl Proxy {
    async fn start(home: &Path, armed: Option<&str>) -> Self {
        let mut command = wallet(home);
        if let Some(at) = armed {
            command.env("COMITY_CRASH_AT", at);
        }
        let errors = std::fs::File::options().create(true).append(true).open(home.join("proxy.log")).expect("a log");
        let mut child = command
            .args(["proxy", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .expect("the binary starts");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout was piped")).lines();
        let line = tokio::time::timeout(RECOVERY, lines.next_line()).await;
        let Ok(Ok(Some(url))) = line else {
            panic!(
                "the proxy did not come up:\n{}",
                std::fs::read_to_string(home.join("proxy.log")).unwrap_or_default()
            )
        };
        Self { url, child }
    }

    async fn kill(&mut self) {
        self.child.kill().await.expect("a child can be killed");
    }
}

struct Load {
    stop: Arc<AtomicBool>,
    callers: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(shared: &Arc<Shared>, url: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let call = |number| {
            let (shared, stop, url) = (Arc::clone(shared), Arc::clone(&stop), url.to_owned());
            tokio::spawn(async move {
                let mut count = 0_u64;
                while !stop.load(Ordering::SeqCst) {
                    count += 1;
                    if shared.ask(&url, &format!("caller {number}, question {count}")).await.is_err() {
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            })
        };
        Self { callers: (0..CALLERS).map(call).collect(), stop }
    }

    async fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        for caller in self.callers {
            cycle::ended(caller).await;
        }
    }
}
