//! The resource types Routelet works with, and the places they can live.
//!
//! One interface, [`Store`], serves every backend: a directory of YAML manifests (`file:DIR`, [`mod@file`]) or the
//! Kubernetes API (`kubernetes`, [`mod@kube`]). It offers what the Kubernetes API offers and nothing more: list, watch, get, create,
//! compare-and-swap update, and delete with preconditions. What is built on it (IPAM, the agent, `routectl`) is
//! written once.
//!
//! What this crate does not do: it knows nothing of addresses being handed out, of BGP or of the kernel.

pub mod crd;
pub mod documents;
pub mod error;
pub mod file;
mod kinds;
pub mod kube;
mod merge;
pub mod meta;
mod object;
pub mod resource;
mod selection;
pub mod selector;
pub mod store;
pub mod types;

pub use documents::Document;
pub use error::{Error, Invalid, Result};
pub use file::to_yaml;
pub use kinds::{find_kind, kinds};
pub use meta::Metadata;
pub use resource::{FieldError, KindInfo, Resource};
pub use selection::WatchOptions;
pub use selector::{Selector, SelectorError};
pub use store::{Backend, DeleteOptions, RawEvent, Store, WatchEvent};
