//! CHECK: is the attachment still what ADD made of it?
//!
//! Held against the result of ADD (`prevResult`): the container's interface, its MAC address and its addresses; the
//! host's device, its label and the routes to it. The error says what differs.

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::{
    answer,
    configuration::{Configuration, ConfigurationError},
    environment::Environment,
    namespace::Namespaces,
};
use crate::{
    netlink::{
        Netlink, address,
        link::{self, Link},
    },
    protocol::{Failure, code},
    veth,
};

/// A difference.
fn differs(message: String) -> Failure {
    Failure::new(code::CHECK_FAILED, message)
}

/// Serves the call.
pub(super) fn check(environment: &Environment, configuration: &Configuration) -> Result<(), Failure> {
    let id = environment.attachment()?;
    let missing = || ConfigurationError::Missing {
        field: "prevResult (the result of ADD)".into(),
    };
    let expected = Expected::read(configuration.previous_result()?.ok_or_else(missing)?, &id.ifname)?;
    let namespaces = Namespaces::open(environment.netns()?)?;
    let mut pod = namespaces.in_pod(Netlink::open)??;
    let inside = check_pod(&mut pod, &id.ifname, &expected)?;
    let mut host = Netlink::open()?;
    let label = veth::label(&id);
    let links = link::list(&mut host)?;
    let outside = links
        .iter()
        .find(|link| link.alias == label)
        .ok_or_else(|| differs(format!("no device of the host is labelled {label:?}")))?;
    check_host(&mut host, outside, &inside, &expected)
}

/// What ADD said it made.
struct Expected {
    mac: Option<String>,
    addresses: Vec<IpAddr>,
}

impl Expected {
    fn read(result: &Map<String, Value>, ifname: &str) -> Result<Self, ConfigurationError> {
        let list = |key: &str| result.get(key).and_then(Value::as_array);
        let interfaces = list("interfaces").map(Vec::as_slice).unwrap_or_default();
        let ours = interfaces.iter().position(|interface| {
            let sandboxed = interface["sandbox"].as_str().is_some_and(|path| !path.is_empty());
            sandboxed && interface["name"] == ifname
        });
        let Some(ours) = ours else {
            return Err(ConfigurationError::Value {
                field: "prevResult.interfaces".into(),
                value: format!("without {ifname}"),
                accepted: "a list with the container's interface".into(),
            });
        };
        let mut addresses = Vec::new();
        for ip in list("ips").map(Vec::as_slice).unwrap_or_default() {
            if ip["interface"].as_u64() == Some(ours as u64) {
                addresses.push(address_of(ip)?);
            }
        }
        let mac = interfaces
            .get(ours)
            .and_then(|interface| interface["mac"].as_str());
        Ok(Self {
            mac: mac.map(str::to_owned),
            addresses,
        })
    }
}

/// The address of an entry of `ips`, as in `10.0.0.1/32`.
fn address_of(ip: &Value) -> Result<IpAddr, ConfigurationError> {
    let text = ip["address"].as_str().unwrap_or_default();
    let address = text.split('/').next().unwrap_or_default();
    address.parse().map_err(|_| ConfigurationError::Value {
        field: "prevResult.ips.address".into(),
        value: ip["address"].to_string(),
        accepted: "an address with a prefix length".into(),
    })
}

fn check_pod(pod: &mut Netlink, ifname: &str, expected: &Expected) -> Result<Link, Failure> {
    let link = link::find(pod, ifname)?.ok_or_else(|| differs(format!("the pod has no {ifname}")))?;
    if !link.up {
        return Err(differs(format!("the pod's {ifname} is down")));
    }
    let found = answer::mac(&link.mac);
    if let Some(mac) = expected
        .mac
        .as_ref()
        .filter(|mac| !mac.eq_ignore_ascii_case(&found))
    {
        return Err(differs(format!(
            "the MAC address of the pod's {ifname} is {found}, not {mac}"
        )));
    }
    let addresses = address::of_link(pod, link.index)?;
    for address in &expected.addresses {
        if !addresses.contains(address) {
            return Err(differs(format!("the pod's {ifname} has not got {address}")));
        }
    }
    Ok(link)
}

fn check_host(host: &mut Netlink, device: &Link, inside: &Link, expected: &Expected) -> Result<(), Failure> {
    let name = &device.name;
    if !device.up {
        return Err(differs(format!("the host's {name} is down")));
    }
    if device.peer != Some(inside.index) || inside.peer != Some(device.index) {
        return Err(differs(format!(
            "the host's {name} is not the other end of the pod's {}",
            inside.name
        )));
    }
    for address in &expected.addresses {
        if address::way_to(host, *address)? != Some(device.index) {
            return Err(differs(format!("the host does not route {address} to {name}")));
        }
    }
    Ok(())
}
