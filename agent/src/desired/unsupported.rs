//! What objects ask for and this version does not do: said by name, never silently left out.

use std::collections::BTreeSet;

use datastore::types::{BgpConfigurationSpec, BgpPeerSpec, EncapMode, IpPoolSpec};

use crate::{admin::types::Problem, snapshot::Snapshot};

/// Whether a field asks for something, and what to say then.
type Asked = (bool, &'static str);

/// Reports every such field of the pools in use and of the BGP configurations. Those of a BGPPeer are reported where its
/// sessions are made, for the nodes it selects ([`of_peer`]).
pub fn report(snapshot: &Snapshot, problems: &mut BTreeSet<Problem>) {
    for pool in snapshot.pools.all.values().filter(|pool| !pool.spec.disabled) {
        let about = format!("IPPool \"{}\"", pool.metadata.name);
        problems.extend(of_pool(&pool.spec).map(|message| Problem::new(&about, message)));
    }
    for (name, object) in snapshot.bgp_configurations.all.iter() {
        let about = format!("BGPConfiguration \"{name}\"");
        if *name == format!("node.{}", snapshot.node) {
            let message = "settings of one node are not supported by this version: \"default\" holds for it";
            problems.insert(Problem::new(&about, message));
        } else if name == "default" {
            let say = |field| Problem::new(&about, format!("{field} is not supported by this version"));
            problems.extend(of_configuration(&object.spec).map(say));
        }
    }
}

fn of_pool(spec: &IpPoolSpec) -> impl Iterator<Item = &'static str> {
    asked([
        (
            spec.nat_outgoing,
            "spec.natOutgoing is not supported by this version: what pods send leaves with their own addresses",
        ),
        (
            spec.vxlan_mode != EncapMode::Never,
            "spec.vxlanMode is not supported by this version: packets between nodes are sent as they are",
        ),
    ])
}

fn of_configuration(spec: &BgpConfigurationSpec) -> impl Iterator<Item = &'static str> {
    asked([
        (!spec.service_cluster_ips.is_empty(), "spec.serviceClusterIPs"),
        (!spec.service_external_ips.is_empty(), "spec.serviceExternalIPs"),
        (
            !spec.service_load_balancer_ips.is_empty(),
            "spec.serviceLoadBalancerIPs",
        ),
        (!spec.communities.is_empty(), "spec.communities"),
        (
            !spec.prefix_advertisements.is_empty(),
            "spec.prefixAdvertisements",
        ),
        (
            spec.node_mesh_max_restart_time.is_some(),
            "spec.nodeMeshMaxRestartTime",
        ),
        (!spec.ignored_interfaces.is_empty(), "spec.ignoredInterfaces"),
    ])
}

/// Fields of a BGPPeer that are given and that nothing acts on.
pub fn of_peer(spec: &BgpPeerSpec) -> impl Iterator<Item = &'static str> {
    asked([
        (!spec.filters.is_empty(), "spec.filters"),
        (spec.ttl_security.is_some(), "spec.ttlSecurity"),
        (
            spec.reachable_by
                .as_deref()
                .is_some_and(|gateway| !gateway.is_empty()),
            "spec.reachableBy",
        ),
        (spec.max_restart_time.is_some(), "spec.maxRestartTime"),
        (spec.keepalive_time.is_some(), "spec.keepaliveTime"),
        (spec.reverse_peering.is_some(), "spec.reversePeering"),
    ])
}

fn asked(fields: impl IntoIterator<Item = Asked>) -> impl Iterator<Item = &'static str> {
    fields
        .into_iter()
        .filter(|(asked, _)| *asked)
        .map(|(_, what)| what)
}
