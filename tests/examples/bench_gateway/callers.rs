//! Callers that cost little: requests are bytes made beforehand, a connection is kept, an answer is read and not parsed.

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use comity_http::TrustedKeys;
use comity_http::tls::SERVER_NAME;
use comity_token::request::header;
use comity_wire::PublicKey;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

/// Whom to ask.
#[derive(Clone)]
pub(crate) struct Target {
    address: SocketAddr,
    tls: Option<TlsConnector>,
    receipts: Receipts,
}

/// Whether an answer without a receipt is one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Receipts {
    Demanded,
    NotGiven,
}

impl Target {
    /// HTTP, as a node speaks to its model's server.
    pub(crate) fn plain(address: SocketAddr) -> Self {
        Self { address, tls: None, receipts: Receipts::NotGiven }
    }

    /// HTTPS under one of these keys.
    pub(crate) fn door(address: SocketAddr, keys: &[PublicKey], receipts: Receipts) -> Self {
        let trusted = TrustedKeys::Exactly(keys.iter().map(|key| *key.as_bytes()).collect());
        let mut config = Arc::unwrap_or_clone(trusted.client_config());
        // One connection for each caller, and the same protocol for both sides of the comparison.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { address, tls: Some(TlsConnector::from(Arc::new(config))), receipts }
    }
}

trait Socket: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Socket for T {}

/// One caller with its connection.
pub(crate) struct Caller {
    socket: Box<dyn Socket>,
    receipts: Receipts,
    buffer: Vec<u8>,
}

/// An answer here has some hundred bytes; more than this is a mistake.
const ANSWER_BYTES_MAX: usize = 64 << 10;
const BUFFER_BYTES: usize = 4 << 10;

impl Caller {
    pub(crate) async fn connect(target: &Target) -> Result<Self, String> {
        Self::connect_from(target, Ipv4Addr::LOCALHOST).await
    }

    /// From an address of its own: servers bound the connections of each.
    pub(crate) async fn connect_from(target: &Target, source: Ipv4Addr) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("error: cannot connect to {}: {error}", target.address);
        let socket = TcpSocket::new_v4().map_err(failed)?;
        socket.bind((source, 0).into()).map_err(failed)?;
        let stream = socket.connect(target.address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let socket: Box<dyn Socket> = match &target.tls {
            None => Box::new(stream),
            Some(tls) => {
                let name = ServerName::try_from(SERVER_NAME).expect("it is a host name");
                Box::new(tls.connect(name, stream).await.map_err(failed)?)
            }
        };
        Ok(Self { socket, receipts: target.receipts, buffer: Vec::with_capacity(BUFFER_BYTES) })
    }

    /// Sends a request and reads its whole answer.
    ///
    /// # Errors
    /// Anything but 200 with what was demanded.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<(), String> {
        self.say(request).await?;
        let mut end = None;
        while end.is_none_or(|end| self.buffer.len() < end) {
            self.read().await?;
            if end.is_none() {
                end = self.answer_end()?;
            }
        }
        Ok(())
    }

    /// Sends a request and reads the stream that answers it; `heard` is given each of its frames as it comes.
    ///
    /// # Errors
    /// Anything but 200, a stream that ends without `[DONE]`, or without the receipt that was demanded.
    pub(crate) async fn listen(&mut self, request: &[u8], mut heard: impl FnMut(&str)) -> Result<(), String> {
        self.say(request).await?;
        let unusable = |buffer: &[u8]| format!("error: no stream: {}", String::from_utf8_lossy(buffer));
        let head = loop {
            self.read().await?;
            if let Some(head) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break head + 4;
            }
        };
        if !self.buffer.starts_with(b"HTTP/1.1 200") {
            return Err(unusable(&self.buffer));
        }
        // A stream that was there as a whole has a length instead, and ends with its last frame.
        let chunked = self.buffer[..head].to_ascii_lowercase().windows(7).any(|window| window == b"chunked");
        self.buffer.drain(..head);
        let (mut receipt, mut done) = (false, false);
        // The pieces of HTTP's own framing stand between frames and hold neither `data: ` nor an empty line of LF alone.
        loop {
            while let Some(end) = self.buffer.windows(2).position(|window| window == b"\n\n") {
                let text = str::from_utf8(&self.buffer[..end]).map_err(|_| unusable(&self.buffer))?;
                let frame = text.rfind("data: ").map(|at| &text[at + 6..]);
                receipt |= text.contains(header::RECEIPT);
                done |= frame == Some("[DONE]");
                if let Some(frame) = frame {
                    if frame.starts_with("{\"error\"") {
                        return Err(unusable(&self.buffer));
                    }
                    heard(frame);
                }
                self.buffer.drain(..end + 2);
            }
            if done && (!chunked || self.buffer.ends_with(b"0\r\n\r\n")) {
                break;
            }
            self.read().await?;
        }
        if self.receipts == Receipts::Demanded && !receipt {
            return Err("error: a stream has no receipt".to_owned());
        }
        Ok(())
    }

    /// Sends a request and goes without its answer.
    ///
    /// # Errors
    /// Where the connection had broken before.
    pub(crate) async fn leave(mut self, request: &[u8]) -> Result<(), String> {
        self.say(request).await
    }

    async fn say(&mut self, request: &[u8]) -> Result<(), String> {
        self.buffer.clear();
        self.socket.write_all(request).await.map_err(broken)?;
        self.socket.flush().await.map_err(broken)
    }

    async fn read(&mut self) -> Result<(), String> {
        if self.socket.read_buf(&mut self.buffer).await.map_err(broken)? == 0 {
            return Err("error: the connection ended within an answer".to_owned());
        }
        if self.buffer.len() > ANSWER_BYTES_MAX {
            return Err(format!("error: an answer is larger than {ANSWER_BYTES_MAX} bytes"));
        }
        Ok(())
    }

    /// How long the answer is, once its head is there.
    fn answer_end(&self) -> Result<Option<usize>, String> {
        let Some(head) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
        let text = str::from_utf8(&self.buffer[..head]).map_err(|_| "error: a head that is no text".to_owned())?;
        let mut lines = text.split("\r\n");
        let status = lines.next().unwrap_or_default();
        let unusable = |why: &str| format!("error: {why}: {}", String::from_utf8_lossy(&self.buffer));
        if !status.starts_with("HTTP/1.1 200") {
            return Err(unusable("a request was not answered"));
        }
        let (mut length, mut receipt, mut chunked) = (None, false, false);
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            chunked |= name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked");
            if name.eq_ignore_ascii_case("content-length") {
                length = value.parse::<usize>().ok();
            }
            receipt |= name.eq_ignore_ascii_case(header::RECEIPT);
        }
        if self.receipts == Receipts::Demanded && !receipt {
            return Err(unusable("an answer has no receipt"));
        }
        if chunked {
            // Callers ask again only after an answer: what ends so is the end of this one.
            return Ok(self.buffer.ends_with(b"\r\n0\r\n\r\n").then_some(self.buffer.len()));
        }
        let length = length.ok_or_else(|| unusable("an answer does not say how long it is"))?;
        Ok(Some(head + 4 + length))
    }
}

fn broken(error: std::io::Error) -> String {
    format!("error: the connection broke: {error}")
}

/// What one caller sends, in order.
pub(crate) struct Script {
    requests: Vec<Vec<u8>>,
    next: usize,
    repeat: Repeat,
}

/// A proxy takes the same bytes again, a node does not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    Once,
    Again,
}

impl Script {
    pub(crate) fn new(requests: Vec<Vec<u8>>, repeat: Repeat) -> Self {
        Self { requests, next: 0, repeat }
    }

    /// How many were taken.
    pub(crate) fn taken(&self) -> usize {
        self.next
    }

    fn take(&mut self) -> Option<&[u8]> {
        let at = if self.repeat == Repeat::Again { self.next % self.requests.len() } else { self.next };
        let request = self.requests.get(at)?;
        self.next += 1;
        Some(request)
    }
}

/// How a round went.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    took: Duration,
    /// ms of each answer.
    ms: Vec<f64>,
}

impl Round {
    pub(crate) fn answered(&self) -> usize {
        self.ms.len()
    }

    pub(crate) fn rate(&self) -> f64 {
        self.answered() as f64 / self.took.as_secs_f64()
    }

    pub(crate) fn sorted_ms(&self) -> Vec<f64> {
        let mut sorted = self.ms.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

/// All callers at once, each asking again as soon as it was answered. The round ends after `time`, or for all when one
/// has nothing signed left.
pub(crate) async fn round(callers: &mut [Caller], scripts: &mut [Script], time: Duration) -> Result<Round, String> {
    let started = Instant::now();
    let over = Cell::new(false);
    let mut running: FuturesUnordered<_> =
        callers.iter_mut().zip(scripts).map(|(caller, script)| one(caller, script, started + time, &over)).collect();
    let mut ms = Vec::new();
    while let Some(of_one) = running.next().await {
        ms.extend(of_one?);
    }
    Ok(Round { took: started.elapsed(), ms })
}

async fn one(caller: &mut Caller, script: &mut Script, until: Instant, over: &Cell<bool>) -> Result<Vec<f64>, String> {
    let mut ms = Vec::new();
    while !over.get() && Instant::now() < until {
        let Some(request) = script.take() else {
            over.set(true);
            break;
        };
        let started = Instant::now();
        caller.ask(request).await?;
        ms.push(started.elapsed().as_secs_f64() * 1e3);
    }
    Ok(ms)
}

/// One caller: ms until the first frame of each of its streams, in ascending order.
pub(crate) async fn first_frames(caller: &mut Caller, requests: &[Vec<u8>]) -> Result<Vec<f64>, String> {
    let mut times = Vec::with_capacity(requests.len());
    for request in requests {
        let started = Instant::now();
        let mut first = None;
        caller.listen(request, |_| first = first.or_else(|| Some(started.elapsed()))).await?;
        times.push(first.ok_or("error: a stream without a frame")?.as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// One caller: ms for each of its requests, in ascending order.
pub(crate) async fn latencies(caller: &mut Caller, requests: &[Vec<u8>]) -> Result<Vec<f64>, String> {
    let mut times = Vec::with_capacity(requests.len());
    for request in requests {
        let started = Instant::now();
        caller.ask(request).await?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}
