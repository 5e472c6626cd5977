//! `IPAMBlock`: the addresses of a block and who has them.

use std::collections::BTreeMap;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules;
use crate::{FieldError, Metadata};

/// A block of addresses (IPv4 /26 and IPv6 /122 by default) and who has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IpamBlock {
    /// `crd.projectcalico.org/v1`.
    pub api_version: String,
    /// `IPAMBlock`.
    pub kind: String,
    /// Metadata; the name is the CIDR with `.`, `:` and `/` as `-`.
    #[serde(default)]
    pub metadata: Metadata,
    /// The addresses.
    pub spec: IpamBlockSpec,
}

super::calico_resource!(IpamBlock, IpamBlockSpec, "IPAMBlock", "ipamblocks", validate: validate);

/// Spec of an [`IpamBlock`]. Addresses are known by ordinal, their distance from the block's first address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IpamBlockSpec {
    /// The block.
    #[schemars(with = "String", extend("format" = "cidr"))]
    pub cidr: IpNet,
    /// `host:<node>` or `virtual:<owner>`; absent once the owner has given the block up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<String>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity_claim_time: Option<String>,
    /// By ordinal: an index into `attributes`, or null where the address is free.
    pub allocations: Vec<Option<usize>>,
    /// The owners; each is used by at least one address, and no two are equal.
    pub attributes: Vec<AllocationAttribute>,
    /// Free ordinals, the longest free first.
    pub unallocated: Vec<usize>,
    /// Starts at the time of creation in nanoseconds since 1970 and grows by one a write.
    #[serde(default)]
    pub sequence_number: u64,
    /// By ordinal (decimal): `sequenceNumber` at the time of its allocation.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sequence_number_for_allocation: BTreeMap<String, u64>,
    /// True where other nodes may not borrow from it.
    pub strict_affinity: bool,
    /// True while a delete is under way.
    #[serde(default)]
    pub deleted: bool,
}

/// Who has an address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AllocationAttribute {
    /// `<network>.<containerID>` for a pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle_id: Option<String>,
    /// `pod`, `namespace`, `node`, `timestamp`, ….
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secondary: BTreeMap<String, String>,
    /// RFC 3339; set (alone) while a released address cools down.
    #[serde(default, rename = "releasedAt", skip_serializing_if = "Option::is_none")]
    pub released_at: Option<String>,
}

/// Blocks have at most this many addresses (an IPv4 /16); a manifest that says otherwise asks for too much memory.
const MOST_ADDRESSES: usize = 1 << 16;

fn validate(object: &IpamBlock) -> Result<(), FieldError> {
    let spec = &object.spec;
    rules::masked("spec.cidr", &spec.cidr)?;
    let host_bits = u32::from(spec.cidr.max_prefix_len() - spec.cidr.prefix_len());
    let size = 1usize
        .checked_shl(host_bits)
        .filter(|size| *size <= MOST_ADDRESSES);
    let Some(size) = size else {
        let message = format!(
            "{} is too large: expected at most {MOST_ADDRESSES} addresses",
            spec.cidr
        );
        return Err(FieldError::new("spec.cidr", message));
    };
    rules::rule(
        spec.allocations.len() == size,
        "spec.allocations",
        format_args!(
            "{} entries: {} has {size} addresses",
            spec.allocations.len(),
            spec.cidr
        ),
    )?;
    for (ordinal, index) in spec.allocations.iter().enumerate() {
        rules::rule(
            index.is_none_or(|index| index < spec.attributes.len()),
            format!("spec.allocations[{ordinal}]"),
            format_args!(
                "no such entry in spec.attributes, which has {}",
                spec.attributes.len()
            ),
        )?;
    }
    let mut free = vec![false; size];
    for (at, ordinal) in spec.unallocated.iter().enumerate() {
        let unused = matches!(spec.allocations.get(*ordinal), Some(None));
        let first = free
            .get_mut(*ordinal)
            .is_some_and(|free| !std::mem::replace(free, true));
        rules::rule(
            unused && first,
            format!("spec.unallocated[{at}]"),
            format_args!(
                "{ordinal} is given twice, has an owner in spec.allocations, or is not below {size}"
            ),
        )?;
    }
    Ok(())
}
