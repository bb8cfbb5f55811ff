//! Hello: who is let in, who is shown out.

use std::time::Instant;

use comity_registry::{Input, Peer};
use libp2p::PeerId;
use libp2p::request_response::{Event, Message, ResponseChannel};

use super::{Driver, Guest, Member, RETRY, SETTLING};
use crate::gossip;
use crate::hello::{Answer, Hello, key_of};

impl Driver {
    /// The first connection with a peer: it is shut out of gossip and asked who it is.
    pub(super) fn greet(&mut self, peer: PeerId) {
        if let Some(gossipsub) = self.swarm.behaviour_mut().gossipsub.as_mut() {
            gossip::shut_out(gossipsub, &peer);
        }
        self.guests.insert(peer, Guest { since: Instant::now(), admitted: None, refused: false, closing: false });
        let hello =
            Hello { certificate: self.identity.certificate.clone(), roster_version: self.registry.chain().version() };
        self.swarm.behaviour_mut().hello.send_request(&peer, hello.to_bytes());
    }

    /// A further connection: the peer may have begun anew, and the older one may be dead without our knowing.
    pub(super) fn met_again(&mut self, peer: &PeerId) {
        let Some(number) = self.number(peer) else { return };
        if let Some(member) = self.members.get_mut(&number) {
            member.settles = Some(Instant::now() + SETTLING);
        }
        self.input(Input::Compare { peer: number });
    }

    /// The last connection with a peer is gone.
    pub(super) fn farewell(&mut self, peer: PeerId) {
        self.dialler.left(&peer);
        if let Some(gossipsub) = self.swarm.behaviour_mut().gossipsub.as_mut() {
            gossip::forget(gossipsub, &peer);
        }
        if let Some(number) = self.guests.remove(&peer).and_then(|guest| guest.admitted) {
            self.members.remove(&number);
            self.input(Input::Left { peer: number });
            self.tell_peers();
        }
    }

    pub(super) fn hello_event(&mut self, event: Event<Vec<u8>, Vec<u8>>) {
        match event {
            Event::Message { peer, message: Message::Request { request, channel, .. }, .. } => {
                self.asked_hello(peer, &request, channel);
            }
            Event::Message { peer, message: Message::Response { response, .. }, .. } => {
                self.answered_hello(peer, &response)
            }
            Event::OutboundFailure { peer, error, .. } => tracing::debug!(%peer, %error, "hello was not answered"),
            Event::ResponseSent { peer, .. } => self.close_if_refused(peer),
            Event::InboundFailure { peer, .. } => self.close_if_refused(peer),
        }
    }

    fn asked_hello(&mut self, peer: PeerId, request: &[u8], channel: ResponseChannel<Vec<u8>>) {
        let answer = match Hello::from_bytes(request) {
            Ok(hello) => match self.judge_certificate(peer, &hello.certificate) {
                Ok(()) => self.welcome(hello.roster_version),
                Err(Turned::Lag(reason)) => {
                    // Its answer to our hello may bring the roster that knows it; until then it waits outside.
                    tracing::debug!(%peer, reason, "cannot be judged yet");
                    self.welcome(hello.roster_version)
                }
                Err(Turned::Away(reason)) => Answer::Refused { reason },
            },
            Err(malformed) => {
                self.refuse(peer);
                Answer::Refused { reason: malformed.to_string() }
            }
        };
        let _ = self.swarm.behaviour_mut().hello.send_response(channel, answer.to_bytes());
    }

    fn welcome(&self, theirs: u64) -> Answer {
        let mut room = crate::hello::REPLY_BYTES_MAX - 16 * 1024;
        let steps = self.registry.chain().after(theirs).take(32);
        let fits = |bytes: &&std::sync::Arc<[u8]>| {
            let fits = bytes.len() + 16 <= room;
            room = room.saturating_sub(bytes.len() + 16);
            fits
        };
        let rosters = steps.take_while(fits).map(|bytes| bytes.to_vec()).collect();
        Answer::Welcome { certificate: self.identity.certificate.clone(), rosters }
    }

    fn answered_hello(&mut self, peer: PeerId, response: &[u8]) {
        match Answer::from_bytes(response) {
            Ok(Answer::Welcome { certificate, rosters }) => {
                for bytes in rosters {
                    // A step that is not the next one is not needed, or not to be believed.
                    let _ = self.registry.roster_step(&bytes);
                }
                if let Err(Turned::Away(reason) | Turned::Lag(reason)) = self.judge_certificate(peer, &certificate) {
                    tracing::warn!(%peer, reason, "peer is not admitted");
                }
                self.close_if_refused(peer);
            }
            Ok(Answer::Refused { reason }) => tracing::warn!(%peer, reason, "peer does not admit us"),
            Err(error) => tracing::warn!(%peer, %error, "hello was answered with something else"),
        }
    }

    fn judge_certificate(&mut self, peer: PeerId, certificate: &[u8]) -> Result<(), Turned> {
        let Some(guest) = self.guests.get(&peer) else { return Ok(()) };
        if guest.admitted.is_some() {
            return Ok(());
        }
        let Some(key) = key_of(&peer) else {
            self.refuse(peer);
            return Err(Turned::Away("peer id is not an Ed25519 key".to_owned()));
        };
        let now = self.now();
        match self.registry.admit(now, certificate, &key) {
            Ok(certificate) => match self.dialler.expected(&peer) {
                Some(expected) if expected != certificate.node => {
                    self.refuse(peer);
                    Err(Turned::Away(format!("{expected} was dialled, {} answered", certificate.node)))
                }
                _ => {
                    self.let_in(peer, certificate.org, certificate.node);
                    Ok(())
                }
            },
            Err(refused) if refused.is_lag() => Err(Turned::Lag(refused.to_string())),
            Err(refused) => {
                self.refuse(peer);
                Err(Turned::Away(refused.to_string()))
            }
        }
    }

    fn let_in(&mut self, peer: PeerId, org: comity_wire::OrgId, node: comity_wire::NodeId) {
        let number = Peer(self.next_peer);
        self.next_peer += 1;
        if let Some(guest) = self.guests.get_mut(&peer) {
            guest.admitted = Some(number);
        }
        if let Some(gossipsub) = self.swarm.behaviour_mut().gossipsub.as_mut() {
            gossip::let_in(gossipsub, &peer);
        }
        self.dialler.admitted(&peer);
        let settles = self.config.gossip.then(|| Instant::now() + SETTLING);
        self.members.insert(number, Member { peer, org, node, settles, retry: RETRY });
        self.input(Input::Joined { peer: number, org });
        self.tell_peers();
        tracing::info!(%node, %peer, "peer admitted");
    }

    fn refuse(&mut self, peer: PeerId) {
        if let Some(guest) = self.guests.get_mut(&peer) {
            guest.refused = true;
        }
    }

    fn close_if_refused(&mut self, peer: PeerId) {
        if self.guests.get(&peer).is_some_and(|guest| guest.refused) {
            self.hang_up(peer);
        }
    }

    fn hang_up(&mut self, peer: PeerId) {
        let Some(guest) = self.guests.get_mut(&peer) else { return };
        if std::mem::replace(&mut guest.closing, true) {
            return;
        }
        if guest.admitted.is_none() {
            self.tell.turned_away.send_modify(|count| *count += 1);
        }
        let _ = self.swarm.disconnect_peer_id(peer);
    }

    /// Closes who was not admitted in time, and members whose node was revoked or whose organisation left.
    pub(super) fn close_strangers(&mut self, now: Instant) {
        let limit = self.config.hello_timeout();
        let late = |guest: &Guest| guest.admitted.is_none() && now.duration_since(guest.since) >= limit;
        let mut closing: Vec<PeerId> =
            self.guests.iter().filter(|(_, guest)| late(guest)).map(|(peer, _)| *peer).collect();
        // By its own organisation's word, whatever others say of the node.
        let gone = |member: &&Member| match self.registry.certificate(member.org, member.node) {
            None => true,
            Some(certificate) => {
                !certificate.is_valid_at((self.clock)()) || self.registry.is_revoked(member.org, member.node)
            }
        };
        closing.extend(self.members.values().filter(gone).map(|member| member.peer));
        for peer in closing {
            tracing::debug!(%peer, "peer closed: it is not, or no longer, admitted");
            self.hang_up(peer);
        }
    }

    fn tell_peers(&self) {
        self.tell.peers.send_replace(self.members.values().map(|member| member.node).collect());
    }
}

enum Turned {
    /// A newer roster could change the answer.
    Lag(String),
    Away(String),
}
