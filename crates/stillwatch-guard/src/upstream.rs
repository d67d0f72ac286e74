//! The model's API: a pooled client, and where a request goes.

use std::error::Error as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, Request, Response, Uri, header};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::settings::GuardError;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a connection is kept without work; below what load balancers allow (60 s).
const IDLE: Duration = Duration::from_secs(50);

/// A request's body on its way out: one that was read, or one that passes.
pub type Outgoing = Either<Full<Bytes>, Incoming>;

/// The model's API.
#[derive(Debug)]
pub struct Upstream {
    client: AnyClient,
    scheme: Scheme,
    authority: Authority,
    prefix: String,
    /// No connection came about when one was wanted last, and that was said.
    is_away: AtomicBool,
    say: fn(&str),
}

#[derive(Debug)]
enum AnyClient {
    Plain(Client<HttpConnector, Outgoing>),
    Tls(Client<HttpsConnector<HttpConnector>, Outgoing>),
}

impl Upstream {
    /// A client for a base URL; `say` is told when no connection comes about, and when one
    /// does again.
    ///
    /// # Errors
    /// The URL is not one of `http` or `https` with a host, or the system has no root
    /// certificates.
    pub fn new(base: &Uri, say: fn(&str)) -> Result<Self, GuardError> {
        let wrong = || {
            GuardError::Usage(format!(
                "--upstream {base} is no URL such as https://api.example.com/v1 without a query"
            ))
        };
        let scheme = base.scheme().filter(|s| **s == Scheme::HTTP || **s == Scheme::HTTPS);
        let scheme = scheme.ok_or_else(wrong)?.clone();
        let authority = base.authority().ok_or_else(wrong)?.clone();
        if base.query().is_some() || authority.as_str().contains('@') {
            return Err(wrong());
        }
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT));
        connector.set_keepalive(Some(IDLE));
        connector.enforce_http(false);
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE);
        let client = if scheme == Scheme::HTTPS {
            let connector = HttpsConnectorBuilder::new()
                .with_native_roots()
                .map_err(|error| {
                    GuardError::Usage(format!(
                        "nothing to check the certificate of --upstream with; SSL_CERT_FILE can \
                         name a file of root certificates: {error}"
                    ))
                })?
                .https_only()
                .enable_http1()
                .wrap_connector(connector);
            AnyClient::Tls(builder.build(connector))
        } else {
            AnyClient::Plain(builder.build(connector))
        };
        let prefix = base.path().trim_end_matches('/').to_owned();
        Ok(Upstream { client, scheme, authority, prefix, is_away: AtomicBool::new(false), say })
    }

    /// Where a request to this path goes; none for a path that can't be one.
    #[must_use]
    pub fn uri(&self, path: &PathAndQuery) -> Option<Uri> {
        let path = if self.prefix.is_empty() {
            path.clone()
        } else {
            PathAndQuery::try_from(format!("{}{path}", self.prefix)).ok()?
        };
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(path)
            .build()
            .ok()
    }

    /// Sends a request.
    ///
    /// # Errors
    /// There is no connection, or it broke before the answer's head.
    pub async fn send(&self, request: Request<Outgoing>) -> Result<Response<Incoming>, Error> {
        let answer = match &self.client {
            AnyClient::Plain(client) => client.request(request).await,
            AnyClient::Tls(client) => client.request(request).await,
        };
        match &answer {
            Err(error) if error.is_connect() => self.away(error),
            Ok(_) if self.is_away.load(Ordering::Relaxed) => self.back(),
            _ => {}
        }
        answer
    }

    /// Says, the first time, why there is no connection. Clients are not told.
    fn away(&self, error: &Error) {
        if self.is_away.swap(true, Ordering::Relaxed) {
            return;
        }
        // What lies deepest says it plainly.
        let mut cause = error.source();
        let mut why = error.to_string();
        while let Some(error) = cause {
            why = error.to_string();
            cause = error.source();
        }
        let hint = if why.contains("UnknownIssuer") {
            "; SSL_CERT_FILE can name a file with the certificates of a private authority"
        } else {
            ""
        };
        let Upstream { scheme, authority, .. } = self;
        (self.say)(&format!("no connection to {scheme}://{authority}: {why}{hint}"));
    }

    fn back(&self) {
        if self.is_away.swap(false, Ordering::Relaxed) {
            let Upstream { scheme, authority, .. } = self;
            (self.say)(&format!("{scheme}://{authority} answers again"));
        }
    }
}

/// Headers that concern one connection and not the message (RFC 9110, section 7.6.1).
static HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Takes the hop-by-hop headers off, and those that `connection` names.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // Most messages have none of them, and few others.
    if !headers.keys().any(|name| HOP_BY_HOP.contains(name)) {
        return;
    }
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_prefix_is_kept() {
        let at = |base: &str, path: &'static str| {
            let upstream = Upstream::new(&base.parse().unwrap(), |_| {}).unwrap();
            upstream.uri(&PathAndQuery::from_static(path)).unwrap().to_string()
        };
        assert_eq!(at("http://h:81", "/v1/x?y=1"), "http://h:81/v1/x?y=1");
        assert_eq!(at("http://h/api/", "/v1//x"), "http://h/api/v1//x");
        for wrong in ["/v1", "ftp://h", "http://u:p@h/", "http://h/?a=1"] {
            assert!(Upstream::new(&wrong.parse().unwrap(), |_| {}).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_concerns_one_connection_stays_there() {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("connection", "close, x-mine"), ("x-mine", "1"), ("te", "trailers"), ("x", "1")]
        {
            headers.insert(name, value.parse().unwrap());
        }
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x"]);
    }
}
