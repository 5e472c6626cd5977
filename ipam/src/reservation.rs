//! Reserved addresses: what IPAM never hands out by itself, from all `IPReservation` objects together.

use std::net::IpAddr;

use datastore::types::IpReservation;
use ipnet::IpNet;

/// Every reserved network of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reservations {
    networks: Vec<IpNet>,
}

impl Reservations {
    /// Joins the networks of all reservations; one inside another is dropped.
    pub fn new(objects: &[IpReservation]) -> Self {
        let networks = objects
            .iter()
            .flat_map(|object| object.spec.reserved_cidrs.iter().map(IpNet::trunc));
        Reservations {
            networks: IpNet::aggregate(&networks.collect()),
        }
    }

    /// True where the address is reserved.
    pub fn contains(&self, address: &IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(address))
    }

    /// The reserved network that holds all of `cidr`, if there is one.
    pub fn covering(&self, cidr: &IpNet) -> Option<&IpNet> {
        self.networks.iter().find(|network| network.contains(cidr))
    }

    /// Reserved addresses inside `cidr`.
    pub fn count_in(&self, cidr: &IpNet) -> u128 {
        if self.covering(cidr).is_some() {
            return address_count(cidr);
        }
        let inside = self.networks.iter().filter(|network| cidr.contains(*network));
        inside.fold(0, |sum, network| sum.saturating_add(address_count(network)))
    }
}

/// Addresses in a network, at most `u128::MAX` (one less than `::/0` has).
pub fn address_count(cidr: &IpNet) -> u128 {
    let host_bits = u32::from(cidr.max_prefix_len() - cidr.prefix_len());
    1u128.checked_shl(host_bits).unwrap_or(u128::MAX)
}

#[cfg(test)]
mod tests {
    use datastore::types::IpReservationSpec;

    use super::*;

    fn reservations(cidrs: &[&str]) -> Reservations {
        let reserved_cidrs = cidrs.iter().map(|c| c.parse().unwrap()).collect();
        Reservations::new(&[IpReservation::new("r", IpReservationSpec { reserved_cidrs })])
    }

    #[test]
    fn holds_what_is_reserved_and_nothing_else() {
        let all = reservations(&["10.0.0.4/30", "10.0.1.0/24", "fd00::/64"]);
        assert!(all.contains(&"10.0.0.7".parse().unwrap()));
        assert!(!all.contains(&"10.0.0.8".parse().unwrap()));
        assert!(all.contains(&"fd00::1".parse().unwrap()));
        assert!(all.covering(&"10.0.1.64/26".parse().unwrap()).is_some());
        assert!(all.covering(&"10.0.0.0/26".parse().unwrap()).is_none());
    }

    #[test]
    fn two_halves_cover_the_whole() {
        let all = reservations(&["10.0.0.0/27", "10.0.0.32/27"]);
        assert!(all.covering(&"10.0.0.0/26".parse().unwrap()).is_some());
    }

    #[test]
    fn counts_an_address_once() {
        let all = reservations(&["10.0.0.0/30", "10.0.0.0/29", "10.0.0.1/32", "11.0.0.0/8"]);
        assert_eq!(all.count_in(&"10.0.0.0/26".parse().unwrap()), 8);
        assert_eq!(all.count_in(&"10.0.0.0/31".parse().unwrap()), 2);
        assert_eq!(address_count(&"::/0".parse().unwrap()), u128::MAX);
    }
}
