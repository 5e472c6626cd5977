//! The datastore may take its time, or never answer; the plugin does not wait for ever. What takes too long counts as a
//! datastore that is away.

use std::{io, time::Duration};

use datastore::Error;
use tokio::time::timeout;

/// For the addresses of an ADD. The plugin waits a little longer, so that it can say what the matter is.
pub(super) const ADD_LIMIT: Duration = Duration::from_secs(25);
/// For a release; after that it waits in the record, and the runtime goes on.
pub(super) const RELEASE_LIMIT: Duration = Duration::from_secs(5);

/// Does work of the allocator's within a limit. Given up half way it is like a crash, which the allocator stands.
pub(super) async fn within<T>(
    limit: Duration,
    work: impl Future<Output = ipam::Result<T>>,
) -> ipam::Result<T> {
    timeout(limit, work).await.unwrap_or_else(|_| {
        let text = format!("no answer within {} s", limit.as_secs());
        Err(ipam::Error::Datastore(Error::Unavailable {
            action: "use",
            target: "the datastore".to_string(),
            source: io::Error::new(io::ErrorKind::TimedOut, text),
        }))
    })
}

/// True where nothing is wrong with the request, and the datastore cannot be asked.
pub(super) fn is_away(error: &ipam::Error) -> bool {
    matches!(error, ipam::Error::Datastore(Error::Unavailable { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_never_ends_counts_as_a_datastore_that_is_away() {
        let never = std::future::pending::<ipam::Result<()>>();
        let error = within(RELEASE_LIMIT, never).await.expect_err("it never ends");
        assert!(is_away(&error), "{error}");
        assert!(error.to_string().contains("no answer within 5 s"), "{error}");
        assert!(within(RELEASE_LIMIT, async { Ok(()) }).await.is_ok());
    }
}
