//! The admin socket: what `routectl` and the person on call ask the agent.
//!
//! [`types`] and [`client`] are all that `routectl` uses of this crate.

pub mod client;
pub mod server;
pub mod types;
