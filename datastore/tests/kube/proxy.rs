//! Proxies to put between a client and the API server: one that knows TCP, and one that knows HTTP.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use kube::{
    Client, Config,
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

/// A proxy that passes bytes, slowly or not at all.
pub(crate) struct TcpProxy {
    address: SocketAddr,
    state: Arc<TcpState>,
}

#[derive(Default)]
struct TcpState {
    /// Connections that clients have made.
    connections: AtomicUsize,
    /// New connections are closed at once.
    refuses: AtomicBool,
    /// Connections before this one pass nothing more, and stay open.
    dead_before: AtomicUsize,
    /// A pause after each piece, in milliseconds.
    slowness: AtomicU64,
    cut: Notify,
}

impl TcpProxy {
    pub(crate) async fn start(to: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(TcpState::default());
        let serving = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = serving.connections.fetch_add(1, Ordering::SeqCst);
                if !serving.refuses.load(Ordering::SeqCst) {
                    tokio::spawn(connection(client, to, number, Arc::clone(&serving)));
                }
            }
        });
        TcpProxy { address, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// How many connections clients have made so far.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// From now on, new connections are closed at once (or no longer).
    pub(crate) fn refuse(&self, refuses: bool) {
        self.state.refuses.store(refuses, Ordering::SeqCst);
    }

    /// Closes all connections.
    pub(crate) fn cut(&self) {
        self.state.cut.notify_waiters();
    }

    /// Lets nothing more through the connections there are, and leaves them open: a host that vanished.
    pub(crate) fn freeze(&self) {
        self.state.dead_before.store(self.connections(), Ordering::SeqCst);
    }

    /// Pauses after each piece of at most 4 KB.
    pub(crate) fn slow_down(&self, pause: Duration) {
        let pause = u64::try_from(pause.as_millis()).expect("a short pause");
        self.state.slowness.store(pause, Ordering::SeqCst);
    }
}

async fn connection(client: TcpStream, to: u16, number: usize, state: Arc<TcpState>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", to)).await else {
        return;
    };
    let cut = state.cut.notified();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::select! {
        () = cut => {}
        () = pump(&mut from_client, &mut to_server, number, &state) => {}
        () = pump(&mut from_server, &mut to_client, number, &state) => {}
    }
}

async fn pump(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    number: usize,
    state: &TcpState,
) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if number < state.dead_before.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let pause = state.slowness.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

/// What an [`HttpProxy`] answers in the server's place; `None` passes the request on.
type Answers = Box<dyn FnMut(&Asked) -> Option<Response<String>> + Send>;

/// A request that a client made.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) url: String,
    pub(crate) agent: String,
    pub(crate) accept: String,
}

impl Asked {
    pub(crate) fn is_watch(&self) -> bool {
        self.url.contains("watch=1")
    }
}

/// A proxy that sees requests, and may answer them itself.
pub(crate) struct HttpProxy {
    address: SocketAddr,
    state: Arc<HttpState>,
}

struct HttpState {
    server: Client,
    asked: Mutex<Vec<Asked>>,
    answers: Mutex<Answers>,
}

impl HttpProxy {
    /// A proxy to the server of a kubeconfig, with that user's rights.
    pub(crate) async fn start(kubeconfig: &Path) -> Self {
        let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
        let options = KubeConfigOptions::default();
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .expect("a configuration");
        config.default_retry = false;
        let state = Arc::new(HttpState {
            server: Client::try_from(config).expect("a client"),
            asked: Mutex::default(),
            answers: Mutex::new(Box::new(|_| None)),
        });
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let serving = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let state = Arc::clone(&serving);
                let service = service_fn(move |request| answer(Arc::clone(&state), request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(client), service));
            }
        });
        HttpProxy { address, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on this decides who answers.
    pub(crate) fn answer(&self, answers: impl FnMut(&Asked) -> Option<Response<String>> + Send + 'static) {
        *self.state.answers.lock().expect("no panic") = Box::new(answers);
    }

    /// The requests since this was asked last.
    pub(crate) fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state.asked.lock().expect("no panic"))
    }
}

/// An answer as a server in trouble gives it.
pub(crate) fn trouble(code: u16, retry_after: Option<u64>) -> Response<String> {
    let mut response = Response::new("the server is in trouble".to_string());
    *response.status_mut() = StatusCode::from_u16(code).expect("a status");
    if let Some(seconds) = retry_after {
        response
            .headers_mut()
            .insert(http::header::RETRY_AFTER, seconds.into());
    }
    response
}

async fn answer(state: Arc<HttpState>, request: Request<Incoming>) -> Result<Response<Body>, kube::Error> {
    let header = |name: http::HeaderName| {
        let value = request.headers().get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_string()
    };
    let asked = Asked {
        method: request.method().to_string(),
        url: request.uri().to_string(),
        agent: header(http::header::USER_AGENT),
        accept: header(http::header::ACCEPT),
    };
    let own = (state.answers.lock().expect("no panic"))(&asked);
    state.asked.lock().expect("no panic").push(asked);
    if let Some(own) = own {
        return Ok(own.map(|text| Body::from(text.into_bytes())));
    }
    let (mut parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|e| kube::Error::Service(e.into()))?;
    // The client sets its own.
    for name in [http::header::HOST, http::header::AUTHORIZATION] {
        parts.headers.remove(name);
    }
    let request = Request::from_parts(parts, Body::from(body.to_bytes()));
    state.server.send(request).await
}
