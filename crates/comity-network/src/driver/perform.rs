//! Swarm events in, outputs out.

use std::time::Instant;

use comity_registry::{Change, Input, Output, Peer, Reply, Request, Verdict};
use libp2p::gossipsub::{Event as GossipEvent, MessageAcceptance, PublishError as GossipError};
use libp2p::request_response::{Event, Message};
use libp2p::swarm::SwarmEvent;
use libp2p::{PeerId, gossipsub, ping};

use super::{Driver, JUDGING_MAX, RETRY, RETRY_MAX};
use crate::behaviour::BehaviourEvent;

impl Driver {
    pub(super) async fn swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, num_established, .. } => {
                self.dialler.connected(connection_id, peer_id);
                if num_established.get() == 1 {
                    self.greet(peer_id);
                } else {
                    self.met_again(&peer_id);
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } => self.farewell(peer_id),
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                tracing::debug!(%error, "a hub could not be reached");
                self.dialler.failed(connection_id);
            }
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                tracing::error!(?addresses, ?reason, "a listener closed");
            }
            SwarmEvent::Behaviour(BehaviourEvent::Hello(event)) => self.hello_event(event),
            SwarmEvent::Behaviour(BehaviourEvent::Ping(event)) => self.pinged(&event),
            SwarmEvent::Behaviour(BehaviourEvent::Sync(event)) => self.sync_event(event),
            SwarmEvent::Behaviour(BehaviourEvent::Gossipsub(event)) => self.gossip_event(event),
            _ => {}
        }
        self.perform().await;
    }

    /// A connection that nobody answers on is closed: the kernel would take many minutes to notice.
    fn pinged(&mut self, event: &ping::Event) {
        if let Err(failure @ (ping::Failure::Timeout | ping::Failure::Other { .. })) = &event.result {
            tracing::info!(peer = %event.peer, %failure, "no answer to ping; the connection is closed");
            self.swarm.close_connection(event.connection);
        }
    }

    /// Whatever the peer did not answer is asked for again soon, by a comparison of its own.
    fn unanswered(&mut self, number: Peer) {
        self.input(Input::Failed { peer: number });
        let Some(member) = self.members.get_mut(&number) else { return };
        let again = Instant::now() + member.retry;
        member.retry = (member.retry * 2).min(RETRY_MAX);
        member.settles = Some(member.settles.map_or(again, |at| at.min(again)));
    }

    fn sync_event(&mut self, event: Event<Vec<u8>, Vec<u8>>) {
        match event {
            Event::Message { peer, message: Message::Request { request, channel, .. }, .. } => {
                // Who was not admitted gets no answer: the dropped channel ends the stream.
                let Some(number) = self.number(&peer) else { return };
                let Ok(request) = Request::from_bytes(&request) else {
                    let _ = self.swarm.behaviour_mut().sync.send_response(channel, Reply::Refused.to_bytes());
                    return;
                };
                let ticket = self.ticket();
                self.replying.insert(ticket, channel);
                self.input(Input::Asked { peer: number, ticket, request });
            }
            Event::Message { peer, message: Message::Response { response, .. }, .. } => {
                let Some(number) = self.number(&peer) else { return };
                self.fail("sync.answered");
                match Reply::from_bytes(&response) {
                    Ok(reply) => {
                        if let Some(member) = self.members.get_mut(&number) {
                            member.retry = RETRY;
                        }
                        self.input(Input::Answered { peer: number, reply });
                    }
                    Err(error) => {
                        tracing::warn!(%peer, %error, "sync was answered with something else");
                        self.unanswered(number);
                    }
                }
            }
            Event::OutboundFailure { peer, error, .. } => {
                tracing::debug!(%peer, %error, "sync was not answered");
                if let Some(number) = self.number(&peer) {
                    self.unanswered(number);
                }
            }
            Event::InboundFailure { .. } | Event::ResponseSent { .. } => {}
        }
    }

    fn gossip_event(&mut self, event: GossipEvent) {
        match event {
            GossipEvent::Message { propagation_source, message_id, message } => {
                let Some(from) = self.number(&propagation_source) else {
                    self.report(&message_id, &propagation_source, MessageAcceptance::Ignore);
                    return;
                };
                let ticket = self.ticket();
                if self.judging.len() >= JUDGING_MAX {
                    self.judging.pop_front();
                }
                self.judging.push_back((ticket, Instant::now(), message_id, propagation_source));
                self.input(Input::Gossip { from, ticket, bytes: message.data });
            }
            GossipEvent::SlowPeer { peer_id, .. } => {
                tracing::debug!(peer = %peer_id, "peer does not keep up with gossip")
            }
            _ => {}
        }
    }

    pub(super) fn number(&self, peer: &PeerId) -> Option<Peer> {
        self.guests.get(peer)?.admitted
    }

    fn report(&mut self, message: &gossipsub::MessageId, from: &PeerId, acceptance: MessageAcceptance) {
        if let Some(gossipsub) = self.swarm.behaviour_mut().gossipsub.as_mut() {
            gossipsub.report_message_validation_result(message, from, acceptance);
        }
    }

    /// Does what the registry asks for, in its order.
    pub(super) async fn perform(&mut self) {
        while let Some(output) = self.registry.poll() {
            match output {
                Output::Ask { peer, request } => {
                    if let Some(member) = self.members.get(&peer) {
                        let to = member.peer;
                        self.fail("sync.before_ask");
                        self.swarm.behaviour_mut().sync.send_request(&to, request.to_bytes());
                    }
                }
                Output::Answer { ticket, reply } => {
                    if let Some(channel) = self.replying.remove(&ticket) {
                        let _ = self.swarm.behaviour_mut().sync.send_response(channel, reply.to_bytes());
                    }
                }
                Output::Judge { ticket, verdict } => {
                    let Some(at) = self.judging.iter().position(|(waiting, ..)| *waiting == ticket) else { continue };
                    let (_, _, message, from) = self.judging.remove(at).expect("it was just found");
                    let acceptance = match verdict {
                        Verdict::Accept => MessageAcceptance::Accept,
                        Verdict::Ignore => MessageAcceptance::Ignore,
                        Verdict::Reject => MessageAcceptance::Reject,
                    };
                    self.report(&message, &from, acceptance);
                }
                Output::Gossip { bytes } => self.say(bytes),
                Output::Store(write) => self.store.write(write).await,
                Output::Notify(change) => self.tell(change),
            }
        }
    }

    /// Publishes a head of ours; where nobody listens yet it is tried again at the next tick.
    pub(super) fn say(&mut self, bytes: Vec<u8>) {
        let topic = self.topic.clone();
        let Some(gossipsub) = self.swarm.behaviour_mut().gossipsub.as_mut() else { return };
        match gossipsub.publish(topic, bytes.clone()) {
            Ok(_) | Err(GossipError::Duplicate) => {}
            Err(GossipError::NoPeersSubscribedToTopic) => self.unsaid = Some(bytes),
            Err(error) => tracing::debug!(%error, "head could not be said; others will find it by sync"),
        }
    }

    fn tell(&mut self, change: Change) {
        match change {
            Change::Feed { org } => self.replica.refresh(&self.registry, org),
            Change::Roster { version } => {
                tracing::info!(version, "new roster");
                self.replica.roster_changed(&self.registry);
            }
            Change::Certificate { .. } => self.replica.greeted(&self.registry),
            Change::Frozen { org, epoch, seq } => {
                tracing::error!(%org, epoch, seq, "an author said two things under one number; its feed is frozen");
                self.replica.refresh(&self.registry, org);
            }
            Change::Object { digest } => {
                let manifest = self.registry.manifest(&digest);
                if let Some(manifest) = &manifest {
                    self.replica.refresh(&self.registry, manifest.org);
                }
                for reply in self.fetching.remove(&digest).into_iter().flatten() {
                    let _ = reply.send(manifest.clone());
                }
            }
            Change::Unavailable { digest } => {
                for reply in self.fetching.remove(&digest).into_iter().flatten() {
                    let _ = reply.send(None);
                }
            }
        }
    }
}
