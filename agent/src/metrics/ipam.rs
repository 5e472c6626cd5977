//! Requests to the allocator, and the blocks that this node owns.

use std::collections::BTreeMap;

use datastore::types::{AffinityState, BlockAffinity};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::gauges;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    operation: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByState {
    state: &'static str,
}

/// Counts requests.
#[derive(Debug, Clone, Default)]
pub struct IpamMetrics {
    requests: Family<Request, Counter>,
}

impl IpamMetrics {
    /// Counts an assignment.
    pub fn assigned<T>(&self, outcome: &ipam::Result<T>) {
        self.count("assign", outcome);
    }

    /// Counts a release.
    pub fn released<T>(&self, outcome: &ipam::Result<T>) {
        self.count("release", outcome);
    }

    fn count<T>(&self, operation: &'static str, outcome: &ipam::Result<T>) {
        let result = match outcome {
            Ok(_) => "ok",
            Err(ipam::Error::Conflict { .. }) => "conflict",
            Err(ipam::Error::Exhausted(_)) => "exhausted",
            Err(ipam::Error::Invalid(_)) => "invalid",
            Err(ipam::Error::Block(_)) => "damaged_block",
            Err(ipam::Error::Datastore(_)) => "datastore",
        };
        self.requests.get_or_create(&Request { operation, result }).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("ipam");
        registry.register(
            "requests",
            "Assignments and releases of addresses, by result",
            self.requests.clone(),
        );
    }
}

pub(super) fn register_blocks(
    registry: &mut Registry,
    node: &str,
    affinities: &BTreeMap<String, BlockAffinity>,
) {
    let own = || affinities.values().filter(|affinity| affinity.spec.node == node);
    let count = |state| own().filter(|affinity| affinity.spec.state == state).count();
    let states = [
        (ByState { state: "confirmed" }, count(AffinityState::Confirmed)),
        (ByState { state: "pending" }, count(AffinityState::Pending)),
        (
            ByState {
                state: "pendingDeletion",
            },
            count(AffinityState::PendingDeletion),
        ),
    ];
    let registry = registry.sub_registry_with_prefix("ipam");
    gauges(
        registry,
        "blocks",
        "Blocks that this node owns, by the state of its claim",
        states,
    );
}
