//! The node in its federation, nginx, and the upstream behind both; and what is asked of them.

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use comity_tests::{Federation, Holder, Owner, Scripted, eventually};
use comity_wire::{Amount, ModelId};
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::callers::{self, Caller, Receipts, Repeat, Script, Target};
use crate::nginx::Nginx;
use crate::process::{self, Process};

pub(crate) const CALLERS: u16 = 16;
/// As many as are ever asked at once; each has a lane.
pub(crate) const CALLERS_MAX: u16 = 256;
/// The one caller's lane, beside theirs.
const SINGLE_LANE: u16 = CALLERS_MAX - 1;

/// As little as a request can cost: a lane's window of a million then outlasts the run without acknowledgements.
pub(crate) const RATES: &str = r#"{ meter = "requests", steps = [{ from = 0, ucr_per_million = 1_000_000 }] }"#;
pub(crate) const PRICE: Amount = Amount::from_ucr(1);
pub(crate) const BUDGET: Amount = Amount::credits(1);

/// Signed for each lane before a round where nothing is known yet; a node that answers more of them ends its round early.
const SIGNED_AT_FIRST: usize = 400;

/// A model's server as a process of its own, so that its cost can be told from the callers'.
pub(crate) struct Upstream {
    address: SocketAddr,
    child: Child,
}

/// What this program is called with to be an upstream: one that answers at once, or one that speaks at a pace.
pub(crate) const UPSTREAM: &str = "upstream";
pub(crate) const PACED: &str = "paced-upstream";

impl Upstream {
    pub(crate) async fn start(kind: &str) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("error: the upstream did not start: {error}");
        let program = std::env::current_exe().map_err(failed)?;
        let mut child = Command::new(program)
            .arg(kind)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let mut lines = BufReader::new(child.stdout.take().expect("stdout was piped")).lines();
        let line = lines.next_line().await.map_err(failed)?.unwrap_or_default();
        let address = line.parse().map_err(|_| format!("error: the upstream says {line:?}"))?;
        Ok(Self { address, child })
    }

    /// The process of the one that answers at once. It ends when its parent is gone.
    pub(crate) async fn serve() -> ExitCode {
        let scripted = Scripted::start().await;
        say_address(scripted.address());
        parent_gone().await;
        ExitCode::SUCCESS
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// As an owner names it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    fn id(&self) -> u32 {
        self.child.id().expect("it was not ended")
    }
}

/// To the parent, which waits for it.
#[expect(clippy::print_stdout, reason = "its parent reads the address there")]
pub(crate) fn say_address(address: SocketAddr) {
    println!("{address}");
}

pub(crate) async fn parent_gone() {
    let parent = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    let _ = parent.await;
}

pub(crate) struct Rig {
    federation: Federation,
    holder: Holder,
    model: ModelId,
    nginx: Nginx,
    upstream: Upstream,
    door: Target,
    /// The next number of each lane.
    seqs: Vec<u64>,
    /// How many each lane took in the last round.
    pace: usize,
}

/// Connections that are kept for the whole run.
pub(crate) struct Crew {
    node: Vec<Caller>,
    nginx: Vec<Caller>,
    single_node: Caller,
    single_nginx: Caller,
    single_direct: Caller,
}

impl Crew {
    pub(crate) fn callers(&self) -> usize {
        self.node.len()
    }
}

/// A round of all callers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Throughput {
    pub(crate) answered: usize,
    /// SQL transactions of the node; each is one flush.
    pub(crate) commits: usize,
    pub(crate) rate: f64,
    /// CPU µs for each request: of who was asked, of the callers, of the upstream.
    pub(crate) server_us: f64,
    pub(crate) callers_us: f64,
    pub(crate) upstream_us: f64,
    /// What callers waited for an answer.
    pub(crate) waited: Quantiles,
}

impl Throughput {
    /// Charges in one commit.
    pub(crate) fn batch(&self) -> f64 {
        self.answered as f64 / self.commits.max(1) as f64
    }
}

/// A round of one caller: whole answers, and first frames of streams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Single {
    pub(crate) node: Quantiles,
    pub(crate) nginx: Quantiles,
    pub(crate) direct: Quantiles,
    pub(crate) node_first: Quantiles,
    pub(crate) nginx_first: Quantiles,
    pub(crate) direct_first: Quantiles,
}

/// In ms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quantiles {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Quantiles {
    fn of(sorted: &[f64]) -> Self {
        let at = |share: usize| sorted[(sorted.len() * share / 100).min(sorted.len() - 1)];
        Self { p50: at(50), p99: at(99) }
    }
}

impl Rig {
    pub(crate) async fn start() -> Result<Self, String> {
        let upstream = Upstream::start(UPSTREAM).await?;
        let nginx = Nginx::start(upstream.address)?;
        let lab = Owner { name: "lab", upstream: upstream.url(), rates: RATES };
        eprintln!("starting a federation, and {}", nginx.version);
        let mut federation = Federation::start(std::slice::from_ref(&lab)).await;
        let client = federation.client("bench");
        let model = lab.model();
        let holder = Holder::mint(&federation, &client, &model, BUDGET, SINGLE_LANE + 1).await;
        let door = federation.service("lab").ready.door.clone();
        let address = door.trim_start_matches("https://").parse();
        let address: SocketAddr = address.map_err(|_| format!("error: the node's door is {door:?}"))?;
        let door = Target::door(address, &holder.transport_keys, Receipts::Demanded);
        let seqs = vec![1; usize::from(SINGLE_LANE) + 1];
        Ok(Self { federation, holder, model, nginx, upstream, door, seqs, pace: SIGNED_AT_FIRST / 2 })
    }

    /// As an owner names it.
    pub(crate) fn upstream(&self) -> String {
        self.upstream.url()
    }

    pub(crate) fn nginx_version(&self) -> String {
        self.nginx.version.clone()
    }

    /// Where the node keeps its store, on the same disk.
    pub(crate) fn folder(&self) -> &Path {
        self.federation.path()
    }

    /// Starts the node anew, sends one request, and reads how much memory it has then.
    pub(crate) async fn idle_mb(&mut self) -> Result<f64, String> {
        let node = self.federation.service("lab");
        node.end().await;
        node.restart().await;
        let id = node.id();
        // With the token: a node that has only just started may not hold it.
        let request = self.signed(SINGLE_LANE).http1();
        let door = self.door.clone();
        eventually("an answer after a start", async || Caller::connect(&door).await?.ask(&request).await).await;
        Ok(process::resident_mb(id))
    }

    pub(crate) async fn crew(&mut self, callers: u16) -> Result<Crew, String> {
        let proxy = self.nginx.door();
        let direct = Target::plain(self.upstream.address);
        let (mut node, mut nginx) = (Vec::new(), Vec::new());
        for lane in 0..callers {
            let mut caller = Caller::connect(&self.door).await?;
            caller.ask(&self.signed(lane).http1()).await?;
            node.push(caller);
            nginx.push(Caller::connect(&proxy).await?);
        }
        Ok(Crew {
            node,
            nginx,
            single_node: Caller::connect(&self.door).await?,
            single_nginx: Caller::connect(&proxy).await?,
            single_direct: Caller::connect(&direct).await?,
        })
    }

    /// All callers at the node.
    pub(crate) async fn node_round(&mut self, crew: &mut Crew, time: Duration) -> Result<Throughput, String> {
        let ahead = self.pace * 2;
        let first = self.seqs.clone();
        let lanes = 0..u16::try_from(crew.callers()).expect("a lane each");
        let mut scripts: Vec<_> =
            lanes.map(|lane| Script::new((0..ahead).map(|_| self.next(lane)).collect(), Repeat::Once)).collect();
        let node = Process::Alone(self.federation.service("lab").id());
        let before = self.commits().await?;
        let round = self.round(node, &mut crew.node, &mut scripts, time).await?;
        let commits = self.commits().await? - before;
        let round = Throughput { commits: usize::try_from(commits).unwrap_or_default(), ..round };
        for (lane, script) in scripts.iter().enumerate() {
            // What was signed and not sent is signed again: numbers have no gaps.
            self.seqs[lane] = first[lane] + script.taken() as u64;
        }
        self.pace = scripts.iter().map(Script::taken).max().unwrap_or_default().max(SIGNED_AT_FIRST / 2);
        Ok(round)
    }

    /// How often the node's spend store has committed, as it counts itself.
    async fn commits(&mut self) -> Result<i64, String> {
        let file = self.federation.service("lab").home.join("spend.sqlite");
        let failed = |error: sqlx::Error| format!("error: cannot read {}: {error}", file.display());
        let options = SqliteConnectOptions::new().filename(&file).read_only(true);
        let mut store = SqliteConnection::connect_with(&options).await.map_err(failed)?;
        let query = sqlx::query_scalar("SELECT commits FROM spend_fence");
        query.fetch_one(&mut store).await.map_err(failed)
    }

    /// The same callers at nginx.
    pub(crate) async fn nginx_round(&self, crew: &mut Crew, time: Duration) -> Result<Throughput, String> {
        let script = |_: &Caller| Script::new(vec![self.sample(SINGLE_LANE)], Repeat::Again);
        let mut scripts: Vec<_> = crew.nginx.iter().map(script).collect();
        self.round(Process::WithChildren(self.nginx.id()), &mut crew.nginx, &mut scripts, time).await
    }

    async fn round(
        &self,
        server: Process,
        callers: &mut [Caller],
        scripts: &mut [Script],
        time: Duration,
    ) -> Result<Throughput, String> {
        let processes = [server, Process::Alone(std::process::id()), Process::Alone(self.upstream.id())];
        let before = processes.map(Process::cpu);
        let round = callers::round(callers, scripts, time).await?;
        let after = processes.map(Process::cpu);
        let each = |at: usize| (after[at] - before[at]).as_secs_f64() * 1e6 / round.answered().max(1) as f64;
        let [server_us, callers_us, upstream_us] = [each(0), each(1), each(2)];
        let waited = Quantiles::of(&round.sorted_ms());
        let (answered, rate) = (round.answered(), round.rate());
        Ok(Throughput { answered, commits: 0, rate, server_us, callers_us, upstream_us, waited })
    }

    /// One caller at the node, at nginx and at the upstream itself.
    pub(crate) async fn single(&mut self, crew: &mut Crew, requests: usize) -> Result<Single, String> {
        let sample = self.sample(SINGLE_LANE);
        let same = vec![sample; requests];
        let signed: Vec<_> = (0..requests).map(|_| self.next(SINGLE_LANE)).collect();
        let node = callers::latencies(&mut crew.single_node, &signed).await?;
        let nginx = callers::latencies(&mut crew.single_nginx, &same).await?;
        let direct = callers::latencies(&mut crew.single_direct, &same).await?;
        let [node, nginx, direct] = [node, nginx, direct].map(|sorted| Quantiles::of(&sorted));
        let sample = self.holder.sign_stream(&self.model, SINGLE_LANE, self.seqs[usize::from(SINGLE_LANE)], PRICE, 8);
        let same = vec![sample.known().http1(); requests];
        let streams: Vec<_> = (0..requests).map(|_| self.next_stream(SINGLE_LANE)).collect();
        let node_first = callers::first_frames(&mut crew.single_node, &streams).await?;
        let nginx_first = callers::first_frames(&mut crew.single_nginx, &same).await?;
        let direct_first = callers::first_frames(&mut crew.single_direct, &same).await?;
        let [node_first, nginx_first, direct_first] =
            [node_first, nginx_first, direct_first].map(|sorted| Quantiles::of(&sorted));
        Ok(Single { node, nginx, direct, node_first, nginx_first, direct_first })
    }

    pub(crate) async fn end(self) {
        self.federation.end().await;
    }

    fn signed(&mut self, lane: u16) -> comity_tests::holder::Signed {
        let seq = &mut self.seqs[usize::from(lane)];
        let signed = self.holder.sign(&self.model, lane, *seq, PRICE);
        *seq += 1;
        signed
    }

    fn next(&mut self, lane: u16) -> Vec<u8> {
        self.signed(lane).known().http1()
    }

    fn next_stream(&mut self, lane: u16) -> Vec<u8> {
        let seq = &mut self.seqs[usize::from(lane)];
        let signed = self.holder.sign_stream(&self.model, lane, *seq, PRICE, 8);
        *seq += 1;
        signed.known().http1()
    }

    /// The bytes of the lane's next request, which stays free.
    fn sample(&self, lane: u16) -> Vec<u8> {
        self.holder.sign(&self.model, lane, self.seqs[usize::from(lane)], PRICE).known().http1()
    }
}
