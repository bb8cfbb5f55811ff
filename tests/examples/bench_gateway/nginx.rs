//! nginx as a plain HTTPS reverse proxy in front of the scripted upstream: a process of its own, in a folder of its own.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use comity_http::tls::Identity;
use comity_node::shell;
use comity_wire::{NodeId, PublicKey, SecretKey};

use crate::callers::{Receipts, Target};

/// A running nginx. Dropping it ends it.
pub(crate) struct Nginx {
    address: SocketAddr,
    /// Of its certificate, which is made as a node's is: both sides shake hands over Ed25519.
    key: PublicKey,
    /// `nginx 1.22.1`.
    pub(crate) version: String,
    child: Child,
    _folder: tempfile::TempDir,
}

const READY_TIMEOUT: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

impl Nginx {
    /// # Errors
    /// Where nginx is not installed or does not come up.
    pub(crate) fn start(upstream: SocketAddr) -> Result<Self, String> {
        let program = program().ok_or("error: nginx is not installed\nhint: apt-get install nginx-light")?;
        let version = version(&program)?;
        let folder = tempfile::Builder::new().prefix("comity-bench-nginx-").tempdir().map_err(failed("a folder"))?;
        let secret = SecretKey::from_seed(shell::random());
        // It takes no port 0, so one is asked for here and given back; whoever takes it meanwhile makes nginx fail, not lie.
        let listener = TcpListener::bind("127.0.0.1:0").map_err(failed("a free port"))?;
        let address = listener.local_addr().map_err(failed("a bound address"))?;
        drop(listener);
        write(folder.path(), &secret, address, upstream)?;
        let child = Command::new(program)
            .arg("-p")
            .arg(folder.path())
            .arg("-c")
            .arg(folder.path().join("nginx.conf"))
            .arg("-e")
            .arg(folder.path().join("error.log"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(failed("nginx"))?;
        let mut nginx = Self { address, key: secret.public(), version, child, _folder: folder };
        nginx.until_ready()?;
        Ok(nginx)
    }

    /// As callers know it: HTTPS, and no receipts.
    pub(crate) fn door(&self) -> Target {
        Target::door(self.address, &[self.key], Receipts::NotGiven)
    }

    /// Of the master; its workers are its children.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    fn until_ready(&mut self) -> Result<(), String> {
        let until = Instant::now() + READY_TIMEOUT;
        while std::net::TcpStream::connect(self.address).is_err() {
            if let Some(status) = self.child.try_wait().map_err(failed("nginx"))? {
                return Err(format!("error: nginx ended with {status} before it listened"));
            }
            if Instant::now() > until {
                return Err(format!("error: nginx does not listen on {} after {READY_TIMEOUT:?}", self.address));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Asked, not killed: a master that is killed leaves its workers behind.
        let asked = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        if asked.is_ok_and(|status| status.success()) {
            let _ = self.child.wait();
        }
    }
}

fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps it out of an ordinary user's path.
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join("nginx")).find(|file| file.is_file())
}

/// `nginx version: nginx/1.22.1` on stderr → `nginx 1.22.1`.
fn version(program: &Path) -> Result<String, String> {
    let output = Command::new(program).arg("-v").output().map_err(failed("nginx -v"))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let version = text.trim().rsplit('/').next().filter(|version| !version.is_empty());
    version.map(|version| format!("nginx {version}")).ok_or_else(|| format!("error: nginx -v says {text:?}"))
}

fn write(folder: &Path, secret: &SecretKey, address: SocketAddr, upstream: SocketAddr) -> Result<(), String> {
    let identity = Identity::new(secret, &NodeId::from_bytes(shell::random()), &[], &[]);
    let identity = identity.map_err(|error| format!("error: no certificate for nginx: {error}"))?;
    // RFC 8410, as comity-http writes it: version 0, Ed25519, the seed in an octet string.
    let prefix = [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    let key = [&prefix[..], &secret.seed()[..]].concat();
    for (name, content) in [
        ("certificate.pem", pem("CERTIFICATE", identity.certificate_der())),
        ("key.pem", pem("PRIVATE KEY", &key)),
        ("nginx.conf", configuration(address, upstream)),
    ] {
        std::fs::write(folder.join(name), content).map_err(failed(name))?;
    }
    Ok(())
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

/// As one would run it: a worker for each core, connections kept on both sides for the whole run, nothing logged.
fn configuration(address: SocketAddr, upstream: SocketAddr) -> String {
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    format!(
        "daemon off;
pid nginx.pid;
error_log error.log error;
worker_processes {workers};
events {{ worker_connections 16384; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    keepalive_timeout 3600s;
    keepalive_requests 1000000000;
    upstream model {{
        server {upstream};
        keepalive 64;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {address} ssl;
        ssl_certificate certificate.pem;
        ssl_certificate_key key.pem;
        ssl_protocols TLSv1.3;
        location / {{
            proxy_pass http://model;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
        }}
    }}
}}
"
    )
}

fn failed<E: std::fmt::Display>(what: &str) -> impl Fn(E) -> String {
    let what = what.to_owned();
    move |error| format!("error: {what}: {error}")
}
