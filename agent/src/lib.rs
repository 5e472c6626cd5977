//! The node agent: it watches the datastore, computes what the node should look like, and makes the kernel and the
//! BGP speaker agree with it; it serves the CNI plugin and `routectl`.

pub mod admin;
pub mod delta;
pub mod kernel;
