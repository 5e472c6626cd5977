//! The CNI plugin `routelet-cni`, and what it shares with the agent.
//!
//! Shared: the request and reply of the CNI socket ([`protocol`]), the rules that name and label a pod's host-side
//! device ([`veth`]), and the DELs that wait on disk for an agent that was away ([`pending`]).
//!
//! The plugin itself is [`plugin`]; the binary only calls it. It is synchronous and has one thread, because it
//! moves between network namespaces, starts no process, and speaks to the kernel in a handful of system calls.
//! It knows no cluster: addresses come from the agent.

mod netlink;
pub mod pending;
pub mod plugin;
pub mod protocol;
pub mod veth;
