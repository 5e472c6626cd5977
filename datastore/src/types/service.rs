//! `Service` and `EndpointSlice` of Kubernetes: the part that announcing service addresses needs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Metadata, Resource};

/// The label that ties an [`EndpointSlice`] to its service.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// A service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// `v1`.
    pub api_version: String,
    /// `Service`.
    pub kind: String,
    /// Metadata.
    #[serde(default)]
    pub metadata: Metadata,
    /// Spec.
    #[serde(default)]
    pub spec: ServiceSpec,
    /// Status.
    #[serde(default)]
    pub status: ServiceStatus,
}

super::resource!(Service, "", "Service", "services", namespaced: true);

impl Service {
    /// A service to be created.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Service {
            api_version: Self::KIND.api_version(),
            kind: "Service".to_string(),
            metadata: Metadata::namespaced(namespace, name),
            spec: ServiceSpec::default(),
            status: ServiceStatus::default(),
        }
    }
}

/// Spec of a [`Service`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    /// `ClusterIP`, `NodePort`, `LoadBalancer`, `ExternalName`; absent means ClusterIP.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub service_type: Option<String>,
    /// Address in the cluster; `None` for a headless service.
    #[serde(rename = "clusterIP", skip_serializing_if = "Option::is_none")]
    pub cluster_ip: Option<String>,
    /// Addresses in the cluster, of both families.
    #[serde(rename = "clusterIPs", skip_serializing_if = "Vec::is_empty")]
    pub cluster_ips: Vec<String>,
    /// Addresses from outside.
    #[serde(rename = "externalIPs", skip_serializing_if = "Vec::is_empty")]
    pub external_ips: Vec<String>,
    /// Address asked of the load balancer.
    #[serde(rename = "loadBalancerIP", skip_serializing_if = "Option::is_none")]
    pub load_balancer_ip: Option<String>,
    /// `Cluster` or `Local`; absent means Cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<String>,
}

/// Status of a [`Service`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceStatus {
    /// What the load balancer gave.
    pub load_balancer: LoadBalancerStatus,
}

/// What a load balancer gave.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LoadBalancerStatus {
    /// Addresses and names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<LoadBalancerIngress>,
}

/// An address of a load balancer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LoadBalancerIngress {
    /// The address, unless it is a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
}

/// Some of a service's endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSlice {
    /// `discovery.k8s.io/v1`.
    pub api_version: String,
    /// `EndpointSlice`.
    pub kind: String,
    /// Metadata; the label [`SERVICE_NAME_LABEL`] says whose it is.
    #[serde(default)]
    pub metadata: Metadata,
    /// `IPv4`, `IPv6` or `FQDN`.
    pub address_type: String,
    /// The endpoints.
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
}

super::resource!(EndpointSlice, "discovery.k8s.io", "EndpointSlice", "endpointslices", namespaced: true);

impl EndpointSlice {
    /// A slice of a service's IPv4 endpoints, to be created.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>, service: impl Into<String>) -> Self {
        let mut metadata = Metadata::namespaced(namespace, name);
        metadata
            .labels
            .insert(SERVICE_NAME_LABEL.to_string(), service.into());
        EndpointSlice {
            api_version: Self::KIND.api_version(),
            kind: "EndpointSlice".to_string(),
            metadata,
            address_type: "IPv4".to_string(),
            endpoints: Vec::new(),
        }
    }
}

/// An endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoint {
    /// Its addresses.
    pub addresses: Vec<String>,
    /// How it is.
    pub conditions: EndpointConditions,
    /// The node it is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
}

impl Endpoint {
    /// True where traffic may be sent to it; an unknown state counts as ready.
    pub fn is_ready(&self) -> bool {
        self.conditions.ready.unwrap_or(true)
    }
}

/// How an endpoint is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct EndpointConditions {
    /// New traffic may be sent to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
    /// It serves, perhaps while it terminates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serving: Option<bool>,
    /// It terminates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminating: Option<bool>,
}
