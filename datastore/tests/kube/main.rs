//! The `kubernetes` backend against a real etcd and kube-apiserver, with real proxies between where trouble is wanted.
//!
//! They are found as `e2e::kube` says; where they are missing every test here fails and says how to get them.

#[path = "../conformance/mod.rs"]
mod conformance;
mod errors;
mod objects;
mod proxy;
mod rules;
mod support;
mod throttling;
mod trouble;
mod watches;
