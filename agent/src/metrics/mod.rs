//! What the agent counts, in the OpenMetrics text format.
//!
//! Two kinds. What has a state somewhere (sessions, routes, blocks, objects) is read at the time of the scrape from
//! where it lives, and kept nowhere else: a registry is filled anew each time. What only happens (requests, failed
//! watches) is counted where it happens, in [`Metrics`].
//!
//! Labels come from small fixed sets, or from the peers, of which only so many are told apart (`bgp`): a cluster of
//! any size costs a bounded number of series a node.

mod bgp;
mod cni;
mod datastore;
mod ipam;
mod kernel;
mod process;

use std::{fmt, sync::Arc, time::SystemTime};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use tokio::sync::watch;

pub use self::{cni::CniMetrics, datastore::WatchMetrics, ipam::IpamMetrics};
use crate::{
    attachments::Attachments,
    kernel::Kernel,
    reconciler::{Inputs, View},
};

/// What is counted as it happens. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Requests of the plugin.
    pub cni: CniMetrics,
    /// Requests to the allocator.
    pub ipam: IpamMetrics,
    /// Watches of the datastore.
    pub watch: WatchMetrics,
}

/// Answers a scrape.
#[derive(Debug, Clone)]
pub struct Scraper {
    /// This node.
    pub node: String,
    /// When the agent started.
    pub started: SystemTime,
    /// The counters.
    pub metrics: Metrics,
    /// What the agent knows of the datastore.
    pub inputs: Inputs,
    /// The record.
    pub attachments: Attachments,
    /// The kernel.
    pub kernel: Kernel,
    /// What the reconciler has done last.
    pub view: watch::Receiver<Arc<View>>,
}

impl Scraper {
    /// Everything, as it is now.
    ///
    /// # Errors
    /// Where a value does not encode.
    pub async fn scrape(&self) -> Result<String, fmt::Error> {
        let view = self.view.borrow().clone();
        let speaker = match &view.speaker {
            Some(speaker) => Some(speaker.status().await),
            None => None,
        };
        let kernel = self.kernel.status();
        let mut registry = Registry::default();
        process::register(&mut registry, self.started);
        let ours = registry.sub_registry_with_prefix("routelet");
        process::register_build(ours);
        if let Some(speaker) = &speaker {
            bgp::register(ours, speaker);
        }
        kernel::register(ours, &kernel);
        self.metrics.cni.register(ours);
        cni::register_attachments(ours, &self.attachments.table());
        self.metrics.ipam.register(ours);
        ipam::register_blocks(ours, &self.node, &self.inputs.affinities.borrow().all);
        self.metrics.watch.register(ours);
        datastore::register(ours, &self.inputs);
        let problems = view.desired.problems.len() + view.problems.len() + kernel.problems.len();
        gauge(
            ours,
            "problems",
            "Things that are not as the configuration asks, as `routectl node status` lists them",
            problems,
        );
        let mut text = String::new();
        text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

/// Registers a value that is there once.
fn gauge(registry: &mut Registry, name: &str, help: &str, value: usize) {
    let gauge: Gauge = Gauge::default();
    gauge.set(whole(value));
    registry.register(name, help, gauge);
}

/// Registers a count that is kept elsewhere.
fn counter(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let counter: Counter = Counter::default();
    counter.inc_by(value);
    registry.register(name, help, counter);
}

/// Registers values that differ by labels.
fn gauges<L>(registry: &mut Registry, name: &str, help: &str, values: impl IntoIterator<Item = (L, usize)>)
where
    L: EncodeLabelSet + Clone + std::hash::Hash + Eq + fmt::Debug + Send + Sync + 'static,
{
    let family = Family::<L, Gauge>::default();
    for (labels, value) in values {
        family.get_or_create(&labels).inc_by(whole(value));
    }
    registry.register(name, help, family);
}

/// Registers counts that are kept elsewhere and differ by labels.
fn counters<L>(registry: &mut Registry, name: &str, help: &str, values: impl IntoIterator<Item = (L, u64)>)
where
    L: EncodeLabelSet + Clone + std::hash::Hash + Eq + fmt::Debug + Send + Sync + 'static,
{
    let family = Family::<L, Counter>::default();
    for (labels, value) in values {
        family.get_or_create(&labels).inc_by(value);
    }
    registry.register(name, help, family);
}

fn whole(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
