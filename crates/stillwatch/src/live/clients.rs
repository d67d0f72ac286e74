//! The crowd and the campaigns as clients of the guard, and a clock that goes with them.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use stillwatch_exchange::Time;
use tokio::net::TcpStream;

use super::model::{SAW, WISH, hash};
use super::script::Line;
use crate::failure::Failure;

/// Event time, in microseconds. One demonstration runs in a process.
static NOW_US: AtomicI64 = AtomicI64::new(0);

/// The guard's clock.
pub fn now() -> Time {
    Time(NOW_US.load(Ordering::Relaxed))
}

/// The same in nanoseconds since the world began, for the guard's buckets.
pub fn monotonic() -> i64 {
    NOW_US.load(Ordering::Relaxed).saturating_mul(1000)
}

/// Lets event time go on; it never goes back.
pub fn go_on(to_us: i64) {
    NOW_US.fetch_max(to_us, Ordering::Relaxed);
}

/// What came back for a request.
pub struct Got {
    pub status: StatusCode,
    pub body: Bytes,
    /// Whether what the model saw is what was sent; none where it was not reached.
    pub was_unchanged: Option<bool>,
    pub took: Duration,
}

/// One client, on one connection for as long as that holds.
pub struct Client {
    address: SocketAddr,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        Client { address, connection: None }
    }

    /// Sends a request and reads the whole answer.
    pub async fn send(&mut self, line: &Line) -> Result<Got, Failure> {
        let request = Request::post("/v1/chat/completions")
            .header(HOST, "guard")
            .header(AUTHORIZATION, format!("Bearer {}", line.key))
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, &line.user_agent)
            .header("x-forwarded-for", &line.address)
            .header(WISH, line.wish.header())
            .body(Full::new(line.body.clone()))
            .map_err(|error| Failure::Other(format!("a world's row makes no request: {error}")))?;
        let began = Instant::now();
        let (status, saw, body) = self.exchange(request).await?;
        let was_unchanged = saw.map(|saw| saw == hash(&line.body));
        Ok(Got { status, body, was_unchanged, took: began.elapsed() })
    }

    /// Asks a guard's administration to decide; its answer.
    pub async fn decide(&mut self, key: &str, body: String) -> Result<Bytes, Failure> {
        let request = Request::post("/v1/decide")
            .header(HOST, "guard")
            .header(AUTHORIZATION, format!("Bearer {key}"))
            .body(Full::new(body.into()))
            .map_err(|error| Failure::Other(format!("the key makes no header: {error}")))?;
        Ok(self.exchange(request).await?.2)
    }

    async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Option<u64>, Bytes), Failure> {
        let address = self.address;
        let answer = self.try_exchange(request).await;
        answer.map_err(|error| Failure::Other(format!("cannot ask {address}: {error}")))
    }

    async fn try_exchange(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> io::Result<(StatusCode, Option<u64>, Bytes)> {
        let mut connection = match self.connection.take() {
            Some(connection) if !connection.is_closed() => connection,
            _ => self.connect().await?,
        };
        connection.ready().await.map_err(io::Error::other)?;
        let response = connection.send_request(request).await.map_err(io::Error::other)?;
        let status = response.status();
        let saw = response.headers().get(SAW);
        let saw = saw.and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
        let body = response.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
        self.connection = Some(connection);
        Ok((status, saw, body))
    }

    async fn connect(&self) -> io::Result<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let (connection, driver) =
            handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // What goes wrong on it is told to whoever sends.
        tokio::spawn(async move {
            let _ = driver.await;
        });
        Ok(connection)
    }
}
