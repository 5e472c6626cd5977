//! One HTTP client for all calls of a process.
//!
//! Connections are reused, and a host that is gone is noticed by TCP keepalive even where nothing is being said. A
//! call has a time limit. A server that throttles (429) has not begun to do what it was asked, so any call is asked
//! again, after the pause that the server asks for and for a bounded time; all other failures are the caller's.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bytes::Bytes;
use hyper_util::{
    client::legacy::{Client as HttpClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder, ConfigExt},
};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};
use tower::{BoxError, ServiceBuilder};

use super::{
    Limits,
    backoff::{Backoff, chance},
    call::Call,
    failure::{Failure, Refusal, chain},
};
use crate::{Error, KindInfo, Resource, Result, types::EndpointSlice};

/// The version of `EndpointSlice` that servers before Kubernetes 1.21 have.
const OLD_SLICES: &str = "v1beta1";
/// TCP keepalive: a dead host is noticed within about a minute.
const KEEPALIVE: Duration = Duration::from_secs(20);
const KEEPALIVE_PROBES: u32 = 4;

/// The API server.
pub(super) struct Connection {
    client: Client,
    pub(super) limits: Limits,
    pub(super) server: String,
    /// The server has been found to be before 1.21.
    old_slices: AtomicBool,
}

impl Connection {
    pub(super) fn new(config: Config, limits: Limits) -> Result<Self> {
        let server = config.cluster_url.to_string();
        let client = client(config, &limits).map_err(|error| Error::Kubeconfig {
            from: format!("the configuration for {server}"),
            source: chain(&error).into(),
        })?;
        Ok(Connection {
            client,
            limits,
            server: server.trim_end_matches('/').to_string(),
            old_slices: AtomicBool::new(false),
        })
    }

    /// Makes a call and gives the answer.
    pub(super) async fn call(&self, call: &Call) -> Result<Value> {
        let answer = self.try_call(call).await;
        answer.map_err(|failure| failure.into_error(call, &self.server))
    }

    /// The same for those who look at the failure.
    pub(super) async fn try_call(&self, call: &Call) -> Result<Value, Failure> {
        let body = self.open(call).await?;
        let bytes = self.within_limit(collect(body)).await?;
        serde_json::from_slice(&bytes).map_err(|e| unreachable(&e))
    }

    /// Makes a call whose answer comes bit by bit. Where the server throttles it asks again after a pause, until that
    /// has taken too long.
    pub(super) async fn open(&self, call: &Call) -> Result<Body, Failure> {
        let deadline = Instant::now() + self.limits.throttled;
        let mut backoff = Backoff::new(self.limits.first_pause, self.limits.longest_pause);
        loop {
            let failure = match self.negotiate(call).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let Some(asked) = failure.throttled() else {
                return Err(failure);
            };
            let pause = backoff.pause() + asked.mul_f64(1.0 + chance() / 4.0);
            if Instant::now() + pause > deadline {
                return Err(failure);
            }
            sleep(pause).await;
        }
    }

    /// Asks, and asks once more in the other version of a kind that has two.
    async fn negotiate(&self, call: &Call) -> Result<Body, Failure> {
        let old = self.old_slices.load(Ordering::Relaxed);
        let first = self.ask(call, version(call.kind, old)).await;
        match first {
            Err(failure) if has_two_versions(call.kind) && failure.is_unknown_kind(call) => {
                let second = self.ask(call, version(call.kind, !old)).await;
                if !matches!(&second, Err(again) if again.is_unknown_kind(call)) {
                    self.old_slices.store(!old, Ordering::Relaxed);
                }
                second
            }
            first => first,
        }
    }

    async fn ask(&self, call: &Call, version: &str) -> Result<Body, Failure> {
        let request = call.request(version).map_err(|e| unreachable(&e))?;
        self.within_limit(async {
            let answer = self.client.send(request).await.map_err(|e| unreachable(&e))?;
            let status = answer.status();
            if status.is_success() {
                return Ok(answer.into_body());
            }
            let headers = answer.headers().clone();
            let bytes = collect(answer.into_body()).await?;
            Err(Failure::Refused(Box::new(Refusal::new(status, &headers, &bytes))))
        })
        .await
    }

    async fn within_limit<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let limit = self.limits.request;
        let answer = timeout(limit, work).await;
        answer.unwrap_or_else(|_| Err(Failure::timed_out(limit)))
    }
}

async fn collect(body: Body) -> Result<Bytes, Failure> {
    body.collect_bytes().await.map_err(|e| unreachable(&e))
}

fn has_two_versions(kind: &KindInfo) -> bool {
    (kind.group, kind.plural) == (EndpointSlice::KIND.group, EndpointSlice::KIND.plural)
}

fn version(kind: &KindInfo, old_slices: bool) -> &'static str {
    if old_slices && has_two_versions(kind) {
        OLD_SLICES
    } else {
        kind.version
    }
}

fn unreachable(error: &(dyn std::error::Error + 'static)) -> Failure {
    // The wrappers of the client's layers only repeat what they wrap.
    let inner = match error.downcast_ref::<kube::Error>() {
        Some(kube::Error::Service(inner)) => inner.as_ref(),
        _ => error,
    };
    Failure::unreachable(inner)
}

fn client(config: Config, limits: &Limits) -> Result<Client, kube::Error> {
    if config.proxy_url.is_some() {
        return Ok(ClientBuilder::try_from(config)?.build());
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(config.connect_timeout.or(Some(limits.request)));
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE / 2));
    tcp.set_keepalive_retries(Some(KEEPALIVE_PROBES));
    let tls = config.rustls_https_connector_with_connector(tcp)?;
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(HttpClient::builder(TokioExecutor::new()).build::<_, Body>(tls));
    Ok(Client::new(service, config.default_namespace))
}
