//! The Routelet BGP speaker: a sans-IO core and a thin tokio driver.
//!
//! - [`wire`]: messages, bytes to values and back.
//! - `fsm`: the state machine of RFC 4271, one for each connection.
//! - `rib`: the routing tables, the decision process and what may be told to whom.
//! - [`SpeakerCore`]: peers and tables together, without sockets and without a clock.
//! - `Speaker` and `RouteFeed` (feature `driver`): the same with sockets, as one task and two handles.
//!
//! It does not know where routes come from or what a kernel is: whoever uses it says what to originate and takes
//! the best learned routes.

mod config;
#[cfg(feature = "driver")]
mod driver;
mod fsm;
mod password;
mod rib;
mod speaker;
mod status;
mod timers;
pub mod types;
pub mod wire;

pub use config::{
    BGP_PORT, ConfigError, LocalRoute, NextHopMode, NextHopState, PeerConfig, Shutdown, SpeakerConfig,
};
#[cfg(feature = "driver")]
pub use driver::{RouteFeed, Speaker, StartError};
pub use fsm::{ConnId, SessionState};
pub use password::{Password, PasswordError};
pub use rib::decision::{DecisionStep, Ineligible, Verdict};
pub use rib::export::NotSent;
pub use speaker::{ConnectRequest, Output, SpeakerCore, Transmit};
pub use status::*;
pub use types::{Asn, Family, RouterId};
