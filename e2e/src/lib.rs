//! The Routelet lab: nodes, routers and pods as network namespaces on one machine, running the real binaries.
//!
//! A [`Lab`] is built from a [`Topology`]. Each node runs the `routelet` agent in a namespace of its own, all agents
//! share one `file:` datastore, each router runs BIRD, and a pod is attached exactly as a container runtime does it:
//! by executing `routelet-cni`. The library is what the tests in `tests/` drive; the binary `lab` is the same for
//! people.
//!
//! What this crate does not do: it imports no other crate of the workspace. It sees what a user sees, the binaries,
//! the datastore's files, the kernel and the other end's BGP table.

pub mod bird;
pub mod blocks;
pub mod capture;
pub mod cni;
pub mod containerd;
pub mod interrupt;
pub mod kube;
pub mod lab;
pub mod labdir;
pub mod manifests;
pub mod net;
pub mod node;
pub mod ping;
pub mod preflight;
pub mod process;
pub mod report;
pub mod router;
pub mod topology;
pub mod transfer;
pub mod uml;
pub mod wait;

pub use cni::{Attachment, CniOutput};
pub use lab::Lab;
pub use node::Node;
pub use router::Router;
pub use topology::Topology;
pub use wait::wait_for;
