//! `IPAMHandle`: in which blocks the addresses of one owner are.

use std::collections::BTreeMap;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules;
use crate::{FieldError, Metadata};

/// In which blocks the addresses of one owner are. May over-count after a crash, never under-count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IpamHandle {
    /// `crd.projectcalico.org/v1`.
    pub api_version: String,
    /// `IPAMHandle`.
    pub kind: String,
    /// Metadata; the name is the handle in lower case.
    #[serde(default)]
    pub metadata: Metadata,
    /// The counts.
    pub spec: IpamHandleSpec,
}

super::calico_resource!(IpamHandle, IpamHandleSpec, "IPAMHandle", "ipamhandles", validate: validate);

/// Spec of an [`IpamHandle`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IpamHandleSpec {
    /// The handle, in its own case.
    #[serde(rename = "handleID")]
    #[schemars(length(min = 1))]
    pub handle_id: String,
    /// Addresses by block CIDR.
    pub block: BTreeMap<String, u32>,
    /// True while a delete is under way.
    #[serde(default)]
    pub deleted: bool,
}

fn validate(object: &IpamHandle) -> Result<(), FieldError> {
    let spec = &object.spec;
    rules::rule(
        !spec.handle_id.is_empty(),
        "spec.handleID",
        "empty: expected a handle",
    )?;
    for cidr in spec.block.keys() {
        let message = format_args!("\"{cidr}\" is no block: expected ADDRESS/LENGTH");
        rules::rule(cidr.parse::<IpNet>().is_ok(), "spec.block", message)?;
    }
    Ok(())
}
