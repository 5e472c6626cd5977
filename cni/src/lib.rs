//! What the CNI plugin and the agent share: the request and reply of the CNI socket ([`protocol`]) and the rule
//! that names a pod's host-side device ([`veth`]).
//!
//! The plugin itself is the binary `routelet-cni` of this crate.

pub mod protocol;
pub mod veth;
