//! Blocks as `routectl get ipamblocks -o json` shows them.

use std::net::IpAddr;

use anyhow::{Context, Result};
use ipnet::IpNet;
use serde_json::Value;

use crate::node::Node;

/// A block of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Its range.
    pub cidr: IpNet,
    /// The node that owns it.
    pub owner: Option<String>,
    /// Addresses in use, with the pod where there is one (`pod-a1`) or else the handle.
    pub used: Vec<(IpAddr, String)>,
    /// How many addresses it has.
    pub size: usize,
}

/// All blocks, by range.
///
/// # Errors
/// `routectl` fails, or what it says is not in Calico's shape.
pub fn blocks(node: &Node<'_>) -> Result<Vec<Block>> {
    let list = node.routectl_json(&["get", "ipamblocks"])?;
    let mut blocks = items(&list).iter().map(parse).collect::<Result<Vec<_>>>()?;
    blocks.sort_by_key(|block| block.cidr);
    Ok(blocks)
}

/// The objects of a `List`, or of a plain array.
pub fn items(list: &Value) -> &[Value] {
    list.get("items")
        .unwrap_or(list)
        .as_array()
        .map_or(&[], Vec::as_slice)
}

fn parse(object: &Value) -> Result<Block> {
    let spec = &object["spec"];
    let cidr: IpNet = spec["cidr"]
        .as_str()
        .context("a block without `spec.cidr`")?
        .parse()?;
    let owner = spec["affinity"]
        .as_str()
        .and_then(|affinity| affinity.strip_prefix("host:"));
    let allocations = spec["allocations"]
        .as_array()
        .context("a block without `spec.allocations`")?;
    let in_use = |(ordinal, index): (usize, &Value)| {
        let attribute = &spec["attributes"][usize::try_from(index.as_u64()?).ok()?];
        let text = |value: &Value| value.as_str().map(str::to_string);
        let holder = text(&attribute["secondary"]["pod"]).or_else(|| text(&attribute["handle_id"]));
        Some((nth(cidr, ordinal), holder.unwrap_or_default()))
    };
    Ok(Block {
        cidr,
        owner: owner.map(str::to_string),
        used: allocations.iter().enumerate().filter_map(in_use).collect(),
        size: allocations.len(),
    })
}

/// The address at this distance from the first.
fn nth(cidr: IpNet, ordinal: usize) -> IpAddr {
    match cidr.network() {
        IpAddr::V4(first) => IpAddr::V4((u32::from(first) + ordinal as u32).into()),
        IpAddr::V6(first) => IpAddr::V6((u128::from(first) + ordinal as u128).into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn addresses_in_use_and_their_holders() {
        let block = parse(&json!({"spec": {
            "cidr": "10.0.0.4/30", "affinity": "host:a", "allocations": [null, 1, 0, null],
            "attributes": [{"handle_id": "h"}, {"handle_id": "g", "secondary": {"pod": "p"}}],
        }}));
        let used = vec![
            ("10.0.0.5".parse().unwrap(), "p".to_string()),
            ("10.0.0.6".parse().unwrap(), "h".to_string()),
        ];
        let expected = Block {
            cidr: "10.0.0.4/30".parse().unwrap(),
            owner: Some("a".to_string()),
            used,
            size: 4,
        };
        assert_eq!(block.unwrap(), expected);
    }
}
