//! Tests of the BGP message codec, through its public interface only.

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
