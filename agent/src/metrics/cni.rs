//! Requests of the plugin, and the pods that are attached.

use std::time::Duration;

use cni::protocol::{Reply, Verb, code};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::gauges;
use crate::attachments::{State, Table};

/// Upper ends of the histogram, in seconds: from what an ADD costs on an idle node to what a runtime waits.
const BUCKETS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    verb: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByVerb {
    verb: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByState {
    state: &'static str,
}

/// Counts requests.
#[derive(Debug, Clone)]
pub struct CniMetrics {
    requests: Family<Request, Counter>,
    durations: Family<ByVerb, Histogram, fn() -> Histogram>,
}

impl Default for CniMetrics {
    fn default() -> Self {
        CniMetrics {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
        }
    }
}

impl CniMetrics {
    /// The label of a verb.
    pub fn verb(verb: &Verb) -> &'static str {
        match verb {
            Verb::Add(_) => "ADD",
            Verb::Del(_) => "DEL",
            Verb::Status => "STATUS",
        }
    }

    /// Counts an answered request.
    pub fn answered(&self, verb: &'static str, reply: &Reply, duration: Duration) {
        let result = match reply {
            Reply::Ok(_) => "ok",
            Reply::Error(failure) => name(failure.code),
        };
        self.requests.get_or_create(&Request { verb, result }).inc();
        self.durations
            .get_or_create(&ByVerb { verb })
            .observe(duration.as_secs_f64());
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("cni");
        registry.register(
            "requests",
            "Requests of the plugin, by verb and result",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "request_duration",
            "Time from a request of the plugin to its answer",
            Unit::Seconds,
            self.durations.clone(),
        );
    }
}

pub(super) fn register_attachments(registry: &mut Registry, table: &Table) {
    let count = |state| {
        table
            .values()
            .filter(|attachment| attachment.state == state)
            .count()
    };
    let states = [
        (ByState { state: "active" }, count(State::Active)),
        (ByState { state: "releasing" }, count(State::Releasing)),
    ];
    gauges(
        registry,
        "attachments",
        "Interfaces of pods: in use, or gone with addresses that could not be released yet",
        states,
    );
}

/// A result's label.
fn name(of: u32) -> &'static str {
    match of {
        code::INCOMPATIBLE_VERSION => "incompatible_version",
        code::INVALID_ENVIRONMENT => "invalid_environment",
        code::IO_FAILURE => "io_failure",
        code::DECODING_FAILURE => "decoding_failure",
        code::INVALID_CONFIG => "invalid_config",
        code::TRY_AGAIN => "try_again",
        code::NOT_AVAILABLE => "not_available",
        code::EXHAUSTED => "exhausted",
        code::KERNEL => "kernel",
        code::INTERNAL => "internal",
        _ => "other",
    }
}
