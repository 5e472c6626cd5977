//! `IPAMHandle`: in which blocks the addresses of one owner are.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Metadata;

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

super::calico_resource!(IpamHandle, IpamHandleSpec, "IPAMHandle", "ipamhandles");

/// Spec of an [`IpamHandle`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IpamHandleSpec {
    /// The handle, in its own case.
    #[serde(rename = "handleID")]
    pub handle_id: String,
    /// Addresses by block CIDR.
    pub block: BTreeMap<String, u32>,
    /// True while a delete is under way.
    #[serde(default)]
    pub deleted: bool,
}
