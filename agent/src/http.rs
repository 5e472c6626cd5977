//! The HTTP endpoint of probes and metrics: `/livez`, `/readyz`, `/metrics`.
//!
//! It serves whoever can reach the address it is bound to, without authentication, so it tells nothing that is
//! secret and changes nothing. One request a connection; connections, their size and their time are bounded, so that
//! a stranger costs no more than the probe that has to wait for its turn.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Bytes, Incoming},
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE},
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

use crate::{
    health::{Health, Report},
    metrics::Scraper,
};

/// Connections served at once; the next one waits in the kernel's queue.
const CONCURRENT: usize = 32;
/// How long a connection may take, from its first octet to the last of the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Octets of a request, body included.
const MAX_REQUEST: usize = 8 << 10;

const TEXT: &str = "text/plain; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the endpoint answers from.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// For the probes.
    pub health: Health,
    /// For the metrics.
    pub scraper: Scraper,
}

/// Why the endpoint cannot be had.
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
        source: io::Error,
    },
}

/// Listens on what `--http-listen` says: an address, or nothing or `none` for no endpoint.
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

/// Serves until `stop`.
pub async fn serve(listener: TcpListener, endpoint: Endpoint, stop: CancellationToken) {
    let endpoint = Arc::new(endpoint);
    let places = Arc::new(Semaphore::new(CONCURRENT));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
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
        let endpoint = endpoint.clone();
        tokio::spawn(async move {
            if timeout(PATIENCE, converse(stream, &endpoint)).await.is_err() {
                tracing::debug!("an HTTP client took too long");
            }
            drop(place);
        });
    }
}

async fn converse(stream: TcpStream, endpoint: &Endpoint) {
    let service = service_fn(|request: Request<Incoming>| async move {
        Ok::<_, Infallible>(endpoint.answer(&request).await)
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

impl Endpoint {
    async fn answer<B: Body>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refusal = response(
                StatusCode::METHOD_NOT_ALLOWED,
                TEXT,
                "only GET and HEAD\n".to_string(),
            );
            refusal
                .headers_mut()
                .insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
            return refusal;
        }
        match request.uri().path() {
            "/livez" => probe(&self.health.live()),
            "/readyz" => probe(&self.health.ready().await),
            "/metrics" => match self.scraper.scrape().await {
                Ok(text) => response(StatusCode::OK, OPEN_METRICS, text),
                Err(error) => response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
            },
            _ => response(
                StatusCode::NOT_FOUND,
                TEXT,
                "there are /livez, /readyz and /metrics\n".to_string(),
            ),
        }
    }
}

fn probe(report: &Report) -> Response<Full<Bytes>> {
    let status = if report.is_good() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    response(status, TEXT, report.to_string())
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        hyper::header::HeaderValue::from_static(content_type),
    );
    headers.insert(CACHE_CONTROL, hyper::header::HeaderValue::from_static("no-store"));
    response
}
