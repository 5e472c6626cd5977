//! The process: which build it is, and since when it runs.

use std::time::SystemTime;

use prometheus_client::{
    metrics::{gauge::ConstGauge, info::Info},
    registry::{Registry, Unit},
};

pub(super) fn register(registry: &mut Registry, started: SystemTime) {
    let since = started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    registry.register_with_unit(
        "process_start_time",
        "Start of the process, since 1970",
        Unit::Seconds,
        ConstGauge::new(since.as_secs_f64()),
    );
}

pub(super) fn register_build(registry: &mut Registry) {
    let build = vec![
        ("version", env!("CARGO_PKG_VERSION")),
        ("architecture", std::env::consts::ARCH),
    ];
    registry.register("build", "This build", Info::new(build));
}
