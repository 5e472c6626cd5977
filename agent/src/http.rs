//! A small HTTP/1.1 server, for probes and metrics.
//!
//! It serves whoever can reach the address it is bound to, without authentication, so what it is given to serve must
//! not be secret and must change nothing. One request a connection; connections, their size and their time are
//! bounded, so that a stranger costs no more than the probe that has to wait for its turn.
//!
//! What it does not do: request bodies, keep-alive, TLS. What is there to be had is in [`crate::endpoint`].

use std::{convert::Infallible, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// Octets of a request that are held.
const MAX_REQUEST: usize = 8 << 10;

/// Content type of text for people.
pub const TEXT: &str = "text/plain; charset=utf-8";

/// What strangers may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections served at once; the next one waits in the kernel's queue.
    pub concurrent: usize,
    /// How long a connection may take, from its first octet to the last of the answer.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            concurrent: 32,
            patience: Duration::from_secs(10),
        }
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// What the body is.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

impl Answer {
    /// Text for people.
    pub fn text(status: StatusCode, body: impl Into<String>) -> Self {
        Answer {
            status,
            content_type: TEXT,
            body: body.into(),
        }
    }
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was given is no address.
    #[error("\"{0}\" is not ADDRESS:PORT (as 127.0.0.1:9179 or [::1]:9179), and not `none`")]
    Address(String),
    /// The address is not to be had.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// Listens on what `--http-listen` says: an address, or nothing or `none` for no server.
///
/// # Errors
/// [`Error`].
pub async fn listen(text: &str) -> Result<Option<TcpListener>, Error> {
    if matches!(text, "" | "none") {
        return Ok(None);
    }
    let address: SocketAddr = text.parse().map_err(|_| Error::Address(text.to_string()))?;
    let listener = TcpListener::bind(address).await;
    listener
        .map(Some)
        .map_err(|source| Error::Listen { address, source })
}

/// Serves until `stop`. `answer` gets the path of a GET.
pub async fn serve<A, F>(listener: TcpListener, limits: Limits, stop: CancellationToken, answer: A)
where
    A: Fn(String) -> F + Send + Sync + 'static,
    F: Future<Output = Answer> + Send,
{
    let answer = Arc::new(answer);
    let places = Arc::new(Semaphore::new(limits.concurrent));
    while let Ok(place) = places.clone().acquire_owned().await {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors: give those that are served time to end.
                tracing::warn!(%error, "cannot accept an HTTP connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let answer = answer.clone();
        tokio::spawn(async move {
            if timeout(limits.patience, converse(stream, &*answer))
                .await
                .is_err()
            {
                tracing::debug!("an HTTP client took too long");
            }
            drop(place);
        });
    }
}

async fn converse<F: Future<Output = Answer>>(stream: TcpStream, answer: &impl Fn(String) -> F) {
    let service = service_fn(|request: Request<Incoming>| async move {
        Ok::<_, Infallible>(match *request.method() {
            Method::GET | Method::HEAD => response(answer(request.uri().path().to_string()).await),
            _ => refusal(),
        })
    });
    let served = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(MAX_REQUEST)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an HTTP connection failed");
    }
}

fn refusal() -> Response<Full<Bytes>> {
    let mut refusal = response(Answer::text(
        StatusCode::METHOD_NOT_ALLOWED,
        "only GET and HEAD\n",
    ));
    refusal
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    refusal
}

fn response(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
