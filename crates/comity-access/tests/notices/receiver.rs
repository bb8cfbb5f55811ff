//! A receiver of webhooks, on loopback. It verifies what it gets by its own reckoning, and answers as it is told.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use comity_access::notice::Notice;
use data_encoding::BASE64;

/// What came.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) id: String,
    pub(crate) at: u64,
    pub(crate) signatures: Vec<String>,
    pub(crate) body: Vec<u8>,
    pub(crate) path: String,
}

impl Got {
    pub(crate) fn notice(&self) -> Notice {
        Notice::read(&self.body).expect("a notice")
    }

    /// HMAC by its definition (RFC 2104) over SHA-256, so that no line of it is the sender's.
    pub(crate) fn is_signed_by(&self, secret: &[u8]) -> bool {
        assert!(secret.len() <= 64);
        let pad = |with: u8| -> Vec<u8> { (0..64).map(|n| secret.get(n).copied().unwrap_or(0) ^ with).collect() };
        let text = [self.id.as_bytes(), b".", self.at.to_string().as_bytes(), b".", &self.body].concat();
        let inner = comity_wire::Digest::of_parts(&[&pad(0x36), &text]);
        let outer = comity_wire::Digest::of_parts(&[&pad(0x5c), inner.as_bytes()]);
        self.signatures.contains(&format!("v1,{}", BASE64.encode(outer.as_bytes())))
    }
}

/// One answer; where none is left, 204.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Status(u16),
    With(u16, &'static str, String),
    /// Takes it in, and says nothing.
    Silence,
}

#[derive(Clone, Default)]
struct Shared {
    got: Arc<Mutex<Vec<Got>>>,
    script: Arc<Mutex<Vec<Answer>>>,
}

pub(crate) struct Receiver {
    pub(crate) origin: String,
    shared: Shared,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    pub(crate) async fn start(script: &[Answer]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let shared = Shared { script: Arc::new(Mutex::new(script.to_vec())), ..Shared::default() };
        let app = router(shared.clone());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { origin, shared, task }
    }

    /// Behind TLS, under a certificate that was made for `127.0.0.1`; also the certificate in PEM.
    pub(crate) async fn start_tls() -> (Self, String) {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
        let pem = made.cert.pem();
        let config = server_config(made.cert.der().clone(), made.signing_key.serialize_der());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("https://{}", listener.local_addr().unwrap());
        let shared = Shared::default();
        let app = router(shared.clone());
        let task = tokio::spawn(async move { axum::serve(Encrypted { listener, config }, app).await.unwrap() });
        (Self { origin, shared, task }, pem)
    }

    pub(crate) fn got(&self) -> Vec<Got> {
        self.shared.got.lock().unwrap().clone()
    }
}

fn router(shared: Shared) -> Router {
    Router::new().fallback(take).with_state(shared)
}

async fn take(State(shared): State<Shared>, uri: axum::http::Uri, headers: HeaderMap, body: Bytes) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    assert_eq!(header("content-type"), "application/json");
    assert!(header("user-agent").starts_with("comity/"));
    shared.got.lock().unwrap().push(Got {
        id: header("webhook-id"),
        at: header("webhook-timestamp").parse().unwrap(),
        signatures: header("webhook-signature").split(' ').map(str::to_owned).collect(),
        body: body.to_vec(),
        path: uri.to_string(),
    });
    let answer = {
        let mut script = shared.script.lock().unwrap();
        if script.is_empty() { Answer::Status(204) } else { script.remove(0) }
    };
    match answer {
        Answer::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Answer::With(status, name, value) => (StatusCode::from_u16(status).unwrap(), [(name, value)]).into_response(),
        Answer::Silence => std::future::pending().await,
    }
}

/// A TLS configuration of a server.
pub(crate) fn server_config(
    certificate: tokio_rustls::rustls::pki_types::CertificateDer<'static>,
    key: Vec<u8>,
) -> Arc<tokio_rustls::rustls::ServerConfig> {
    use tokio_rustls::rustls::ServerConfig;
    let key = tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer::from(key).into();
    let builder = ServerConfig::builder_with_provider(comity_http::tls::provider());
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    Arc::new(builder.with_single_cert(vec![certificate], key).unwrap())
}

struct Encrypted {
    listener: tokio::net::TcpListener,
    config: Arc<tokio_rustls::rustls::ServerConfig>,
}

impl axum::serve::Listener for Encrypted {
    type Addr = std::net::SocketAddr;
    type Io = tokio_rustls::server::TlsStream<tokio::net::TcpStream>;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.listener.accept().await.unwrap();
            if let Ok(stream) = tokio_rustls::TlsAcceptor::from(Arc::clone(&self.config)).accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// 32 bytes that read well.
pub(crate) fn secret(letter: u8) -> (Vec<u8>, String) {
    let bytes = vec![letter; 32];
    let text = format!("whsec_{}", BASE64.encode(&bytes));
    (bytes, text)
}
