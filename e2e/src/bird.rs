//! The configuration of a router's BIRD 2, and what its command line says.
//!
//! The router behaves as a data centre's top-of-rack switch does: it accepts from the nodes only what lies inside
//! the pools, installs it in its kernel, announces its own prefixes, and keeps the routes of a node that restarts
//! (graceful restart, RFC 4724).

use std::{fmt::Write, net::IpAddr};

use ipnet::IpNet;

use crate::topology::{NodeSpec, RouterSpec, Topology};

/// The protocol that holds the announced prefixes; disabling it withdraws them.
pub const ANNOUNCED: &str = "announced";

/// One family's part of the configuration.
struct Family {
    channel: &'static str,
    suffix: &'static str,
    is_v4: bool,
}

const FAMILIES: [Family; 2] = [
    Family {
        channel: "ipv4",
        suffix: "",
        is_v4: true,
    },
    Family {
        channel: "ipv6",
        suffix: "6",
        is_v4: false,
    },
];

/// The configuration file.
pub fn config(topology: &Topology, router: &RouterSpec) -> String {
    let mut text = String::from("log stderr { info, warning, error, fatal, remote, auth, bug };\n");
    if let Some(id) = router.addresses.values().next() {
        push(&mut text, &format!("router id {id};"));
    }
    push(&mut text, "protocol device { scan time 5; }");
    for family in &FAMILIES {
        let neighbours = neighbours(topology, router, family);
        if family.is_v4 || !neighbours.is_empty() {
            push_family(&mut text, topology, router, family, &neighbours);
        }
    }
    text
}

/// The name of the BGP protocol that peers with a node. BIRD's names have no hyphens.
pub fn session_name(node: &str, address: IpAddr) -> String {
    let family = if address.is_ipv4() { "" } else { "6" };
    format!("node{family}_{}", node.replace('-', "_"))
}

/// A session: the node, the router's address, the node's address.
type Neighbour<'a> = (&'a NodeSpec, IpAddr, IpAddr);

fn neighbours<'a>(topology: &'a Topology, router: &'a RouterSpec, family: &Family) -> Vec<Neighbour<'a>> {
    let session = |node: &'a NodeSpec| -> Option<Neighbour<'a>> {
        if family.is_v4 {
            let local = router.addresses.get(&node.subnet)?;
            Some((node, (*local).into(), node.address.into()))
        } else {
            let local = router.addresses6.get(&node.subnet)?;
            Some((node, (*local).into(), node.address6?.into()))
        }
    };
    topology.nodes.iter().filter_map(session).collect()
}

fn push_family(
    text: &mut String,
    topology: &Topology,
    router: &RouterSpec,
    Family {
        channel,
        suffix,
        is_v4,
    }: &Family,
    neighbours: &[Neighbour<'_>],
) {
    let ours = |cidr: &&IpNet| matches!(cidr, IpNet::V4(_)) == *is_v4;
    let pools: Vec<_> = topology
        .pools
        .iter()
        .map(|pool| &pool.cidr)
        .filter(ours)
        .collect();
    let accepted = pools
        .iter()
        .map(|cidr| format!("{cidr}+"))
        .collect::<Vec<_>>()
        .join(", ");
    let import = if pools.is_empty() {
        "none".to_string()
    } else {
        format!("where net ~ [ {accepted} ]")
    };
    push(
        text,
        &format!(
            "protocol kernel fib{suffix} {{\n  {channel} {{ import none; export where source = RTS_BGP; }};\n}}"
        ),
    );
    let prefixes = router
        .announces
        .iter()
        .map(|announcement| &announcement.prefix)
        .filter(ours);
    let routes: String = prefixes
        .map(|prefix| format!("  route {prefix} blackhole;\n"))
        .collect();
    push(
        text,
        &format!("protocol static {ANNOUNCED}{suffix} {{\n  {channel};\n{routes}}}"),
    );
    let password = router
        .password
        .as_ref()
        .map(|password| format!("  password \"{password}\";\n"))
        .unwrap_or_default();
    let template = format!(
        "template bgp nodes{suffix} {{\n{password}  graceful restart on;\n  connect delay time 1;\n  connect retry time 2;\n  \
         error wait time 1, 4;\n  {channel} {{ import {import}; export where source = RTS_STATIC; }};\n}}"
    );
    push(text, &template);
    for (node, local, remote) in neighbours {
        push(
            text,
            &format!(
                "protocol bgp {} from nodes{suffix} {{\n  local {local} as {};\n  neighbor {remote} as {};\n}}",
                session_name(&node.name, *remote),
                router.as_number,
                topology.as_number
            ),
        );
    }
}

fn push(text: &mut String, part: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{part}");
}

/// A BGP session as `birdc show protocols` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BirdSession {
    /// Name of the protocol.
    pub name: String,
    /// `up`, `start`, `down`.
    pub state: String,
    /// Since when, as BIRD says it.
    pub since: String,
    /// `Established`, or what stands in its way.
    pub info: String,
}

impl BirdSession {
    /// Is it up?
    pub fn is_established(&self) -> bool {
        self.state == "up" && self.info == "Established"
    }
}

/// Reads the BGP sessions from what `birdc show protocols` says.
pub fn parse_sessions(text: &str) -> Vec<BirdSession> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (name, protocol, _table) = (words.next()?, words.next()?, words.next()?);
        let (state, since) = (words.next()?, words.next()?);
        (protocol == "BGP").then(|| BirdSession {
            name: name.to_string(),
            state: state.to_string(),
            since: since.to_string(),
            info: words.collect::<Vec<_>>().join(" "),
        })
    };
    text.lines().filter_map(line).collect()
}

/// A route as `birdc show route` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BirdRoute {
    /// The prefix.
    pub prefix: IpNet,
    /// The protocol it came from.
    pub protocol: String,
    /// Its next hop, where it has one.
    pub via: Option<IpAddr>,
}

/// Reads the routes from what `birdc show route` says: a line with the prefix (or none, where it is the one above),
/// the protocol in brackets; then a line `via <address> on <device>`.
pub fn parse_routes(text: &str) -> Vec<BirdRoute> {
    let mut routes: Vec<BirdRoute> = Vec::new();
    for line in text.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        if let ["via", address, ..] = words.as_slice() {
            if let Some(route) = routes.last_mut() {
                route.via = route.via.or(address.parse().ok());
            }
            continue;
        }
        let Some(bracket) = line.find('[') else { continue };
        let given = words.first().and_then(|word| word.parse().ok());
        let Some(prefix) = given.or(routes.last().map(|route| route.prefix)) else {
            continue;
        };
        let protocol = line[bracket..].trim_start_matches('[').split_whitespace().next();
        routes.push(BirdRoute {
            prefix,
            protocol: protocol.unwrap_or_default().to_string(),
            via: None,
        });
    }
    routes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_read() {
        let text = "BIRD 2.0.12 ready.\n\
            Name       Proto      Table      State  Since         Info\n\
            kernel     Kernel     master4    up     12:00:00.123  \n\
            node_a     BGP        ---        up     12:00:01.456  Established   \n\
            node_b     BGP        ---        start  12:00:01.456  Active        Socket: Connection refused\n";
        let sessions = parse_sessions(text);
        assert_eq!(sessions.len(), 2);
        assert!(sessions[0].is_established());
        assert_eq!(sessions[1].info, "Active Socket: Connection refused");
        assert!(!sessions[1].is_established());
    }

    #[test]
    fn routes_are_read() {
        let text = "BIRD 2.0.12 ready.\nTable master4:\n\
            10.233.64.0/26       unicast [node_a 12:00:02.345] * (100) [AS64512i]\n\
            \tvia 192.168.33.11 on rack-a\n\
            \x20                    unicast [node_b 12:00:02.345] (100) [AS64512i]\n\
            \tvia 192.168.33.12 on rack-a\n\
            10.99.0.0/16         blackhole [announced 12:00:00.000] * (200)\n";
        let routes = parse_routes(text);
        let shown: Vec<_> = routes
            .iter()
            .map(|route| {
                (
                    route.prefix.to_string(),
                    route.protocol.as_str(),
                    route.via.map(|via| via.to_string()),
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                (
                    "10.233.64.0/26".to_string(),
                    "node_a",
                    Some("192.168.33.11".to_string())
                ),
                (
                    "10.233.64.0/26".to_string(),
                    "node_b",
                    Some("192.168.33.12".to_string())
                ),
                ("10.99.0.0/16".to_string(), "announced", None),
            ]
        );
    }

    #[test]
    fn demo_config_peers_with_every_node_and_guards_the_import() {
        let topology = Topology::demo().unwrap();
        let text = config(&topology, &topology.routers[0]);
        for expected in [
            "router id 192.168.33.1;",
            "route 10.99.0.0/16 blackhole;",
            "import where net ~ [ 10.233.64.0/18+ ];",
            "protocol bgp node_c from nodes {\n  local 192.168.34.1 as 65000;\n  neighbor 192.168.34.11 as 64512;",
        ] {
            assert!(text.contains(expected), "no {expected:?} in\n{text}");
        }
        assert!(!text.contains("ipv6"), "{text}");
    }
}
