//! As little as a proxy on hyper can be: no accounts, no verdicts, no measuring, no
//! records.

use std::io;
use std::net::SocketAddr;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Uri};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

use crate::failure::Failure;
use crate::output;

/// Passes requests on until the process is ended. Says on standard output where.
pub fn run(upstream: SocketAddr, threads: usize) -> Result<(), Failure> {
    let cannot = |error: io::Error| Failure::Other(format!("cannot be a proxy: {error}"));
    let authority: Authority = upstream
        .to_string()
        .parse()
        .map_err(|error| Failure::Other(format!("{upstream} is no upstream: {error}")))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .map_err(cannot)?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        output::print(&format!("listening on {address}\n"))?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client: Client<HttpConnector, Incoming> =
            Client::builder(TokioExecutor::new()).build(connector);
        loop {
            let (stream, _) = listener.accept().await.map_err(cannot)?;
            stream.set_nodelay(true).map_err(cannot)?;
            let (client, authority) = (client.clone(), authority.clone());
            let service = service_fn(move |mut request: Request<Incoming>| {
                let path = request.uri().path_and_query().cloned();
                let mut parts = http::uri::Parts::default();
                parts.scheme = Some(Scheme::HTTP);
                parts.authority = Some(authority.clone());
                parts.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
                if let Ok(uri) = Uri::from_parts(parts) {
                    *request.uri_mut() = uri;
                }
                request.headers_mut().remove(http::header::HOST);
                client.request(request)
            });
            tokio::spawn(async move {
                // A connection that breaks is the load's affair.
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    })
}
