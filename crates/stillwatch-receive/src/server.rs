//! Listening, and the end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulConnection, GracefulShutdown};
use stillwatch_ingest::{Delivery, Options};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::access::Key;
use crate::intake::{Counts, Intake};
use crate::{grpc, web};

/// Connections at once, on each listener; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 1_000;
/// Exports at once on a connection that speaks HTTP/2; further ones wait.
const STREAMS_MAX: u32 = 64;
/// The longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// How long a request's head may take to arrive, and a connection stay silent.
const HEAD: Duration = Duration::from_secs(30);
/// How long exports under way have when the end is asked for.
const DRAIN: Duration = Duration::from_secs(5);
/// How long to wait when the system has no room for another connection.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// What a receiver is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where OTLP/gRPC is received, if it is.
    pub grpc: Option<SocketAddr>,
    /// Where OTLP/HTTP is received, if it is.
    pub http: Option<SocketAddr>,
    /// What senders have to have; without it anybody may send.
    pub key: Option<Key>,
    /// How what is received will be read.
    pub read: Options,
}

/// Why a receiver could not start.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct ReceiveError {
    pub address: SocketAddr,
    source: std::io::Error,
}

/// A receiver until it is stopped.
#[derive(Debug)]
pub struct Running {
    /// Where OTLP/gRPC is received, if it is.
    pub grpc: Option<SocketAddr>,
    /// Where OTLP/HTTP is received, if it is.
    pub http: Option<SocketAddr>,
    intake: Arc<Intake>,
    stop: watch::Sender<bool>,
    listeners: Vec<JoinHandle<()>>,
}

/// Listens. What is received goes to `to`, and its senders are answered when it has been
/// written down; where the channel is full they are told to send again.
///
/// # Errors
/// An address can't be used.
pub async fn start(settings: Settings, to: SyncSender<Delivery>) -> Result<Running, ReceiveError> {
    let intake = Arc::new(Intake::new(settings.read, settings.key, to));
    let (stop, stopped) = watch::channel(false);
    let mut listeners = Vec::new();
    let (mut grpc, mut http) = (None, None);
    if let Some(address) = settings.grpc {
        let listener = bind(address, &mut grpc).await?;
        let intake = Arc::clone(&intake);
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(HEAD_BYTES_MAX as u32)
            .keep_alive_interval(HEAD)
            .keep_alive_timeout(HEAD);
        let connect = move |stream| {
            let intake = Arc::clone(&intake);
            let service = service_fn(move |request: Request<Incoming>| {
                let intake = Arc::clone(&intake);
                async move { Ok::<_, Infallible>(grpc::answer(intake, request).await) }
            });
            builder.serve_connection(stream, service)
        };
        listeners.push(tokio::spawn(serve(listener, connect, stopped.clone())));
    }
    if let Some(address) = settings.http {
        let listener = bind(address, &mut http).await?;
        let intake = Arc::clone(&intake);
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES_MAX);
        let connect = move |stream| {
            let intake = Arc::clone(&intake);
            let service = service_fn(move |request: Request<Incoming>| {
                let intake = Arc::clone(&intake);
                async move { Ok::<_, Infallible>(web::answer(intake, request).await) }
            });
            builder.serve_connection(stream, service)
        };
        listeners.push(tokio::spawn(serve(listener, connect, stopped)));
    }
    Ok(Running { grpc, http, intake, stop, listeners })
}

async fn bind(
    address: SocketAddr,
    bound: &mut Option<SocketAddr>,
) -> Result<TcpListener, ReceiveError> {
    let failed = |source| ReceiveError { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    *bound = Some(listener.local_addr().map_err(failed)?);
    Ok(listener)
}

impl Running {
    /// What has been received so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.intake.counts()
    }

    /// Ends: no connection is accepted any more, and exports under way are answered.
    pub async fn stop(self) -> Counts {
        // Nobody listens where all have ended already.
        let _ = self.stop.send(true);
        for listener in self.listeners {
            let _ = listener.await;
        }
        self.intake.counts()
    }
}

/// Accepts connections until the receiver is stopped, then drains them.
async fn serve<C>(
    listener: TcpListener,
    connect: impl Fn(TokioIo<TcpStream>) -> C,
    mut stopped: watch::Receiver<bool>,
) where
    C: GracefulConnection + Send + 'static,
    C::Error: Send,
{
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut is_stopped = pin!(stopped.wait_for(|stopped| *stopped));
    loop {
        let accepted = async {
            let permit = Arc::clone(&room).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            _ = &mut is_stopped => break,
            accepted = accepted => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_AGAIN).await;
            continue;
        };
        // Where it can't be set the connection is gone already.
        let _ = stream.set_nodelay(true);
        let connection = graceful.watch(connect(TokioIo::new(stream)));
        tokio::spawn(async move {
            // What went wrong is the sender's, and told to it as far as HTTP can.
            let _ = connection.await;
            drop(permit);
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(DRAIN, graceful.shutdown()).await;
}
