//! The admin socket: what `routectl` and the person on call ask the agent.

pub mod types;
