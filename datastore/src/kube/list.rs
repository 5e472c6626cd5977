//! Lists, page by page.

use serde_json::Value;

use super::{
    call::{Call, Verb},
    connection::Connection,
    convert,
    failure::Failure,
};
use crate::{KindInfo, Result, WatchOptions, object::metadata_of};

/// Page tokens may run out (the server forgets old states after some minutes) so many times in one list.
const RESTARTS: usize = 3;

/// A list, and the version from which a watch goes on.
pub(super) struct Listing {
    pub(super) objects: Vec<Value>,
    pub(super) version: String,
}

/// All usable objects of a kind, ordered by name.
pub(super) async fn list(connection: &Connection, kind: &'static KindInfo) -> Result<Vec<Value>> {
    let call = selecting(Verb::List, kind, &WatchOptions::default());
    let listing = read(connection, &call).await;
    let listing = listing.map_err(|failure| failure.into_error(&call, &connection.server))?;
    let mut usable = Vec::with_capacity(listing.objects.len());
    for raw in &listing.objects {
        match convert::parse(kind, raw) {
            Ok(object) => usable.push(object),
            Err(invalid) => tracing::warn!(error = %invalid, "left out of a list"),
        }
    }
    usable.sort_by(|a, b| place(a).cmp(&place(b)));
    Ok(usable)
}

/// A call about what is selected.
pub(super) fn selecting(verb: Verb, kind: &'static KindInfo, options: &WatchOptions) -> Call {
    let namespace = options.namespace.as_deref().unwrap_or_default();
    let mut call = Call::of_kind(verb, kind, namespace);
    let joined = |pairs: Vec<String>| pairs.join(",");
    if !options.fields.is_empty() {
        let fields = options
            .fields
            .iter()
            .map(|(path, value)| format!("{path}={value}"));
        call = call.query("fieldSelector", joined(fields.collect()));
    }
    if !options.labels.is_empty() {
        let labels = options
            .labels
            .iter()
            .map(|(label, value)| format!("{label}={value}"));
        call = call.query("labelSelector", joined(labels.collect()));
    }
    call
}

/// Reads a list to its end.
pub(super) async fn read(connection: &Connection, call: &Call) -> Result<Listing, Failure> {
    let mut restarts = 0;
    loop {
        // The last attempt is one page: nothing runs out in it.
        let page = if restarts < RESTARTS {
            connection.limits.page
        } else {
            0
        };
        match read_pages(connection, call, page).await {
            Err(failure) if failure.needs_relist() && restarts < RESTARTS => restarts += 1,
            other => return other,
        }
    }
}

async fn read_pages(connection: &Connection, call: &Call, page: usize) -> Result<Listing, Failure> {
    let mut objects = Vec::new();
    let mut token = String::new();
    loop {
        let mut call = call.clone();
        if page > 0 {
            call = call.query("limit", page.to_string());
        }
        if !token.is_empty() {
            call = call.query("continue", token);
        }
        let mut answer = connection.try_call(&call).await?;
        if let Some(Value::Array(items)) = answer.get_mut("items").map(Value::take) {
            objects.extend(items.into_iter().map(|raw| convert::from_server(call.kind, raw)));
        }
        token = metadata_of(&answer, "continue").to_string();
        if token.is_empty() {
            let version = metadata_of(&answer, "resourceVersion").to_string();
            return Ok(Listing { objects, version });
        }
    }
}

fn place(object: &Value) -> (&str, &str) {
    (metadata_of(object, "namespace"), metadata_of(object, "name"))
}
