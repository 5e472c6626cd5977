//! Which of the node's addresses is the one the other nodes are to use: Calico's methods, by Calico's names.
//!
//! `first-found`, `interface=REGEX,...`, `skip-interface=REGEX,...`, `cidr=CIDR,...` and `can-reach=ADDRESS`. Regular
//! expressions match anywhere in a device's name, as Calico's do; anchor them to match the whole.
//! `kubernetes-internal-ip` needs the Node object and is not decided here.

use std::net::{IpAddr, UdpSocket};

use ipnet::IpNet;
use regex_lite::Regex;

use super::types::{Family, Link, Links};

/// Devices whose addresses are never the node's, by how their names begin.
const EXCLUDED: [&str; 18] = [
    "docker",
    "cbr",
    "dummy",
    "podman",
    "virbr",
    "lxcbr",
    "veth",
    "br-",
    "cali",
    "tunl",
    "flannel",
    "kube-ipvs",
    "cni",
    "vxlan.calico",
    "vxlan-v6.calico",
    "wireguard.cali",
    "wg-v6.cali",
    "nodelocaldns",
];

/// Why no address was found.
#[derive(Debug, thiserror::Error)]
pub enum AutodetectError {
    /// There is no such method.
    #[error(
        "unknown autodetection method \"{given}\": expected first-found, interface=REGEX, skip-interface=REGEX, \
         cidr=CIDR or can-reach=ADDRESS"
    )]
    UnknownMethod {
        /// What was given.
        given: String,
    },
    /// A regular expression does not parse.
    #[error("autodetection method {method}: \"{given}\" is not a regular expression: {source}")]
    Regex {
        /// The method.
        method: &'static str,
        /// What was given.
        given: String,
        /// What is wrong with it.
        #[source]
        source: regex_lite::Error,
    },
    /// A subnet or an address does not parse.
    #[error("autodetection method {method}: \"{given}\" is not {expected}")]
    Argument {
        /// The method.
        method: &'static str,
        /// What was given.
        given: String,
        /// What it should be.
        expected: &'static str,
    },
    /// No device that is up has an address that the method allows.
    #[error("no {family} address found by {method}; devices that are up: {devices}")]
    NotFound {
        /// The family looked for.
        family: Family,
        /// The method with its argument.
        method: String,
        /// The devices there are, with their addresses.
        devices: String,
    },
}

/// The node's address of one family, with its prefix length, by `method`. Only `can-reach` looks beyond `links`: it asks
/// the kernel (of the calling thread's network namespace) from which address it would send.
///
/// # Errors
/// See [`AutodetectError`].
pub fn autodetect(method: &str, family: Family, links: &Links) -> Result<IpNet, AutodetectError> {
    let found = match parse(method)? {
        Method::FirstFound => first(links, family, |link, _| !is_excluded(link)),
        Method::Interface(names) => first(links, family, |link, _| matches(&names, link)),
        Method::SkipInterface(names) => first(links, family, |link, _| {
            !is_excluded(link) && !matches(&names, link)
        }),
        Method::Cidr(nets) => first(links, family, |_, net| {
            nets.iter().any(|wanted| wanted.contains(&net.addr()))
        }),
        Method::CanReach(to) if Family::of(to) != family => None,
        Method::CanReach(to) => source_towards(to)
            .and_then(|source| links.owner(source))
            .map(|(_, net)| net),
    };
    found.ok_or_else(|| AutodetectError::NotFound {
        family,
        method: method.to_owned(),
        devices: describe(links),
    })
}

enum Method {
    FirstFound,
    Interface(Vec<Regex>),
    SkipInterface(Vec<Regex>),
    Cidr(Vec<IpNet>),
    CanReach(IpAddr),
}

fn parse(method: &str) -> Result<Method, AutodetectError> {
    let unknown = || AutodetectError::UnknownMethod {
        given: method.to_owned(),
    };
    if matches!(method, "" | "first-found") {
        return Ok(Method::FirstFound);
    }
    let (name, argument) = method.split_once('=').ok_or_else(unknown)?;
    let list = || argument.split(',').map(str::trim);
    match name {
        "interface" => list()
            .map(|given| regex("interface", given))
            .collect::<Result<_, _>>()
            .map(Method::Interface),
        "skip-interface" => {
            let names = list()
                .map(|given| regex("skip-interface", given))
                .collect::<Result<_, _>>();
            names.map(Method::SkipInterface)
        }
        "cidr" => list().map(cidr).collect::<Result<_, _>>().map(Method::Cidr),
        "can-reach" => argument
            .trim()
            .parse()
            .map(Method::CanReach)
            .map_err(|_| AutodetectError::Argument {
                method: "can-reach",
                given: argument.to_owned(),
                expected: "an IP address (names are not looked up)",
            }),
        _ => Err(unknown()),
    }
}

fn regex(method: &'static str, given: &str) -> Result<Regex, AutodetectError> {
    if given.is_empty() {
        // It would match every device.
        let expected = "a regular expression that matches device names";
        return Err(AutodetectError::Argument {
            method,
            given: given.to_owned(),
            expected,
        });
    }
    Regex::new(given).map_err(|source| AutodetectError::Regex {
        method,
        given: given.to_owned(),
        source,
    })
}

fn cidr(given: &str) -> Result<IpNet, AutodetectError> {
    given.parse().map_err(|_| AutodetectError::Argument {
        method: "cidr",
        given: given.to_owned(),
        expected: "a subnet like 192.0.2.0/24",
    })
}

/// The first usable address of the first device, in the kernel's order, that `allows` lets pass.
fn first(links: &Links, family: Family, allows: impl Fn(&Link, &IpNet) -> bool) -> Option<IpNet> {
    let candidates = links.iter().filter(|link| link.up).flat_map(|link| {
        link.addresses
            .iter()
            .filter(|net| Family::of(net.addr()) == family)
            .map(move |net| (link, *net))
    });
    candidates
        .filter(|(_, net)| is_usable(net.addr()))
        .find(|(link, net)| allows(link, net))
        .map(|(_, net)| net)
}

fn is_excluded(link: &Link) -> bool {
    link.loopback || link.name == "lo" || EXCLUDED.iter().any(|prefix| link.name.starts_with(prefix))
}

fn matches(names: &[Regex], link: &Link) -> bool {
    names.iter().any(|name| name.is_match(&link.name))
}

/// Others can reach it: neither loopback nor link-local nor multicast.
fn is_usable(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !(link_local || address.is_loopback() || address.is_unspecified() || address.is_multicast())
}

/// The address that the kernel would send from. Connecting a UDP socket sends nothing.
fn source_towards(to: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind((Family::of(to).unspecified(), 0)).ok()?;
    socket.connect((to, 9)).ok()?;
    socket.local_addr().ok().map(|local| local.ip())
}

fn describe(links: &Links) -> String {
    let device = |link: &Link| {
        let addresses: Vec<String> = link.addresses.iter().map(ToString::to_string).collect();
        format!("{} ({})", link.name, addresses.join(" "))
    };
    links
        .iter()
        .filter(|link| link.up)
        .map(device)
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests;
