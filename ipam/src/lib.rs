//! Address management: who gets which address, on which node, out of which block.
//!
//! Two layers. The *pure core* knows the rules and does no IO: [`block`] (a block's addresses), [`pool`] (which
//! pools a node may use and which blocks they have), [`reservation`], [`names`], [`report`].
//!
//! What this crate does not do: it watches nothing, routes nothing and decides nothing about pods.

pub mod block;
pub mod names;
pub mod report;
pub mod reservation;
