//! gossipsub as this federation needs it: heads only, signed, judged by us before they go on.
//!
//! Scores say who was admitted: until then a peer stands far below every threshold, so that it is neither sent nor
//! heard anything (`blacklist_peer` alone stops hearing only).

use std::collections::HashSet;
use std::time::Duration;

use comity_wire::{Digest, RosterId};
use libp2p::PeerId;
use libp2p::gossipsub::{
    Behaviour, Config, ConfigBuilder, IdentTopic, IdentityTransform, Message, MessageAuthenticity, MessageId,
    PeerScoreParams, PeerScoreThresholds, TopicScoreParams, ValidationMode, WhitelistSubscriptionFilter,
};
use libp2p::identity::Keypair;

use crate::config::Role;

pub(crate) type Gossipsub = Behaviour<IdentityTransform, WhitelistSubscriptionFilter>;

/// The score of a peer that was not admitted: below the graylist.
const STRANGER: f64 = -1_000.0;

pub(crate) fn topic(federation: RosterId) -> IdentTopic {
    IdentTopic::new(format!("comity/{federation}/heads/1"))
}

pub(crate) fn behaviour(key: Keypair, role: Role, topic: &IdentTopic) -> Result<Gossipsub, String> {
    let filter = WhitelistSubscriptionFilter(HashSet::from([topic.hash()]));
    let config = config(role).map_err(|error| error.to_string())?;
    let mut behaviour = Behaviour::new_with_subscription_filter(MessageAuthenticity::Signed(key), config, filter)?;
    let params = PeerScoreParams {
        app_specific_weight: 1.0,
        // Identities are certified; twenty nodes behind one campus address are no attack.
        ip_colocation_factor_weight: 0.0,
        topics: [(topic.hash(), topic_score())].into(),
        ..PeerScoreParams::default()
    };
    let thresholds = PeerScoreThresholds {
        gossip_threshold: -100.0,
        publish_threshold: -200.0,
        graylist_threshold: -400.0,
        ..PeerScoreThresholds::default()
    };
    behaviour.with_peer_score(params, thresholds)?;
    behaviour.subscribe(topic).map_err(|error| error.to_string())?;
    Ok(behaviour)
}

/// A quiet topic: delivery deficits must not count, or silence would be misbehaviour.
fn topic_score() -> TopicScoreParams {
    TopicScoreParams {
        time_in_mesh_quantum: Duration::from_secs(60),
        time_in_mesh_cap: 10.0,
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        invalid_message_deliveries_weight: -10.0,
        ..TopicScoreParams::default()
    }
}

fn config(role: Role) -> Result<Config, libp2p::gossipsub::ConfigBuilderError> {
    let mut builder = ConfigBuilder::default();
    builder
        .heartbeat_initial_delay(Duration::from_millis(500))
        .heartbeat_interval(Duration::from_secs(1))
        .validation_mode(ValidationMode::Strict)
        .validate_messages()
        .message_id_fn(message_id)
        // The largest message is 1 KiB; gossipsub checks whole read buffers against this.
        .max_transmit_size(256 * 1024)
        .max_control_message_size(128 * 1024)
        .max_control_messages_sent(5_000)
        .duplicate_cache_time(Duration::from_secs(600))
        .history_length(12)
        .history_gossip(6)
        .connection_handler_queue_len(256)
        .flood_publish(true);
    match role {
        Role::Node => builder.mesh_n(6).mesh_n_low(4).mesh_n_high(12).mesh_outbound_min(2),
        Role::Hub => builder.mesh_n(24).mesh_n_low(12).mesh_n_high(64).mesh_outbound_min(2).gossip_factor(1.0),
    };
    builder.build()
}

/// 20 bytes of the content's hash, so that a head has one name whoever sends it.
fn message_id(message: &Message) -> MessageId {
    let digest = Digest::of_parts(&[b"comity-gossip-v1\0", message.topic.as_str().as_bytes(), b"\0", &message.data]);
    MessageId::new(&digest.as_bytes()[..20])
}

/// A peer that has yet to say hello.
pub(crate) fn shut_out(gossipsub: &mut Gossipsub, peer: &PeerId) {
    gossipsub.blacklist_peer(peer);
    gossipsub.set_application_score(peer, STRANGER);
}

pub(crate) fn let_in(gossipsub: &mut Gossipsub, peer: &PeerId) {
    gossipsub.remove_blacklisted_peer(peer);
    gossipsub.set_application_score(peer, 0.0);
}

/// Forgets a peer that left: it will be shut out anew when it comes back.
pub(crate) fn forget(gossipsub: &mut Gossipsub, peer: &PeerId) {
    gossipsub.remove_blacklisted_peer(peer);
}
