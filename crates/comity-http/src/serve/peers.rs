//! How many connections one address has: a stranger with many does not keep everybody else out.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Connections by address. Clones count together.
#[derive(Clone, Debug)]
pub(super) struct Peers {
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
    max: usize,
}

/// One of an address's connections, until it is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    peers: Peers,
    address: IpAddr,
}

impl Peers {
    pub(super) fn new(max: usize) -> Self {
        Self { open: Arc::default(), max }
    }

    /// Counts one more; `None` where the address has as many as it may.
    pub(super) fn enter(&self, address: IpAddr) -> Option<Counted> {
        let address = network(address);
        let mut open = self.lock();
        let count = open.entry(address).or_default();
        if *count >= self.max {
            return None;
        }
        *count += 1;
        Some(Counted { peers: self.clone(), address })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self.peers.lock();
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

/// Who has one IPv6 address has the 2⁶⁴ beside it.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_and_a_network_of_ipv6_is_one() {
        let peers = Peers::new(2);
        let at = |text: &str| text.parse::<IpAddr>().unwrap();
        let first = peers.enter(at("192.0.2.1"));
        let _mapped = peers.enter(at("::ffff:192.0.2.1")).unwrap();
        assert!(first.is_some() && peers.enter(at("192.0.2.1")).is_none());
        let _other = peers.enter(at("192.0.2.2")).unwrap();
        drop(first);
        assert!(peers.enter(at("192.0.2.1")).is_some());
        let _v6 = [peers.enter(at("2001:db8::1")).unwrap(), peers.enter(at("2001:db8::2")).unwrap()];
        assert!(peers.enter(at("2001:db8::3")).is_none() && peers.enter(at("2001:db8:0:1::3")).is_some());
        drop((_mapped, _other, _v6));
        assert!(peers.lock().is_empty(), "who has none is not remembered");
    }
}
