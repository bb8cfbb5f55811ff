//! The three ways to an owner's node, for stories that are told through each.

use comity_wire::object::DoorKind;

/// What a node is started with so that it has this door and no other.
///
/// # Panics
/// For a kind that is no way for callers.
pub fn alone(kind: DoorKind) -> &'static [&'static str] {
    match kind {
        DoorKind::Https => &["--listen", "127.0.0.1:0", "--quic", "none", "--no-relay"],
        DoorKind::Quic => &["--listen", "none", "--quic", "127.0.0.1:0", "--no-relay"],
        DoorKind::Relayed => &["--listen", "none"],
        DoorKind::Libp2p => panic!("callers do not speak libp2p"),
    }
}

/// `through_each_door!(story)`: the tests `https`, `quic` and `relayed`, each of which awaits `story(kind)`.
#[macro_export]
macro_rules! through_each_door {
    ($story:ident) => {
        mod through {
            use comity_wire::object::DoorKind;

            #[tokio::test(flavor = "multi_thread")]
            async fn https() {
                super::$story(DoorKind::Https).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn quic() {
                super::$story(DoorKind::Quic).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_hub() {
                super::$story(DoorKind::Relayed).await;
            }
        }
    };
}
