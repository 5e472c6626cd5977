//! An answer that is no success, and the [`Error`] it becomes.

use std::{error::Error as StdError, io, time::Duration};

use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;

use super::call::{Call, Verb};
use crate::{
    Error, FieldError, Resource,
    object::{full_name, refused},
    types::Namespace as NamespaceKind,
};

/// Why a call failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server was not reached, or no whole answer came.
    Unreachable(io::Error),
    /// The server said no.
    Refused(Box<Refusal>),
}

/// The server's no.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: u16,
    pub(super) status: Status,
    /// How long the server asks to be left alone.
    pub(super) retry_after: Option<Duration>,
}

/// `Status` of `k8s.io/apimachinery`: the part that we look at.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub(super) message: String,
    pub(super) reason: String,
    pub(super) code: u16,
    pub(super) details: Option<Details>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Details {
    name: String,
    kind: String,
    causes: Vec<Cause>,
    retry_after_seconds: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Cause {
    reason: String,
    message: String,
    field: String,
}

impl Refusal {
    /// Reads an answer. What is no `Status` (a proxy's page) becomes its message, cut short.
    pub(super) fn new(code: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let status = serde_json::from_slice::<Status>(body).unwrap_or_else(|_| Status {
            message: String::from_utf8_lossy(body).trim().chars().take(200).collect(),
            ..Status::default()
        });
        let seconds = headers
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.parse().ok());
        Refusal {
            retry_after: seconds.map(Duration::from_secs),
            ..Refusal::of_status(code.as_u16(), status)
        }
    }

    /// The refusal in a watch's event of type ERROR.
    pub(super) fn of_status(code: u16, status: Status) -> Self {
        let seconds = status
            .details
            .as_ref()
            .map_or(0, |details| details.retry_after_seconds);
        Refusal {
            code,
            status,
            retry_after: (seconds > 0).then(|| Duration::from_secs(seconds)),
        }
    }

    fn details(&self) -> (&str, &str) {
        let details = self.status.details.as_ref();
        details.map_or(("", ""), |details| (details.kind.as_str(), details.name.as_str()))
    }

    /// What is wrong with the object that was sent.
    fn field_error(&self) -> FieldError {
        let causes = self.status.details.as_ref().map(|details| &details.causes);
        match causes.and_then(|causes| causes.iter().find(|cause| !cause.field.is_empty())) {
            Some(cause) => FieldError::new(&cause.field, &cause.message),
            None => FieldError::new("", self.text()),
        }
    }

    fn text(&self) -> String {
        if self.status.message.is_empty() {
            format!("HTTP status {}", self.code)
        } else {
            format!("{} (HTTP status {})", self.status.message, self.code)
        }
    }
}

impl Failure {
    pub(super) fn timed_out(limit: Duration) -> Self {
        let text = format!("no answer within {} s", limit.as_secs_f32());
        Failure::Unreachable(io::Error::new(io::ErrorKind::TimedOut, text))
    }

    pub(super) fn unreachable(error: &(dyn StdError + 'static)) -> Self {
        Failure::Unreachable(io::Error::other(chain(error)))
    }

    /// True where the version asked for is no longer known, or is one that the server has never given (its data was
    /// restored from a backup).
    pub(super) fn needs_relist(&self) -> bool {
        let Failure::Refused(refusal) = self else {
            return false;
        };
        let causes = refusal.status.details.as_ref().map(|details| &details.causes);
        let unknown_version = causes.is_some_and(|causes| {
            causes
                .iter()
                .any(|cause| cause.reason == "ResourceVersionTooLarge")
        });
        let text = &refusal.status.message;
        refusal.code == 410
            || matches!(refusal.status.reason.as_str(), "Expired" | "Gone")
            || unknown_version
            || text.contains("Too large resource version")
            || text.contains("nvalid resource version")
    }

    /// How long the server asks to be left alone, where it throttles.
    pub(super) fn throttled(&self) -> Option<Duration> {
        match self {
            Failure::Refused(refusal) if refusal.code == 429 => {
                Some(refusal.retry_after.unwrap_or(Duration::ZERO))
            }
            _ => None,
        }
    }

    /// True where the server knows no such kind in that version of its API.
    pub(super) fn is_unknown_kind(&self, call: &Call) -> bool {
        match self {
            Failure::Refused(refusal) if refusal.code == 404 => {
                let (kind, name) = refusal.details();
                // Of an object that is missing the server says the name; of a kind that is missing it does not.
                name.is_empty() || (call.name.is_empty() && kind != NamespaceKind::KIND.plural)
            }
            _ => false,
        }
    }

    /// The error that a caller of the datastore gets.
    pub(super) fn into_error(self, call: &Call, server: &str) -> Error {
        let unknown_kind = self.is_unknown_kind(call);
        let refusal = match self {
            Failure::Unreachable(source) => {
                let source = io::Error::new(source.kind(), format!("{server}: {source}"));
                return unavailable(call, source);
            }
            Failure::Refused(refusal) => refusal,
        };
        let kind = call.kind.kind;
        let name = full_name(&call.namespace, &call.name);
        match refusal.code {
            401 => Error::Unauthorized {
                server: server.to_string(),
                message: refusal.text(),
            },
            403 => Error::Forbidden {
                verb: call.verb.as_str(),
                resource: call.resource(),
                name,
                message: refusal.status.message,
            },
            404 if unknown_kind => Error::UnknownKind {
                kind,
                resource: call.resource(),
            },
            404 => match refusal.details() {
                (place, namespace) if place == NamespaceKind::KIND.plural && !call.namespace.is_empty() => {
                    Error::NotFound {
                        kind: NamespaceKind::KIND.kind,
                        name: namespace.to_string(),
                    }
                }
                _ => Error::NotFound { kind, name },
            },
            409 if refusal.status.reason == "AlreadyExists" => Error::AlreadyExists {
                kind,
                name: object_name(call),
            },
            409 => Error::Conflict {
                kind,
                name,
                expected: "what the caller read".to_string(),
                found: refusal.text(),
            },
            400 | 405 | 413 | 415 | 422 => refused(call.kind, &object_name(call), refusal.field_error()),
            _ => unavailable(call, io::Error::other(format!("{server}: {}", refusal.text()))),
        }
    }
}

/// The name of the object a call is about, also where the URL of its verb has none.
fn object_name(call: &Call) -> String {
    match (&call.verb, &call.body) {
        (Verb::Create, Some(body)) => crate::object::full_name_of(body),
        _ => full_name(&call.namespace, &call.name),
    }
}

fn unavailable(call: &Call, source: io::Error) -> Error {
    let target = match object_name(call) {
        // About many: of all namespaces, or of one.
        name if name.is_empty() || name.ends_with('/') => call.resource(),
        name => format!("{} \"{name}\"", call.kind.kind),
    };
    Error::Unavailable {
        action: call.verb.as_str(),
        target,
        source,
    }
}

/// An error and its causes in one line; a cause that its effect has already told is left out.
pub(super) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}
