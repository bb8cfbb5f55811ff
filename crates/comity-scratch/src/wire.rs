//! A wire to a server's socket that can be cut: bytes are then neither carried nor refused, as on a network that lost them.

use std::path::PathBuf;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Where a server listens.
#[derive(Clone, Debug)]
pub enum Far {
    Socket(PathBuf),
    /// Host and port.
    Tcp(String),
}

/// How bytes fare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Whole,
    /// Nothing arrives, nobody is told.
    Cut,
    /// What the server says is lost; what it is told arrives. A COMMIT happens and its answer does not come.
    Deaf,
}

/// Carries TCP connections to a server. Everything ends when it is dropped.
pub struct Wire {
    port: u16,
    state: watch::Sender<State>,
    _tasks: JoinSet<()>,
}

impl Wire {
    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// Where there is no free port.
    pub async fn to(far: Far) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let (state, seen) = watch::channel(State::Whole);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut carried = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let (near_read, near_write) = near.into_split();
                match &far {
                    Far::Socket(path) => {
                        let Ok(far) = UnixStream::connect(path).await else { continue };
                        let (far_read, far_write) = far.into_split();
                        carried.spawn(carry(near_read, far_write, seen.clone(), State::Cut));
                        carried.spawn(carry(far_read, near_write, seen.clone(), State::Deaf));
                    }
                    Far::Tcp(place) => {
                        let Ok(far) = TcpStream::connect(place).await else { continue };
                        let (far_read, far_write) = far.into_split();
                        carried.spawn(carry(near_read, far_write, seen.clone(), State::Cut));
                        carried.spawn(carry(far_read, near_write, seen.clone(), State::Deaf));
                    }
                }
            }
        });
        Self { port, state, _tasks: tasks }
    }

    pub const fn port(&self) -> u16 {
        self.port
    }

    /// From here on nothing arrives on either side.
    pub fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// From here on the server hears and is not heard.
    pub fn deafen(&self) {
        self.state.send_replace(State::Deaf);
    }

    /// New connections work again; what was lost stays lost.
    pub fn mend(&self) {
        self.state.send_replace(State::Whole);
    }
}

/// Copies until the end, or until the wire loses something: from then on this connection carries nothing any more and is not
/// closed, since a network that loses bytes tells nobody.
async fn carry(
    mut from: impl tokio::io::AsyncRead + Unpin,
    mut to: impl tokio::io::AsyncWrite + Unpin,
    state: watch::Receiver<State>,
    loses: State,
) {
    let mut buffer = vec![0; 16 << 10];
    let mut lost = false;
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let now = *state.borrow();
        lost |= now == State::Cut || now == loses;
        if !lost && to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
    if lost {
        std::future::pending::<()>().await;
    }
}
