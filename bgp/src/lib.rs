//! The Routelet BGP speaker.

pub mod types;
pub mod wire;
