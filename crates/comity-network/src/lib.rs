//! The libp2p shell: gossip, sync and admission; drives the registry and keeps its store.
