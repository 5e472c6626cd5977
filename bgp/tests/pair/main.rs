//! Speakers against each other on a simulated clock.

#![allow(clippy::unwrap_used)] // A test may.

mod chaos;
mod net;
mod restart;
mod routing;
mod sessions;

use std::time::Duration;

use bgp::SpeakerConfig;
use net::{Net, config, peer, prefix};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Two nodes of the given ASes that know each other.
pub(crate) fn pair_config(index: usize, own: u32, other: u32) -> SpeakerConfig {
    let mut config = config(index, own);
    config.peers.extend([peer(1 - index, other)]);
    config
}

/// Two nodes, up, each with a block of its own.
pub(crate) fn pair(seed: u64, a: u32, b: u32) -> Net {
    let mut net = Net::new(seed);
    net.add(pair_config(0, a, b), &["10.1.0.0/26"]);
    net.add(pair_config(1, b, a), &["10.2.0.0/26"]);
    net.run_until(30 * SECOND, "session", |net| net.established(0, 1));
    net.run_until(SECOND, "routes", |net| {
        net.nodes[0].feed.contains_key(&prefix("10.2.0.0/26"))
            && net.nodes[1].feed.contains_key(&prefix("10.1.0.0/26"))
    });
    net
}
