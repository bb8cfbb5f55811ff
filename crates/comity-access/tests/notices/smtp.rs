//! A mail server on loopback: enough of RFC 5321, STARTTLS (RFC 3207) and AUTH PLAIN (RFC 4954) to keep what it is given.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use data_encoding::BASE64;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use crate::receiver::server_config;

/// How a server takes connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Plain,
    /// TLS from the first byte.
    Implicit,
    /// TLS after STARTTLS.
    Starttls,
}

/// What is said to a command in place of yes.
#[derive(Clone, Debug)]
pub(crate) enum Say {
    This(&'static str),
    /// Nothing, for ever.
    Nothing,
    /// The connection is closed.
    Close,
}

/// A mail that was taken.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) is_encrypted: bool,
    /// Who logged in, and with what.
    pub(crate) login: Option<(String, String)>,
    pub(crate) hello: String,
}

impl Got {
    /// Headers by lower-case name, unfolded; each once.
    pub(crate) fn headers(&self) -> BTreeMap<String, String> {
        let text = String::from_utf8(self.bytes.clone()).expect("a mail of ours is ASCII");
        let head = text.split("\r\n\r\n").next().unwrap().replace("\r\n ", " ").replace("\r\n\t", " ");
        let mut headers = BTreeMap::new();
        for line in head.split("\r\n") {
            let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("{line:?}"));
            let before = headers.insert(name.to_ascii_lowercase(), value.to_owned());
            assert_eq!(before, None, "{name} stands twice");
        }
        headers
    }

    /// What a person reads.
    pub(crate) fn text(&self) -> String {
        let text = String::from_utf8(self.bytes.clone()).unwrap();
        let body = text.split_once("\r\n\r\n").unwrap().1;
        let bytes = match self.headers()["content-transfer-encoding"].as_str() {
            "7bit" => body.as_bytes().to_vec(),
            "quoted-printable" => unquoted(body),
            "base64" => BASE64.decode(body.replace("\r\n", "").as_bytes()).unwrap(),
            other => panic!("{other}"),
        };
        String::from_utf8(bytes).unwrap().replace("\r\n", "\n")
    }
}

fn unquoted(text: &str) -> Vec<u8> {
    let text = text.replace("=\r\n", "");
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'=' {
            bytes.push(u8::from_str_radix(std::str::from_utf8(&tail[..2]).unwrap(), 16).unwrap());
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    bytes
}

#[derive(Default)]
struct Shared {
    got: Mutex<Vec<Got>>,
    /// Command and what is said to it, once each.
    script: Mutex<Vec<(&'static str, Say)>>,
    /// Every line that came in the clear.
    clear: Mutex<Vec<String>>,
}

pub(crate) struct Server {
    pub(crate) port: u16,
    /// Its certificate, in PEM.
    pub(crate) pem: String,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Server {
    pub(crate) async fn start(wire: Wire, script: &[(&'static str, Say)]) -> Self {
        Self::of(wire, script, "127.0.0.1").await
    }

    /// With a certificate for a name.
    pub(crate) async fn of(wire: Wire, script: &[(&'static str, Say)], name: &str) -> Self {
        let made = rcgen::generate_simple_self_signed(vec![name.into()]).unwrap();
        let config = server_config(made.cert.der().clone(), made.signing_key.serialize_der());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared { script: Mutex::new(script.to_vec()), ..Shared::default() });
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (shared, config) = (Arc::clone(&serving), Arc::clone(&config));
                tokio::spawn(async move {
                    let _ = converse(Box::new(stream), wire, config, &shared).await;
                });
            }
        });
        Self { port, pem: made.cert.pem(), shared, task }
    }

    pub(crate) fn got(&self) -> Vec<Got> {
        self.shared.got.lock().unwrap().clone()
    }

    /// What a listener on the wire would have read.
    pub(crate) fn clear(&self) -> String {
        self.shared.clear.lock().unwrap().join("\n")
    }
}

/// One connection; ends where the other side does.
async fn converse(
    mut stream: Box<dyn Stream>,
    wire: Wire,
    config: Arc<ServerConfig>,
    shared: &Shared,
) -> std::io::Result<()> {
    let acceptor = TlsAcceptor::from(config);
    let mut is_encrypted = wire == Wire::Implicit;
    if is_encrypted {
        stream = Box::new(acceptor.accept(stream).await?);
    }
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 mail.test ESMTP\r\n").await?;
    let (mut from, mut to, mut login, mut hello) = (String::new(), Vec::new(), None, String::new());
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let line = line.strip_suffix("\r\n").expect("a line ends in CRLF").to_owned();
        if !is_encrypted {
            shared.clear.lock().unwrap().push(line.clone());
        }
        let verb = line.split([' ', ':']).next().unwrap().to_ascii_uppercase();
        let mut said = said_to(shared, &verb);
        let mut reply = match verb.as_str() {
            "EHLO" => {
                line.split_once(' ').unwrap().1.clone_into(&mut hello);
                let more = match (wire, is_encrypted) {
                    (Wire::Starttls, false) => "250 STARTTLS",
                    _ => "250 AUTH PLAIN LOGIN",
                };
                format!("250-mail.test\r\n250-SIZE 100000\r\n{more}")
            }
            "STARTTLS" if wire == Wire::Starttls && !is_encrypted && said.is_none() => {
                stream.write_all(b"220 go on\r\n").await?;
                stream = BufReader::new(Box::new(acceptor.accept(stream.into_inner()).await?));
                is_encrypted = true;
                continue;
            }
            "AUTH" => {
                let text = BASE64.decode(line.rsplit(' ').next().unwrap().as_bytes()).unwrap();
                let parts: Vec<String> = text.split(|b| *b == 0).map(|p| String::from_utf8_lossy(p).into()).collect();
                login = Some((parts[1].clone(), parts[2].clone()));
                "235 welcome".into()
            }
            "MAIL" => {
                from = between(&line);
                to.clear();
                "250 ok".into()
            }
            "RCPT" => {
                to.push(between(&line));
                "250 ok".into()
            }
            "DATA" if said.is_none() => {
                stream.write_all(b"354 go on\r\n").await?;
                let bytes = data(&mut stream).await?;
                said = said_to(shared, ".");
                let is_taken = match &said {
                    None | Some(Say::Close) => true,
                    Some(Say::This(reply)) => reply.starts_with('2'),
                    Some(Say::Nothing) => false,
                };
                if is_taken {
                    let (from, to, login, hello) = (from.clone(), to.clone(), login.clone(), hello.clone());
                    shared.got.lock().unwrap().push(Got { from, to, bytes, is_encrypted, login, hello });
                }
                "250 kept".into()
            }
            "QUIT" => {
                stream.write_all(b"221 bye\r\n").await?;
                return Ok(());
            }
            "RSET" | "NOOP" => "250 ok".into(),
            _ => "500 what?".into(),
        };
        match said {
            None => {}
            Some(Say::This(text)) => text.clone_into(&mut reply),
            Some(Say::Nothing) => std::future::pending().await,
            Some(Say::Close) => return Ok(()),
        }
        stream.write_all(format!("{reply}\r\n").as_bytes()).await?;
    }
}

fn said_to(shared: &Shared, verb: &str) -> Option<Say> {
    let mut script = shared.script.lock().unwrap();
    let at = script.iter().position(|(of, _)| *of == verb)?;
    Some(script.remove(at).1)
}

fn between(line: &str) -> String {
    line.split_once('<').unwrap().1.split_once('>').unwrap().0.to_owned()
}

/// A mail, up to the line with one full stop.
async fn data(stream: &mut BufReader<Box<dyn Stream>>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let mut line = Vec::new();
        stream.read_until(b'\n', &mut line).await?;
        assert!(line.len() <= 1_000 && line.ends_with(b"\r\n"), "{}", String::from_utf8_lossy(&line));
        if line == b".\r\n" {
            return Ok(bytes);
        }
        bytes.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
    }
}
