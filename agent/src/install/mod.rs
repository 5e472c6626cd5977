//! What the agent puts into a container runtime's two directories: the plugin, and the configuration that names it.
//!
//! Two steps, by two processes, because they may be days apart. `routelet install-cni` copies the plugin before the
//! agent runs ([`plugin`]); it writes nothing else. The running agent writes the configuration once it can serve pods
//! ([`conflist`]): that file is what makes the kubelet call a node ready. It stays when the agent is stopped, so that
//! a restart does not make the node unready; `routelet uninstall-cni` removes it.
//!
//! Everything is atomic and durable ([`atomic`]): killed at any moment, what was there before is there, or what was
//! to come; the next run finishes the work. What belongs to somebody else is reported and never touched ([`others`]),
//! except Calico's configuration where the administrator says so, which is set aside and can be brought back.

pub mod atomic;
pub mod command;
pub mod conflist;
mod error;
pub mod others;
pub mod plugin;
pub mod publish;

pub use error::Error;

/// Where runtimes look for plugins.
pub const DEFAULT_BIN_DIR: &str = "/opt/cni/bin";
/// Where runtimes look for configurations.
pub const DEFAULT_CONF_DIR: &str = "/etc/cni/net.d";
