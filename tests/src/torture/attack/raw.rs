//! A caller on a connection of its own, with a hand on every byte and on how it ends.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use comity_http::TrustedKeys;
use comity_http::tls::SERVER_NAME;
use comity_wire::PublicKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

use super::server::WORD;

/// How a connection is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bye {
    Fin,
    Reset,
}

/// One connection that speaks HTTP/1.1.
pub(super) struct Line {
    stream: TlsStream<TcpStream>,
    seen: Vec<u8>,
}

impl Line {
    /// Over HTTPS under one of these keys; `receive` is the most that the system keeps of what was not read yet.
    ///
    /// # Errors
    /// Where there is no connection.
    pub(super) async fn dial(address: SocketAddr, keys: &[PublicKey], receive: Option<u32>) -> std::io::Result<Self> {
        let trusted = TrustedKeys::Exactly(keys.iter().map(|key| *key.as_bytes()).collect());
        let mut config = Arc::unwrap_or_clone(trusted.client_config());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = receive {
            socket.set_recv_buffer_size(bytes)?;
        }
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(SERVER_NAME).expect("it is a host name");
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        Ok(Self { stream, seen: Vec::new() })
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Reads up to `most` bytes. `false`: the other side has ended.
    pub(super) async fn read(&mut self, most: usize) -> bool {
        let mut buffer = vec![0; most];
        match self.stream.read(&mut buffer).await {
            Ok(count @ 1..) => {
                self.seen.extend_from_slice(&buffer[..count]);
                true
            }
            Ok(_) | Err(_) => false,
        }
    }

    /// Reads until it is so, or until the other side ends.
    pub(super) async fn read_until(&mut self, so: impl Fn(&Self) -> bool) {
        while !so(self) && self.read(16 << 10).await {}
    }

    pub(super) fn bye(self, bye: Bye) {
        if bye == Bye::Reset {
            // Where it fails, this is a FIN: it is left all the same.
            let _ = self.stream.get_ref().0.set_zero_linger();
        }
    }

    pub(super) fn has_head(&self) -> bool {
        self.text().contains("\r\n\r\n")
    }

    pub(super) fn status(&self) -> u16 {
        self.text().get(9..12).and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }

    /// Words of the model that have come.
    pub(super) fn words(&self) -> u64 {
        let needle = format!("\"content\":\"{WORD}");
        self.text().matches(needle.as_str()).count() as u64
    }

    /// Whether a stream has come to its `[DONE]`, or an answer in one piece is there whole.
    pub(super) fn is_done(&self) -> bool {
        let text = self.text();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
        match header(head, "content-length").and_then(|length| length.parse::<usize>().ok()) {
            Some(length) => body.len() >= length,
            None => body.contains("data: [DONE]"),
        }
    }

    pub(super) fn receipt(&self) -> Option<Vec<u8>> {
        let text = self.text();
        let (head, body) = text.split_once("\r\n\r\n")?;
        if let Some(receipt) = header(head, "comity-receipt") {
            return STANDARD.decode(receipt.trim_matches(':')).ok();
        }
        let (_, rest) = body.split_once(": comity-receipt ")?;
        URL_SAFE_NO_PAD.decode(rest.split_once('\n')?.0.trim()).ok()
    }

    pub(super) fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.seen)
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.split("\r\n").filter_map(|line| line.split_once(':'));
    lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
}
