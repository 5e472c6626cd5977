//! What is wanted from now on: configuration, routes to originate, next hops, the end.
//!
//! Each call brings the whole of what is wanted; only what differs from before is touched.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use ipnet::IpNet;

use super::peer::Peer;
use super::routing::LocalEntry;
use super::{Identity, SpeakerCore};
use crate::config::{ConfigError, LocalRoute, NextHopState, PeerConfig, Shutdown, SpeakerConfig};
use crate::wire::{CeaseSubcode, Notification};

impl SpeakerCore {
    /// Makes `config` the configuration in force. A session is touched only if what it was built on has changed;
    /// an invalid configuration changes nothing.
    pub fn configure(&mut self, config: SpeakerConfig, now: Instant) -> Result<(), ConfigError> {
        config.validate()?;
        if self.stopped {
            return Err(ConfigError::Stopped);
        }
        let old = std::mem::replace(
            &mut self.identity,
            Identity::new(&config, config.restarting && !self.convergence.is_reached()),
        );
        let renamed = old.local_as != self.identity.local_as || old.router_id != self.identity.router_id;
        let reflecting_changed = old.cluster != self.identity.cluster;
        let gone: Vec<IpAddr> = self
            .peers
            .keys()
            .filter(|address| !config.peers.contains_key(address))
            .copied()
            .collect();
        for address in gone {
            self.remove_peer(address, now);
        }
        for (address, peer) in config.peers {
            self.configure_peer(address, peer, renamed, reflecting_changed, now);
        }
        self.refresh_own_addresses();
        self.check_converged();
        Ok(())
    }

    /// Makes `routes` what we originate.
    pub fn set_routes(&mut self, routes: BTreeMap<IpNet, LocalRoute>) {
        let routes: BTreeMap<IpNet, LocalEntry> = routes
            .into_iter()
            .map(|(prefix, route)| (prefix.trunc(), LocalEntry::new(route)))
            .collect();
        let old = std::mem::replace(&mut self.local_routes, routes);
        let mut touched: BTreeSet<IpNet> = BTreeSet::new();
        touched.extend(
            old.iter()
                .filter(|(prefix, r)| self.local_routes.get(prefix) != Some(r))
                .map(|(p, _)| *p),
        );
        touched.extend(
            self.local_routes
                .keys()
                .filter(|prefix| !old.contains_key(prefix)),
        );
        touched.into_iter().for_each(|prefix| self.reconsider(prefix));
    }

    /// What is known about next hops; one that is not in the map is reachable at no cost.
    pub fn set_next_hops(&mut self, next_hops: BTreeMap<IpAddr, NextHopState>) {
        let old = std::mem::replace(&mut self.next_hops, next_hops);
        let either = old.keys().chain(self.next_hops.keys());
        let differing = either.filter(|address| old.get(address) != self.next_hops.get(address));
        let differing: BTreeSet<IpAddr> = differing.copied().collect();
        self.reconsider_through(&differing);
    }

    /// Ends every session. From here on nothing changes any more, and nothing is learned.
    pub fn shutdown(&mut self, how: Shutdown, now: Instant) {
        self.stopped = true;
        let notification = match how {
            Shutdown::Restart => None,
            Shutdown::Administrative(message) => Some(Notification::administrative_shutdown(&message)),
        };
        let addresses: Vec<IpAddr> = self.peers.keys().copied().collect();
        for address in addresses {
            self.with_peer(address, now, |peer, cx| peer.stop(notification.clone(), cx));
        }
    }

    fn configure_peer(
        &mut self,
        address: IpAddr,
        config: PeerConfig,
        renamed: bool,
        reflecting_changed: bool,
        now: Instant,
    ) {
        let Some(peer) = self.peers.get_mut(&address) else {
            self.peers.insert(address, Peer::new(address, config, now));
            self.with_peer(address, now, |peer, cx| peer.start(cx));
            return;
        };
        let reset = renamed || peer.config.needs_reset(&config);
        if !reset && !reflecting_changed && peer.config == config {
            return;
        }
        let reflection =
            reflecting_changed || peer.config.route_reflector_client != config.route_reflector_client;
        if reset {
            let notification = Notification::cease(CeaseSubcode::OtherConfigurationChange);
            self.with_peer(address, now, |peer, cx| peer.stop(Some(notification), cx));
        }
        if let Some(peer) = self.peers.get_mut(&address) {
            peer.reconfigure(config);
        }
        if reset {
            self.with_peer(address, now, |peer, cx| peer.start(cx));
        }
        self.mark_all(address);
        if reflection {
            self.reconsider_from(address);
        }
    }

    fn remove_peer(&mut self, address: IpAddr, now: Instant) {
        let notification = Notification::cease(CeaseSubcode::PeerDeconfigured);
        self.with_peer(address, now, |peer, cx| peer.stop(Some(notification), cx));
        self.flush_all(address);
        self.peers.remove(&address);
        self.ready.remove(&address);
    }
}
