//! `/comity/door/1`: a stream for calls, opened by a hub on the connection that a node has dialled out.
//!
//! What runs on it is none of this room's business: it hands out bytes both ways. Only admitted members are reached, and a
//! node takes streams of the roster's hubs alone. The taker's first byte says that it has taken the stream.

use futures::StreamExt as _;
use libp2p::{PeerId, StreamProtocol};
use libp2p_stream::{Control, OpenStreamError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _};

use comity_wire::NodeId;

use crate::driver::Command;

/// Bytes both ways.
pub type DoorStream = Compat<libp2p::Stream>;

/// Opens streams to nodes, or takes those of hubs.
#[derive(Clone)]
pub struct Doors {
    commands: mpsc::Sender<Command>,
    control: Control,
}

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoDoor {
    #[error("{0} is not connected")]
    NotConnected(NodeId),
    #[error("the stream could not be opened")]
    Open(#[source] OpenStreamError),
    #[error("the node did not take the stream")]
    NotTaken,
    #[error("network has shut down")]
    Closed,
}

const PROTOCOL: StreamProtocol = StreamProtocol::new("/comity/door/1");
/// The first byte of a stream that was taken.
const TAKEN: u8 = 1;
/// A node that is handed many at once may miss one.
const TRIES_MAX: u32 = 3;
/// Streams that were taken and nobody serves yet; further ones wait.
const WAITING_MAX: usize = 64;

impl Doors {
    pub(crate) fn new(commands: mpsc::Sender<Command>, control: Control) -> Self {
        Self { commands, control }
    }

    /// At a hub: a stream to a node that has dialled it. Dropping the future gives the stream up.
    ///
    /// # Errors
    /// [`NoDoor`].
    pub async fn open(&self, node: NodeId) -> Result<DoorStream, NoDoor> {
        let mut last = NoDoor::NotTaken;
        for _ in 0..TRIES_MAX {
            let (reply, answer) = oneshot::channel();
            self.commands.send(Command::Peer { node, reply }).await.map_err(|_| NoDoor::Closed)?;
            let peer = answer.await.map_err(|_| NoDoor::Closed)?.ok_or(NoDoor::NotConnected(node))?;
            match self.control.clone().open_stream(peer, PROTOCOL).await {
                Ok(stream) => {
                    let mut stream = stream.compat();
                    // The protocol is agreed on with the first write; nothing is said before it, so we say so.
                    let asked = stream.flush().await.is_ok();
                    if asked && matches!(stream.read_u8().await, Ok(TAKEN)) {
                        return Ok(stream);
                    }
                    last = NoDoor::NotTaken;
                }
                Err(error) => last = NoDoor::Open(error),
            }
        }
        Err(last)
    }

    /// At a node: the streams that hubs of the roster open, each with its hub. Ends with the receiver.
    ///
    /// # Errors
    /// [`NoDoor::Closed`] where somebody takes them already.
    pub fn accept(&self) -> Result<mpsc::Receiver<(NodeId, DoorStream)>, NoDoor> {
        let mut incoming = self.control.clone().accept(PROTOCOL).map_err(|_| NoDoor::Closed)?;
        let (send, receive) = mpsc::channel(WAITING_MAX);
        // Weak: whoever takes streams does not keep the network going.
        let commands = self.commands.downgrade();
        tokio::spawn(async move {
            while let Some((peer, stream)) = incoming.next().await {
                let (Some(commands), send) = (commands.upgrade(), send.clone()) else { return };
                if send.is_closed() {
                    return;
                }
                // Each in a task of its own: the next one must not be missed meanwhile. The hub bounds how many there are.
                tokio::spawn(async move {
                    if let Some(taken) = take(&commands, peer, stream.compat()).await {
                        let _ = send.send(taken).await;
                    }
                });
            }
        });
        Ok(receive)
    }
}

/// Default deny: whoever is not an admitted hub of the roster is hung up on.
async fn take(commands: &mpsc::Sender<Command>, peer: PeerId, mut stream: DoorStream) -> Option<(NodeId, DoorStream)> {
    let (reply, answer) = oneshot::channel();
    commands.send(Command::Hub { peer, reply }).await.ok()?;
    let Some(hub) = answer.await.ok()? else {
        tracing::warn!(%peer, "a peer that is no hub wanted to pass on calls");
        return None;
    };
    stream.write_u8(TAKEN).await.ok()?;
    stream.flush().await.ok()?;
    Some((hub, stream))
}
