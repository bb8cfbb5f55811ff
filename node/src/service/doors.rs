//! A service's listeners: the HTTPS door, the admin socket; and its ordered end.

use axum::Router;
use comity_http::serve::Limits;
use comity_http::{Identity, Server};
use comity_network::Network;
use comity_wire::cbor::Text;
use comity_wire::object::{Door, DoorKind};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::command::RunArguments;
use crate::failure::{Failure, While as _};
use crate::home::Role;
use crate::service::{Member, admin};

/// Open doors. They serve from [`Doors::open`] on.
pub struct Doors {
    url: String,
    public: Option<String>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Doors {
    /// # Errors
    /// [`Failure`] naming the address or socket.
    pub async fn open(
        member: &Member,
        arguments: &RunArguments,
        router: Router,
        admin_router: Option<Router>,
    ) -> Result<Self, Failure> {
        let extra = arguments.public.as_deref().and_then(|public| public.split(':').next()).map(str::to_owned);
        let names: Vec<_> = extra.into_iter().collect();
        let identity = Identity::new(&member.transport, &member.home.card.node, &member.certificate, &names)?;
        let tls = identity.server_config(None)?;
        let server = Server::bind(arguments.listen, tls, Limits::default())
            .await
            .while_(format!("cannot listen on {}", arguments.listen))
            .map_err(|failure| failure.hint("choose another port with --listen"))?;
        let url = server.url().expect("a door has an address");
        if arguments.listen.ip().is_unspecified() && arguments.public.is_none() {
            tracing::warn!(
                announced = %url,
                "nobody else can dial this address: say --public HOST:PORT, or --listen 127.0.0.1:PORT for this machine alone"
            );
        }
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(server.run(router, stop.clone()));
        if let Some(router) = admin_router {
            let path = member.home.file(admin::SOCKET);
            let server =
                Server::bind_unix(&path, Limits::default()).while_(format!("cannot open {}", path.display()))?;
            tasks.spawn(server.run(router, stop.clone()));
        }
        tasks.close();
        Ok(Self { url, public: arguments.public.clone(), stop, tasks })
    }

    /// What the announcement says.
    pub fn announced(&self, network: &Network) -> Vec<Door> {
        let https = self.public.as_ref().map_or_else(|| self.url.clone(), |public| format!("https://{public}"));
        let door = |kind, address: &str| Some(Door { kind, address: Text::new(address).ok()? });
        let libp2p = network.local_addrs().iter().filter_map(|address| door(DoorKind::Libp2p, address));
        door(DoorKind::Https, &https).into_iter().chain(libp2p).collect()
    }

    /// Says on stdout, in one JSON line, that the service is ready, and waits until it is told to stop.
    ///
    /// # Errors
    /// [`Failure`] where signals cannot be heard.
    pub async fn told_to_stop(&self, member: &Member) -> Result<(), Failure> {
        let node = member.home.card.node;
        let libp2p = member.network.local_addrs();
        let mut ready = json!({"node": node, "door": self.url, "libp2p": libp2p});
        if member.home.card.role == Role::Hub {
            // What others say after `--hub`.
            let hubs: Vec<_> = libp2p.iter().map(|address| format!("{address}@{node}")).collect();
            ready["hub"] = json!(hubs);
        }
        comity_cli::say(&ready.to_string());
        tokio::select! {
            stopped = stopped() => stopped,
            // Better down and started again than up and deaf.
            () = member.network.ended() => {
                Err(Failure::new("the network's task has ended by itself").hint("its log says why; start it again"))
            }
        }
    }

    /// Takes no more connections and lets running requests finish.
    pub async fn close(self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }

    /// [`Doors::told_to_stop`], then [`Doors::close`], then the network's end.
    ///
    /// # Errors
    /// As [`Doors::told_to_stop`].
    pub async fn until_stopped(self, member: Member) -> Result<(), Failure> {
        let why = self.told_to_stop(&member).await;
        self.close().await;
        member.network.shutdown().await;
        why
    }
}

/// Waits for SIGTERM or Ctrl-C.
pub(crate) async fn stopped() -> Result<(), Failure> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await?;
    Ok(())
}
