//! Address management: who gets which address, on which node, out of which block.
//!
//! Two layers. The *pure core* knows the rules and does no IO: [`block`] (a block's addresses), [`pool`] (which
//! pools a node may use and which blocks they have), [`reservation`], [`names`], [`report`], [`check`]. Around it, [`Allocator`] reads and writes the objects
//! of the datastore, where any number of nodes do the same at once.
//!
//! What this crate does not do: it watches nothing, routes nothing and decides nothing about pods.

pub mod allocator;
pub mod block;
pub mod check;
pub mod error;
pub mod names;
pub mod pool;
pub mod report;
pub mod reservation;
#[cfg(feature = "testing")]
pub mod testing;

pub use allocator::{Allocator, AssignRequest, Assigned, Environment};
pub use error::{Error, Exhausted, InvalidRequest, Result};
