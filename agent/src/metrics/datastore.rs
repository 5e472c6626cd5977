//! Watches of the datastore, and what they have brought.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use tokio::sync::watch;

use super::gauges;
use crate::{cache::Objects, reconciler::Inputs};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByKind {
    kind: &'static str,
}

/// Counts what happens to watches.
#[derive(Debug, Clone, Default)]
pub struct WatchMetrics {
    errors: Family<ByKind, Counter>,
    restarts: Family<ByKind, Counter>,
}

impl WatchMetrics {
    /// A watch has failed; it goes on by itself.
    pub fn failed(&self, kind: &'static str) {
        self.errors.get_or_create(&ByKind { kind }).inc();
    }

    /// A watch has started, or started anew: the whole state was read.
    pub fn restarted(&self, kind: &'static str) {
        self.restarts.get_or_create(&ByKind { kind }).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("datastore");
        registry.register("watch_errors", "Failures of a watch", self.errors.clone());
        registry.register(
            "watch_restarts",
            "Times a watch has read the whole state; the first time is one of them",
            self.restarts.clone(),
        );
    }
}

struct Known {
    kind: ByKind,
    synced: bool,
    usable: usize,
    invalid: usize,
}

fn known<T>(kind: &'static str, objects: &watch::Receiver<Objects<T>>) -> Known {
    let objects = objects.borrow();
    Known {
        kind: ByKind { kind },
        synced: objects.synced,
        usable: objects.all.len(),
        invalid: objects.invalid.len(),
    }
}

pub(super) fn register(registry: &mut Registry, inputs: &Inputs) {
    let kinds = [
        known("Node", &inputs.nodes),
        known("IPPool", &inputs.pools),
        known("BlockAffinity", &inputs.affinities),
        known("BGPConfiguration", &inputs.bgp_configurations),
        known("BGPPeer", &inputs.bgp_peers),
        known("Secret", &inputs.secrets),
    ];
    let values =
        |value: fn(&Known) -> usize| kinds.iter().map(move |known| (known.kind.clone(), value(known)));
    let registry = registry.sub_registry_with_prefix("datastore");
    gauges(
        registry,
        "synced",
        "1 once the first full list of the kind has arrived",
        values(|known| usize::from(known.synced)),
    );
    gauges(
        registry,
        "objects",
        "Objects that are in use",
        values(|known| known.usable),
    );
    gauges(
        registry,
        "invalid_objects",
        "Objects that cannot be used as they are",
        values(|known| known.invalid),
    );
}
