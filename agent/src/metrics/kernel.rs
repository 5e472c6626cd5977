//! Routes in the kernel, from the kernel task's own status.

use prometheus_client::registry::Registry;

use super::{counter, gauge};
use crate::kernel::KernelStatus;

pub(super) fn register(registry: &mut Registry, status: &KernelStatus) {
    let registry = registry.sub_registry_with_prefix("kernel");
    let gauges = [
        ("routes_desired", "Routes there should be", status.desired),
        (
            "routes_installed",
            "Those of them that are in the kernel as desired",
            status.installed,
        ),
        ("routes_pending", "Those of them that are not", status.pending),
        (
            "routes_stale",
            "Routes of ours that nobody desires: held, or about to be deleted",
            status.stale,
        ),
        (
            "routes_conflicting",
            "Pending because a route of somebody else's has the same key",
            status.foreign_conflicts,
        ),
        (
            "routes_refused",
            "Pending because the kernel refused them",
            status.errors,
        ),
    ];
    for (name, help, value) in gauges {
        gauge(registry, name, help, value);
    }
    let counters = [
        (
            "route_repairs",
            "Times a route that somebody else changed was put back",
            status.repairs,
        ),
        ("resyncs", "Times the kernel was read as a whole", status.resyncs),
        (
            "event_overruns",
            "Times events of the kernel were lost",
            status.overruns,
        ),
    ];
    for (name, help, value) in counters {
        counter(registry, name, help, value);
    }
}
