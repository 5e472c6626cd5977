//! The kinds there are, and the names people call them by.

use crate::{
    KindInfo, Resource,
    types::{
        BgpConfiguration, BgpFilter, BgpPeer, BlockAffinity, EndpointSlice, IpPool, IpReservation, IpamBlock,
        IpamConfig, IpamHandle, Namespace, Node, Pod, Secret, Service,
    },
};

/// Every kind, with the short names `kubectl` and `calicoctl` have for it.
static KINDS: [(KindInfo, &[&str]); 15] = [
    (Node::KIND, &["no"]),
    (IpPool::KIND, &["ipp"]),
    (IpReservation::KIND, &["ipres"]),
    (IpamConfig::KIND, &["ipamconfiguration", "ipamconfigurations"]),
    (IpamBlock::KIND, &["block", "blocks"]),
    (BlockAffinity::KIND, &["affinity", "affinities"]),
    (IpamHandle::KIND, &["handle", "handles"]),
    (BgpConfiguration::KIND, &["bgpconfig", "bgpconfigs"]),
    (BgpPeer::KIND, &["bgpp"]),
    (BgpFilter::KIND, &["bgpf"]),
    (Pod::KIND, &["po"]),
    (Namespace::KIND, &["ns"]),
    (Service::KIND, &["svc"]),
    (EndpointSlice::KIND, &["eps"]),
    (Secret::KIND, &[]),
];

/// Every kind there is.
pub fn kinds() -> impl Iterator<Item = &'static KindInfo> {
    KINDS.iter().map(|(kind, _)| kind)
}

/// The kind of a name in any case: its own, its plural, or a short one.
pub fn find_kind(name: &str) -> Option<&'static KindInfo> {
    let is_name = |other: &str| other.eq_ignore_ascii_case(name);
    let found = KINDS.iter().find(|(kind, short)| {
        is_name(kind.kind) || is_name(kind.plural) || short.iter().any(|short| is_name(short))
    });
    found.map(|(kind, _)| kind)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn kinds_are_found_by_every_name() {
        for name in ["ippool", "IPPool", "IPPOOLS", "ipp"] {
            assert_eq!(find_kind(name).map(|kind| kind.kind), Some("IPPool"), "{name}");
        }
        assert!(find_kind("").is_none());
        assert!(find_kind("gateway").is_none());
    }

    #[test]
    fn no_name_means_two_kinds() {
        let mut seen = BTreeSet::new();
        for (kind, short) in &KINDS {
            let own = [kind.kind.to_lowercase(), kind.plural.to_string()];
            for name in own.into_iter().chain(short.iter().map(|short| short.to_string())) {
                assert!(seen.insert(name.clone()), "{name}");
            }
        }
    }
}
