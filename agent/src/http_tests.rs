use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinHandle,
};

use super::*;

/// A server on a port of its own that says the path back; it ends with the test.
struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(limits: Limits) -> Self {
        let listener = listen("127.0.0.1:0").await.unwrap().unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let answer =
            |path: String| async move { Answer::text(StatusCode::OK, format!("you asked for {path}")) };
        let task = tokio::spawn(serve(listener, limits, stop.clone(), answer));
        Server { address, stop, task }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends this and gives back what comes until the end.
    async fn ask(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        // The server may hang up before it has read all of a request it does not like.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut reply = Vec::new();
        let _ = timeout(Duration::from_secs(30), stream.read_to_end(&mut reply))
            .await
            .expect("the server neither answers nor hangs up");
        String::from_utf8(reply).unwrap()
    }
}

#[tokio::test]
async fn a_get_is_answered_and_the_connection_ends() {
    let server = Server::start(Limits::default()).await;
    let reply = server.ask("GET /livez?verbose HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
    assert!(reply.ends_with("\r\n\r\nyou asked for /livez"), "{reply}");
    let reply = server.ask("HEAD /livez HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(
        reply.starts_with("HTTP/1.1 200 OK\r\n") && reply.ends_with("\r\n\r\n"),
        "{reply}"
    );
}

#[tokio::test]
async fn nothing_is_changed_by_a_request() {
    let server = Server::start(Limits::default()).await;
    for method in ["POST", "PUT", "DELETE"] {
        let reply = server
            .ask(&format!(
                "{method} /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
            ))
            .await;
        assert!(reply.starts_with("HTTP/1.1 405 "), "{reply}");
        assert!(reply.contains("\r\nallow: GET, HEAD\r\n"), "{reply}");
    }
}

#[tokio::test]
async fn nonsense_and_what_is_too_long_is_refused() {
    let server = Server::start(Limits::default()).await;
    let reply = server.ask("SSH-2.0-OpenSSH_9.2\r\n\r\n").await;
    assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 400 "), "{reply}");
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(1 << 20));
    let reply = server.ask(&long).await;
    assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 431 "), "{reply}");
    let reply = server.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(
        reply.starts_with("HTTP/1.1 200 "),
        "the next one is served: {reply}"
    );
}

#[tokio::test]
async fn clients_that_say_nothing_do_not_keep_others_out() {
    let limits = Limits {
        concurrent: 2,
        patience: Duration::from_millis(200),
    };
    let server = Server::start(limits).await;
    let mut silent = Vec::new();
    for _ in 0..6 {
        silent.push(server.connect().await);
    }
    let reply = server.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    let read = timeout(Duration::from_secs(30), silent[0].read(&mut [0])).await;
    assert_eq!(
        read.expect("it is still connected").unwrap_or(0),
        0,
        "it was told something"
    );
}

#[tokio::test]
async fn it_stops() {
    let server = Server::start(Limits::default()).await;
    server.stop.cancel();
    timeout(Duration::from_secs(30), server.task)
        .await
        .expect("it goes on")
        .unwrap();
    assert!(
        TcpStream::connect(server.address).await.is_err(),
        "it still listens"
    );
}

#[tokio::test]
async fn what_to_listen_on_is_an_address_or_nothing() {
    assert!(listen("none").await.unwrap().is_none());
    assert!(listen("").await.unwrap().is_none());
    let error = listen("9179").await.unwrap_err().to_string();
    assert!(error.starts_with("\"9179\" is not ADDRESS:PORT"), "{error}");
    let taken = listen("127.0.0.1:0").await.unwrap().unwrap();
    let address = taken.local_addr().unwrap();
    let error = listen(&address.to_string()).await.unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("cannot listen on {address}: ")),
        "{error}"
    );
}
