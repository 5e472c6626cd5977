//! The resource types, one file a kind, in the JSON shape of `crd.projectcalico.org/v1` and of Kubernetes.

mod affinity;
mod bgp_configuration;
mod bgp_filter;
mod bgp_peer;
mod block;
mod handle;
mod ipam_config;
mod node;
mod pod;
mod pool;
mod reservation;
mod rules;
mod secret;
mod service;
#[cfg(test)]
mod tests;
mod values;

pub use affinity::{AffinityState, BlockAffinity, BlockAffinitySpec};
pub use bgp_configuration::{
    BgpConfiguration, BgpConfigurationSpec, BindMode, NamedCommunity, PrefixAdvertisement,
    ServiceAggregation, ServiceIpBlock,
};
pub use bgp_filter::{
    AddCommunity, BgpFilter, BgpFilterSpec, CommunityMatch, FilterAction, FilterOperation, FilterPeerType,
    FilterRule, FilterSource, MatchOperator, PrefixLength, PrependAsPath, SetPriority,
};
pub use bgp_peer::{BgpPeer, BgpPeerSpec, NextHopMode, ReversePeering, SourceAddress};
pub use block::{AllocationAttribute, IpamBlock, IpamBlockSpec};
pub use handle::{IpamHandle, IpamHandleSpec};
pub use ipam_config::{IpamConfig, IpamConfigSpec};
pub use node::{Node, NodeAddress, NodeSpec, NodeStatus, annotation};
pub use pod::{Namespace, Pod, PodIp, PodSpec, PodStatus};
pub use pool::{AllowedUse, AssignmentMode, EncapMode, IpPool, IpPoolSpec};
pub use reservation::{IpReservation, IpReservationSpec};
pub use secret::Secret;
pub use service::{
    Endpoint, EndpointConditions, EndpointSlice, LoadBalancerIngress, LoadBalancerStatus, SERVICE_NAME_LABEL,
    Service, ServiceSpec, ServiceStatus,
};
pub use values::{
    AsNumber, AsNumberError, Community, CommunityError, GoDuration, GoDurationError, Password, SecretKeyRef,
};

/// API group of Calico's custom resources.
pub const CALICO_GROUP: &str = "crd.projectcalico.org";

/// Implements [`crate::Resource`] for a struct with `api_version`, `kind` and `metadata` fields, and a
/// constructor `new(name, spec)` where the struct has a `spec`.
macro_rules! resource {
    ($type:ident, $group:expr, $kind:literal, $plural:literal, namespaced: $namespaced:literal
        $(, validate: $validate:path)? $(, validate_update: $validate_update:path)?) => {
        impl $crate::Resource for $type {
            const KIND: $crate::KindInfo = $crate::KindInfo {
                group: $group,
                version: "v1",
                kind: $kind,
                plural: $plural,
                namespaced: $namespaced,
                parse_yaml: $crate::resource::parse_yaml::<$type>,
                parse_json: $crate::resource::parse_json::<$type>,
                check_update: $crate::resource::check_update::<$type>,
            };
            fn metadata(&self) -> &$crate::Metadata {
                &self.metadata
            }
            fn metadata_mut(&mut self) -> &mut $crate::Metadata {
                &mut self.metadata
            }
            $(fn validate(&self) -> Result<(), $crate::FieldError> {
                $validate(self)
            })?
            $(fn validate_update(&self, old: &Self) -> Result<(), $crate::FieldError> {
                $validate_update(self, old)
            })?
        }
    };
}

/// The same, for a kind of Calico's that has a `spec`.
macro_rules! calico_resource {
    ($type:ident, $spec:ident, $kind:literal, $plural:literal
        $(, validate: $validate:path)? $(, validate_update: $validate_update:path)?) => {
        $crate::types::resource!($type, $crate::types::CALICO_GROUP, $kind, $plural, namespaced: false
            $(, validate: $validate)? $(, validate_update: $validate_update)?);
        impl $type {
            /// An object to be created.
            pub fn new(name: impl Into<String>, spec: $spec) -> Self {
                $type {
                    api_version: <$type as $crate::Resource>::KIND.api_version(),
                    kind: $kind.to_string(),
                    metadata: $crate::Metadata::named(name),
                    spec,
                }
            }
        }
    };
}
use calico_resource;
use resource;
