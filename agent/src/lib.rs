//! The node agent: it watches the datastore, computes what the node should look like, and makes the kernel and the
//! BGP speaker agree with it; it serves the CNI plugin and `routectl`.
//!
//! Data flows one way: [`cache`] -> [`snapshot`] -> [`mod@desired`] -> [`delta`] -> [`kernel`] and BGP, driven by the
//! [`reconciler`]. Beside it stand the two servers, [`cni_server`] and [`admin`], and the record of what the plugin
//! has attached, [`attachments`].

pub mod admin;
pub mod attachments;
pub mod cache;
pub mod claims;
pub mod cli;
pub mod cni_server;
pub mod config;
pub mod delta;
pub mod desired;
pub mod endpoint;
pub mod frame;
pub mod health;
pub mod http;
pub mod install;
pub mod kernel;
pub mod locks;
pub mod metrics;
pub mod node;
pub mod reconciler;
pub mod snapshot;
pub mod socket;
pub mod tunnel;
