//! Tests of the BGP message codec, through its public interface only.

// Clippy knows test functions as tests, but not the helpers beside them.
#![allow(clippy::unwrap_used)]

mod framing;
mod notification;
mod open;
mod oracle;
mod packing;
mod rfc7606;
mod robustness;
mod round_trip;
mod strategies;
mod support;
mod update;
