//! The clients: requests on connections that are kept, each sent when the last is answered.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use super::wire::{PACED, Wire, request};

/// Accounts whose keys are used.
pub const ACCOUNTS: usize = 100_000;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A short answer in one piece.
    Small,
    /// A stream whose events come at once.
    Burst,
    /// A stream whose events come one by one.
    Paced,
}

/// What the clients saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// From the request to the whole answer, in seconds, sorted.
    pub latencies: Vec<f64>,
    /// Between two arrivals of bytes of one answer, in seconds, sorted.
    pub gaps: Vec<f64>,
}

impl Seen {
    /// The median latency in seconds.
    pub fn p50(&self) -> f64 {
        self.latencies.get(self.latencies.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

/// Sends `exchanges` of a kind over `connections`.
///
/// # Errors
/// An answer is no success, or a connection ended.
pub fn load(
    address: SocketAddr,
    kind: Kind,
    exchanges: usize,
    connections: usize,
) -> io::Result<Seen> {
    let clients: Vec<_> = (0..connections)
        .map(|client| {
            let turns = exchanges.div_ceil(connections);
            std::thread::spawn(move || one(address, kind, client, turns))
        })
        .collect();
    let mut seen = Seen::default();
    for client in clients {
        let one = client.join().map_err(|_| io::Error::other("a client panicked"))??;
        seen.latencies.extend(one.latencies);
        seen.gaps.extend(one.gaps);
    }
    seen.latencies.sort_by(f64::total_cmp);
    seen.gaps.sort_by(f64::total_cmp);
    Ok(seen)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn one(address: SocketAddr, kind: Kind, client: usize, turns: usize) -> io::Result<Seen> {
    let mut wire = Wire::new(TcpStream::connect(address)?)?;
    let mut seen = Seen::default();
    let (model, is_stream) = match kind {
        Kind::Small => ("m", false),
        Kind::Burst => ("m", true),
        Kind::Paced => (PACED, true),
    };
    for turn in 0..turns {
        let request = request(model, is_stream, (client * 9973 + turn) % ACCOUNTS, turn);
        let begun = Instant::now();
        wire.stream.write_all(request.as_bytes())?;
        let mut last: Option<Instant> = None;
        let answer = wire.message(|| {
            if kind == Kind::Paced {
                let now = Instant::now();
                seen.gaps.extend(last.replace(now).map(|last| (now - last).as_secs_f64()));
            }
        })?;
        let answer = answer.ok_or_else(|| io::Error::other("the connection was closed"))?;
        if !answer.starts_with(b"HTTP/1.1 200") {
            let line = answer.split(|b| *b == b'\r').next().unwrap_or_default();
            let line = String::from_utf8_lossy(line).into_owned();
            return Err(io::Error::other(format!("it answered {line}")));
        }
        seen.latencies.push(begun.elapsed().as_secs_f64());
    }
    Ok(seen)
}
