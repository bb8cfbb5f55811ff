//! A service's listeners: the HTTPS and the QUIC door, what hubs pass on, the admin socket; and its ordered end.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use comity_http::serve::Limits;
use comity_http::{BoxDuplex, Identity, QuicServer, Server};
use comity_network::Network;
use comity_wire::NodeId;
use comity_wire::cbor::Text;
use comity_wire::object::{Door, DoorKind};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::command::{Listen, RunArguments};
use crate::failure::{Failure, While as _};
use crate::home::Role;
use crate::service::{Member, admin};

/// Open doors. They serve from [`Doors::open`] on.
pub struct Doors {
    https: Option<String>,
    quic: Option<String>,
    /// Hubs that pass calls on to this node.
    hubs: Vec<NodeId>,
    public: Option<String>,
    limits: Limits,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Hubs that are announced as ways to this node; a caller tries no more.
const RELAYS_MAX: usize = comity_http::Endpoint::RELAYS_MAX;
/// Tunnels that hubs pass on, all together.
const RELAYED_MAX: usize = 512;
/// Streams that were taken and are not served yet.
const RELAYED_WAITING_MAX: usize = 64;
/// After the drain: for the last words, and the receipts, of what was ended.
const LAST_WORDS: Duration = Duration::from_secs(15);

/// Limits of doors whose calls are ended in order after `drain`.
pub(super) fn limits(drain: Duration) -> Limits {
    let drain_ms_max = u64::try_from((drain + LAST_WORDS).as_millis()).unwrap_or(u64::MAX);
    Limits { drain_ms_max, ..Limits::default() }
}

impl Doors {
    /// `limits` are those of each door; the admin socket has the usual ones.
    ///
    /// # Errors
    /// [`Failure`] naming the address or socket.
    pub async fn open(
        member: &Member,
        arguments: &RunArguments,
        router: Router,
        admin_router: Option<Router>,
        limits: Limits,
    ) -> Result<Self, Failure> {
        let extra = arguments.public.as_deref().and_then(|public| public.split(':').next()).map(str::to_owned);
        let names: Vec<_> = extra.into_iter().collect();
        let identity = Identity::new(&member.transport, &member.home.card.node, &member.certificate, &names)?;
        let mut doors = Self {
            https: None,
            quic: None,
            hubs: Vec::new(),
            public: arguments.public.clone(),
            limits,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let role = member.home.card.role;
        if let Some(address) = arguments.listen.address() {
            doors.https(address, &identity, router.clone()).await?;
        } else if role != Role::Owner {
            return Err(Failure::new("a hub and a clearing house have to be reached by everybody")
                .hint("say where: --listen ADDRESS:PORT"));
        }
        doors.quic(arguments, &identity, router.clone())?;
        if role == Role::Owner && !arguments.no_relay {
            doors.relayed(member, arguments, &identity, router)?;
        }
        if doors.https.is_none() && doors.quic.is_none() && doors.hubs.is_empty() {
            return Err(Failure::new("this node would have no door at all")
                .hint("let it --listen, or name a --hub that passes calls on to it"));
        }
        if let Some(router) = admin_router {
            let path = member.home.file(admin::SOCKET);
            let server =
                Server::bind_unix(&path, Limits::default()).while_(format!("cannot open {}", path.display()))?;
            doors.tasks.spawn(server.run(router, doors.stop.clone()));
        }
        doors.tasks.close();
        Ok(doors)
    }

    async fn https(&mut self, address: SocketAddr, identity: &Identity, router: Router) -> Result<(), Failure> {
        let tls = identity.server_config(None)?;
        let server = Server::bind(address, tls, self.limits)
            .await
            .while_(format!("cannot listen on {address}"))
            .map_err(|failure| failure.hint("choose another port with --listen"))?;
        let url = server.url().expect("a door has an address");
        if address.ip().is_unspecified() && self.public.is_none() {
            tracing::warn!(
                announced = %url,
                "nobody else can dial this address: say --public HOST:PORT, or --listen 127.0.0.1:PORT for this machine alone"
            );
        }
        self.https = Some(url);
        self.tasks.spawn(server.run(router, self.stop.clone()));
        Ok(())
    }

    /// On the HTTPS door's port where nothing else was said: one number for a firewall. Whoever has that port by UDP keeps
    /// it, and this door takes a free one.
    fn quic(&mut self, arguments: &RunArguments, identity: &Identity, router: Router) -> Result<(), Failure> {
        let beside = self.https.as_deref().and_then(|url| url.strip_prefix("https://")?.parse::<SocketAddr>().ok());
        let (address, told) = match arguments.quic {
            Some(Listen::Nowhere) => return Ok(()),
            Some(Listen::At(address)) => (address, true),
            None => match beside {
                Some(address) => (address, false),
                None => return Ok(()),
            },
        };
        let mut bound = QuicServer::bind(address, identity, self.limits);
        if bound.is_err() && !told {
            tracing::warn!(%address, "taken by UDP: the QUIC door has another port; --quic ADDRESS chooses it");
            bound = QuicServer::bind(SocketAddr::new(address.ip(), 0), identity, self.limits);
        }
        let server = bound.map_err(|error| {
            Failure::from(error).hint("choose another address with --quic, or do without: --quic none")
        })?;
        self.quic = Some(server.url());
        self.tasks.spawn(server.run(router, self.stop.clone()));
        Ok(())
    }

    /// Serves what hubs pass on: the same router, within TLS with this node's own key.
    fn relayed(
        &mut self,
        member: &Member,
        arguments: &RunArguments,
        identity: &Identity,
        router: Router,
    ) -> Result<(), Failure> {
        self.hubs = arguments.hubs.iter().map(|hub| hub.node).take(RELAYS_MAX).collect();
        if self.hubs.is_empty() {
            return Ok(());
        }
        let mut taken = member.network.doors().accept().while_("cannot take what hubs pass on")?;
        let (send, passed) = tokio::sync::mpsc::channel::<(NodeId, BoxDuplex)>(RELAYED_WAITING_MAX);
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let pass_on = async {
                while let Some((hub, stream)) = taken.recv().await {
                    if send.send((hub, Box::new(stream))).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = pass_on => {}
                () = stop.cancelled() => {}
            }
        });
        let limits = Limits { connections_max: RELAYED_MAX, ..self.limits };
        let server = Server::of_passed(passed, identity.server_config(None)?, limits);
        self.tasks.spawn(server.run(router, self.stop.clone()));
        Ok(())
    }

    /// What the announcement says.
    pub fn announced(&self, network: &Network) -> Vec<Door> {
        let door = |kind, address: &str| Some(Door { kind, address: Text::new(address).ok()? });
        let quic = self.quic.as_deref().map(|own| public(own, self.https.as_deref(), self.public.as_deref()));
        let quic = quic.and_then(|address| door(DoorKind::Quic, &address));
        let https = self.https.as_deref().map(|own| public(own, self.https.as_deref(), self.public.as_deref()));
        let https = https.and_then(|address| door(DoorKind::Https, &address));
        let relayed = self.hubs.iter().filter_map(|hub| door(DoorKind::Relayed, &hub.to_string()));
        let libp2p = network.local_addrs().iter().filter_map(|address| door(DoorKind::Libp2p, address));
        https.into_iter().chain(quic).chain(relayed).chain(libp2p).collect()
    }

    /// Says on stdout, in one JSON line, that the service is ready, and waits until it is told to stop.
    ///
    /// # Errors
    /// [`Failure`] where signals cannot be heard.
    pub async fn told_to_stop(&self, member: &Member) -> Result<(), Failure> {
        let node = member.home.card.node;
        let libp2p = member.network.local_addrs();
        let mut ready = json!({"node": node, "libp2p": libp2p});
        for (name, url) in [("door", &self.https), ("quic", &self.quic)] {
            if let Some(url) = url {
                ready[name] = json!(url);
            }
        }
        if !self.hubs.is_empty() {
            ready["relayed"] = json!(self.hubs);
        }
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

    /// The same; what still runs after `most`, or when the process is told once more to stop, is ended by `end`.
    pub async fn close_within(self, most: Duration, end: impl FnOnce()) {
        let mut closing = std::pin::pin!(self.close());
        tokio::select! {
            biased;
            () = &mut closing => return,
            () = tokio::time::sleep(most) => {}
            _ = stopped() => {}
        }
        tracing::warn!("what still runs is ended");
        end();
        closing.await;
    }
}

/// What others dial: the public name where one was given, with its port, or, for a door that has another port than the
/// HTTPS door, with that door's own.
fn public(own: &str, https: Option<&str>, public: Option<&str>) -> String {
    let Some(public) = public else { return own.to_owned() };
    let port = |url: &str| url.rsplit_once(':').map(|(_, port)| port.to_owned());
    let (scheme, _) = own.split_once("://").unwrap_or((own, ""));
    if https.is_none() || port(own) == https.and_then(port) {
        return format!("{scheme}://{public}");
    }
    let host = public.rsplit_once(':').map_or(public, |(host, _)| host);
    format!("{scheme}://{host}:{}", port(own).unwrap_or_default())
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What systemd kills has no receipt.
    #[test]
    fn systemd_waits_longer_than_a_node_drains() {
        let unit = include_str!("../../../docs/operating/systemd/comity-node.service");
        let waits =
            unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")?.parse().ok()).map(Duration::from_secs);
        let drain = Duration::from_secs(comity_gateway::Config::default().drain_s);
        let cut = Duration::from_millis(limits(drain).drain_ms_max);
        assert!(cut > drain && waits > Some(cut + LAST_WORDS), "{waits:?} {cut:?}");
    }

    #[test]
    fn a_public_name_stands_for_both_doors_and_keeps_their_ports_apart() {
        let https = Some("https://0.0.0.0:4443");
        let said = |own, public_name| public(own, https, public_name);
        assert_eq!(said("https://0.0.0.0:4443", None), "https://0.0.0.0:4443");
        assert_eq!(said("https://0.0.0.0:4443", Some("lab.example:443")), "https://lab.example:443");
        assert_eq!(said("quic://0.0.0.0:4443", Some("lab.example:443")), "quic://lab.example:443");
        assert_eq!(said("quic://0.0.0.0:5000", Some("lab.example:443")), "quic://lab.example:5000");
        assert_eq!(public("quic://0.0.0.0:5000", None, Some("lab.example:443")), "quic://lab.example:443");
    }
}
