//! `IPReservation`: addresses that IPAM never hands out by itself.

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    rules,
    values::{Network, networks},
};
use crate::{FieldError, Metadata};

/// Addresses that IPAM never hands out by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IpReservation {
    /// `crd.projectcalico.org/v1`.
    pub api_version: String,
    /// `IPReservation`.
    pub kind: String,
    /// Metadata.
    #[serde(default)]
    pub metadata: Metadata,
    /// What is reserved.
    pub spec: IpReservationSpec,
}

super::calico_resource!(
    IpReservation,
    IpReservationSpec,
    "IPReservation",
    "ipreservations",
    validate: validate
);

/// Spec of an [`IpReservation`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IpReservationSpec {
    /// Networks and addresses, of both families.
    #[serde(default, rename = "reservedCIDRs", deserialize_with = "networks")]
    #[schemars(with = "Vec<Network>")]
    pub reserved_cidrs: Vec<IpNet>,
}

fn validate(object: &IpReservation) -> Result<(), FieldError> {
    for (at, cidr) in object.spec.reserved_cidrs.iter().enumerate() {
        rules::masked(format!("spec.reservedCIDRs[{at}]"), cidr)?;
    }
    Ok(())
}
