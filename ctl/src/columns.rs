//! Which columns each kind has in a table.

use anyhow::Result;
use datastore::{
    KindInfo, Metadata, Resource,
    types::{
        BgpConfiguration, BgpFilter, BgpPeer, BlockAffinity, EndpointSlice, IpPool, IpReservation, IpamBlock,
        IpamConfig, IpamHandle, Namespace, Node, Pod, SERVICE_NAME_LABEL, Secret, Service, annotation,
    },
};
use serde::Serialize;
use serde_json::Value;

use crate::output::{or_dash, plain_table};

/// A column: its header, whether it is only in a wide table, and what stands in it.
struct Column<T>(&'static str, Width, fn(&T) -> String);

#[derive(PartialEq)]
enum Width {
    Always,
    Wide,
}
use Width::{Always, Wide};

/// The table of a kind's objects.
pub(crate) fn table(kind: &KindInfo, objects: Vec<Value>, wide: bool) -> Result<String> {
    match kind.kind {
        "Node" => rows(NODE, objects, wide),
        "IPPool" => rows(POOL, objects, wide),
        "IPReservation" => rows(RESERVATION, objects, wide),
        "IPAMConfig" => rows(IPAM_CONFIG, objects, wide),
        "IPAMBlock" => rows(BLOCK, objects, wide),
        "BlockAffinity" => rows(AFFINITY, objects, wide),
        "IPAMHandle" => rows(HANDLE, objects, wide),
        "BGPConfiguration" => rows(BGP_CONFIGURATION, objects, wide),
        "BGPPeer" => rows(PEER, objects, wide),
        "BGPFilter" => rows(FILTER, objects, wide),
        "Pod" => rows(POD, objects, wide),
        "Namespace" => rows(NAMESPACE, objects, wide),
        "Service" => rows(SERVICE, objects, wide),
        "EndpointSlice" => rows(ENDPOINT_SLICE, objects, wide),
        "Secret" => rows(SECRET, objects, wide),
        _ => rows(OTHER, objects, wide),
    }
}

fn rows<T: serde::de::DeserializeOwned>(
    columns: &[Column<T>],
    objects: Vec<Value>,
    wide: bool,
) -> Result<String> {
    let shown: Vec<_> = columns
        .iter()
        .filter(|Column(_, width, _)| wide || *width == Always)
        .collect();
    let headers: Vec<_> = shown.iter().map(|Column(header, _, _)| *header).collect();
    let mut rows = Vec::new();
    for object in objects {
        let object: T = serde_json::from_value(object)?;
        rows.push(
            shown
                .iter()
                .map(|Column(_, _, cell)| or_dash(cell(&object)))
                .collect(),
        );
    }
    Ok(plain_table(&headers, rows))
}

const NODE: &[Column<Node>] = &[
    Column("NAME", Always, name),
    Column("IPV4", Always, |node| {
        note(&node.metadata, annotation::IPV4_ADDRESS)
    }),
    Column("IPV6", Always, |node| {
        note(&node.metadata, annotation::IPV6_ADDRESS)
    }),
    Column("ASN", Always, |node| note(&node.metadata, annotation::AS_NUMBER)),
    Column("TUNNEL", Wide, |node| {
        note(&node.metadata, annotation::IPV4_IPIP_TUNNEL_ADDR)
    }),
    Column("REFLECTOR", Wide, |node| {
        note(&node.metadata, annotation::ROUTE_REFLECTOR_CLUSTER_ID)
    }),
    Column("LABELS", Wide, |node| {
        let pairs = node
            .metadata
            .labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"));
        pairs.collect::<Vec<_>>().join(",")
    }),
];

const POOL: &[Column<IpPool>] = &[
    Column("NAME", Always, name),
    Column("CIDR", Always, |pool| pool.spec.cidr.to_string()),
    Column("BLOCKS", Always, |pool| {
        format!("/{}", pool.spec.block_prefix_len())
    }),
    Column("NAT", Always, |pool| pool.spec.nat_outgoing.to_string()),
    Column("IPIPMODE", Always, |pool| word(&pool.spec.ipip_mode)),
    Column("VXLANMODE", Always, |pool| word(&pool.spec.vxlan_mode)),
    Column("DISABLED", Always, |pool| pool.spec.disabled.to_string()),
    Column("SELECTOR", Always, |pool| pool.spec.node_selector.clone()),
    Column("DISABLEBGPEXPORT", Wide, |pool| {
        pool.spec.disable_bgp_export.to_string()
    }),
    Column("NAMESPACES", Wide, |pool| {
        pool.spec.namespace_selector.clone().unwrap_or_default()
    }),
    Column("USES", Wide, |pool| {
        pool.spec
            .allowed_uses
            .iter()
            .map(word)
            .collect::<Vec<_>>()
            .join(",")
    }),
    Column("ASSIGNMENT", Wide, |pool| word(&pool.spec.assignment_mode)),
];

const RESERVATION: &[Column<IpReservation>] = &[
    Column("NAME", Always, name),
    Column("CIDRS", Always, |reservation| {
        joined(&reservation.spec.reserved_cidrs)
    }),
];

const IPAM_CONFIG: &[Column<IpamConfig>] = &[
    Column("NAME", Always, name),
    Column("STRICTAFFINITY", Always, |config| {
        config.spec.strict_affinity.to_string()
    }),
    Column("AUTOALLOCATEBLOCKS", Always, |config| {
        config.spec.auto_allocate_blocks.to_string()
    }),
    Column("MAXBLOCKSPERHOST", Always, |config| {
        match config.spec.max_blocks_per_host {
            0 => "20".to_string(),
            most => most.to_string(),
        }
    }),
    Column("COOLDOWN", Always, |config| {
        config
            .spec
            .ip_cooldown_seconds
            .map(|seconds| format!("{seconds}s"))
            .unwrap_or_default()
    }),
];

const BLOCK: &[Column<IpamBlock>] = &[
    Column("NAME", Always, name),
    Column("CIDR", Always, |block| block.spec.cidr.to_string()),
    Column("AFFINITY", Always, |block| {
        block.spec.affinity.clone().unwrap_or_default()
    }),
    Column("IN USE", Always, |block| {
        block.spec.allocations.iter().flatten().count().to_string()
    }),
    Column("FREE", Always, |block| block.spec.unallocated.len().to_string()),
    Column("STRICT", Wide, |block| block.spec.strict_affinity.to_string()),
    Column("CLAIMED", Wide, |block| {
        block.spec.affinity_claim_time.clone().unwrap_or_default()
    }),
    Column("SEQUENCE", Wide, |block| block.spec.sequence_number.to_string()),
];

const AFFINITY: &[Column<BlockAffinity>] = &[
    Column("NAME", Wide, name),
    Column("NODE", Always, |affinity| affinity.spec.node.clone()),
    Column("CIDR", Always, |affinity| affinity.spec.cidr.to_string()),
    Column("STATE", Always, |affinity| word(&affinity.spec.state)),
    Column("TYPE", Wide, |affinity| {
        affinity
            .spec
            .affinity_type
            .clone()
            .unwrap_or_else(|| "host".to_string())
    }),
];

const HANDLE: &[Column<IpamHandle>] = &[
    Column("HANDLE", Always, |handle| handle.spec.handle_id.clone()),
    Column("ADDRESSES", Always, |handle| {
        handle
            .spec
            .block
            .values()
            .map(|count| u64::from(*count))
            .sum::<u64>()
            .to_string()
    }),
    Column("BLOCKS", Always, |handle| joined(handle.spec.block.keys())),
];

const BGP_CONFIGURATION: &[Column<BgpConfiguration>] = &[
    Column("NAME", Always, name),
    Column("MESH", Always, |config| {
        config.spec.node_to_node_mesh_enabled.unwrap_or(true).to_string()
    }),
    Column("ASN", Always, |config| {
        config
            .spec
            .as_number
            .map(|number| number.to_string())
            .unwrap_or_default()
    }),
    Column("PORT", Always, |config| {
        config
            .spec
            .listen_port
            .map(|port| port.to_string())
            .unwrap_or_default()
    }),
    Column("SERVICE CIDRS", Wide, |config| {
        let spec = &config.spec;
        let all = spec.service_cluster_ips.iter().chain(&spec.service_external_ips);
        joined(all.chain(&spec.service_load_balancer_ips).map(|block| block.cidr))
    }),
];

const PEER: &[Column<BgpPeer>] = &[
    Column("NAME", Always, name),
    Column("PEER", Always, |peer| {
        one_of(&peer.spec.peer_ip, &peer.spec.peer_selector).unwrap_or_default()
    }),
    Column("NODES", Always, |peer| {
        one_of(&peer.spec.node, &peer.spec.node_selector).unwrap_or_else(|| "(global)".to_string())
    }),
    Column("ASN", Always, |peer| {
        peer.spec
            .as_number
            .map(|number| number.to_string())
            .unwrap_or_default()
    }),
    Column("NEXTHOP", Wide, |peer| {
        peer.spec.next_hop_mode.as_ref().map(word).unwrap_or_default()
    }),
    Column("FILTERS", Wide, |peer| peer.spec.filters.join(",")),
    Column("PASSWORD", Wide, |peer| {
        let reference = peer
            .spec
            .password
            .as_ref()
            .and_then(|password| password.secret_key_ref.as_ref());
        reference
            .map(|secret| format!("{}/{}", secret.name, secret.key))
            .unwrap_or_default()
    }),
];

const FILTER: &[Column<BgpFilter>] = &[
    Column("NAME", Always, name),
    Column("EXPORTV4", Always, |filter| {
        filter.spec.export_v4.len().to_string()
    }),
    Column("IMPORTV4", Always, |filter| {
        filter.spec.import_v4.len().to_string()
    }),
    Column("EXPORTV6", Always, |filter| {
        filter.spec.export_v6.len().to_string()
    }),
    Column("IMPORTV6", Always, |filter| {
        filter.spec.import_v6.len().to_string()
    }),
];

const POD: &[Column<Pod>] = &[
    Column("NAMESPACE", Always, namespace),
    Column("NAME", Always, name),
    Column("PHASE", Always, |pod| {
        pod.status.phase.clone().unwrap_or_default()
    }),
    Column("NODE", Always, |pod| {
        pod.spec.node_name.clone().unwrap_or_default()
    }),
    Column("IPS", Always, |pod| {
        let all: Vec<_> = pod
            .status
            .pod_ips
            .iter()
            .map(|address| address.ip.as_str())
            .collect();
        if all.is_empty() {
            pod.status.pod_ip.clone().unwrap_or_default()
        } else {
            all.join(",")
        }
    }),
];

const NAMESPACE: &[Column<Namespace>] = &[Column("NAME", Always, name)];

const SERVICE: &[Column<Service>] = &[
    Column("NAMESPACE", Always, namespace),
    Column("NAME", Always, name),
    Column("TYPE", Always, |service| {
        service
            .spec
            .service_type
            .clone()
            .unwrap_or_else(|| "ClusterIP".to_string())
    }),
    Column("CLUSTER-IP", Always, |service| {
        service.spec.cluster_ip.clone().unwrap_or_default()
    }),
    Column("EXTERNAL-IP", Always, |service| {
        let given = service
            .status
            .load_balancer
            .ingress
            .iter()
            .filter_map(|ingress| ingress.ip.clone());
        joined(service.spec.external_ips.iter().cloned().chain(given))
    }),
    Column("POLICY", Always, |service| {
        service
            .spec
            .external_traffic_policy
            .clone()
            .unwrap_or_else(|| "Cluster".to_string())
    }),
];

const ENDPOINT_SLICE: &[Column<EndpointSlice>] = &[
    Column("NAMESPACE", Always, namespace),
    Column("NAME", Always, name),
    Column("SERVICE", Always, |slice| {
        slice
            .metadata
            .labels
            .get(SERVICE_NAME_LABEL)
            .cloned()
            .unwrap_or_default()
    }),
    Column("TYPE", Always, |slice| slice.address_type.clone()),
    Column("READY", Always, |slice| {
        let ready = slice
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.is_ready())
            .count();
        format!("{ready}/{}", slice.endpoints.len())
    }),
];

const SECRET: &[Column<Secret>] = &[
    Column("NAMESPACE", Always, namespace),
    Column("NAME", Always, name),
    Column("KEYS", Always, |secret| {
        joined(secret.data.keys().chain(secret.string_data.keys()))
    }),
];

const OTHER: &[Column<Value>] = &[Column("NAME", Always, |object| {
    object
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_string()
})];

fn name<T: Resource>(object: &T) -> String {
    object.metadata().name.clone()
}

fn namespace<T: Resource>(object: &T) -> String {
    object.metadata().namespace.clone()
}

fn note(metadata: &Metadata, key: &str) -> String {
    metadata.annotations.get(key).cloned().unwrap_or_default()
}

/// The name of an enumeration's value, as a manifest has it.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        _ => String::new(),
    }
}

fn joined(items: impl IntoIterator<Item = impl ToString>) -> String {
    items
        .into_iter()
        .map(|item| item.to_string())
        .collect::<Vec<_>>()
        .join(",")
}

/// The first that is given and not empty.
fn one_of(first: &Option<String>, second: &Option<String>) -> Option<String> {
    [first, second]
        .into_iter()
        .flatten()
        .find(|text| !text.is_empty())
        .cloned()
}
