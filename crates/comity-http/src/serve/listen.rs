//! What connections come from: TCP, a Unix socket that only its owner may open, streams that a hub passes on.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use comity_wire::NodeId;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc;

use crate::relay::BoxDuplex;

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("cannot listen on {address}")]
    Tcp { address: SocketAddr, source: io::Error },
    #[error("cannot listen on {address} by UDP")]
    Udp { address: SocketAddr, source: io::Error },
    #[error("{address} is not loopback: plain HTTP is served on loopback only, give the listener a certificate")]
    NotLoopback { address: SocketAddr },
    #[error("cannot listen on the socket {path}")]
    Unix { path: PathBuf, source: io::Error },
    #[error("another process listens on the socket {path}")]
    InUse { path: PathBuf },
}

/// Streams that hubs pass on, each with its hub.
pub type Passed = mpsc::Receiver<(NodeId, BoxDuplex)>;

pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
    Passed(Passed),
}

pub(super) enum Socket {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
    Passed(BoxDuplex, NodeId),
}

/// Removes the socket's file when its listener is gone.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    pub(super) async fn tcp(address: SocketAddr) -> Result<Self, BindError> {
        let listener = TcpListener::bind(address).await;
        listener.map(Self::Tcp).map_err(|source| BindError::Tcp { address, source })
    }

    pub(super) fn unix(path: &Path) -> Result<Self, BindError> {
        let fail = |source| BindError::Unix { path: path.to_owned(), source };
        let is_socket = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
        if is_socket {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(BindError::InUse { path: path.to_owned() });
            }
            std::fs::remove_file(path).map_err(fail)?;
        }
        // Bound under another name, closed to others, and only then put in its place: there is no moment in which
        // somebody else may open it.
        let hidden = path.with_extension(format!("{}.new", std::process::id()));
        let _ = std::fs::remove_file(&hidden);
        let listener = UnixListener::bind(&hidden).map_err(fail)?;
        let placed = std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o600))
            .and_then(|()| std::fs::hard_link(&hidden, path));
        let _ = std::fs::remove_file(&hidden);
        placed.map_err(fail)?;
        Ok(Self::Unix(listener, SocketFile(path.to_owned())))
    }

    pub(super) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(..) | Self::Passed(_) => None,
        }
    }

    pub(super) async fn accept(&mut self) -> io::Result<Socket> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, peer)| Socket::Tcp(stream, peer)),
            Self::Unix(listener, _) => listener.accept().await.map(|(stream, _)| Socket::Unix(stream)),
            Self::Passed(streams) => match streams.recv().await {
                Some((hub, stream)) => Ok(Socket::Passed(stream, hub)),
                // Nothing will come any more; those that run may finish, and the service is told to stop.
                None => std::future::pending().await,
            },
        }
    }

    /// Stops listening; the file goes with the drain's end.
    pub(super) fn close(self) -> Option<SocketFile> {
        match self {
            Self::Tcp(_) | Self::Passed(_) => None,
            Self::Unix(_, file) => Some(file),
        }
    }
}
