//! Where something is on a NATS server.

use std::fmt;
use std::str::FromStr;

use async_nats::ServerAddr;
use percent_encoding::percent_decode_str;

/// `nats://[user:password@|token@]host[:port][,host[:port]…]/NAME`, or `tls://…`: servers of
/// one cluster, and the name of a bucket or stream there. Shown without user, password and
/// token.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    is_tls: bool,
    /// Without what proves who one is.
    pub(crate) servers: Vec<ServerAddr>,
    hosts: String,
    pub(crate) proof: Proof,
    name: String,
}

/// What the address itself says of who one is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Proof {
    None,
    Token(String),
    User { name: String, password: String },
}

/// Why a text is no address; says nothing of what stands before the host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}; it has to be nats://HOST:PORT/NAME or tls://HOST:PORT/NAME")]
pub struct AddressError(String);

/// The longest name of a bucket or stream.
const NAME_BYTES_MAX: usize = 64;
/// Servers that an address names.
const SERVERS_MAX: usize = 16;

impl Address {
    /// Whether a text begins like one.
    #[must_use]
    pub fn is_one(text: &str) -> bool {
        text.starts_with("nats://") || text.starts_with("tls://")
    }

    /// The bucket's or stream's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.is_tls
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = |what: &str| AddressError(what.to_owned());
        let (is_tls, rest) = match (text.strip_prefix("nats://"), text.strip_prefix("tls://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return Err(wrong("an address of NATS begins with nats:// or tls://")),
        };
        // A password may hold a slash, a host can't.
        let (proof, rest) = match rest.rsplit_once('@') {
            Some((proof, rest)) => (Some(proof), rest),
            None => (None, rest),
        };
        let Some((hosts, name)) = rest.split_once('/') else {
            return Err(wrong("the address of NATS names no bucket or stream"));
        };
        let name = name.trim_end_matches('/');
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_plain) {
            return Err(AddressError(format!(
                "the name of a bucket or stream has 1 to {NAME_BYTES_MAX} letters, digits, - or _"
            )));
        }
        let scheme = if is_tls { "tls" } else { "nats" };
        let mut servers = Vec::new();
        for host in hosts.split(',') {
            let parsed = ServerAddr::from_str(&format!("{scheme}://{host}"));
            let is_bare = !host.is_empty() && !host.contains(['?', '#', '\\', ' ']);
            match parsed {
                Ok(server) if is_bare && !server.host().is_empty() => servers.push(server),
                _ => return Err(wrong("a host of the address of NATS can't be read")),
            }
        }
        if servers.len() > SERVERS_MAX {
            return Err(AddressError(format!("an address names at most {SERVERS_MAX} servers")));
        }
        let decoded = |text: &str| {
            let text = percent_decode_str(text).decode_utf8();
            text.map(|text| text.into_owned()).map_err(|_| wrong("what stands before @ is no text"))
        };
        let proof = match proof.map(|proof| proof.split_once(':')) {
            None => Proof::None,
            Some(Some((name, password))) => {
                Proof::User { name: decoded(name)?, password: decoded(password)? }
            }
            Some(None) => Proof::Token(decoded(proof.unwrap_or_default())?),
        };
        let shown = |server: &ServerAddr| match server.host() {
            host if host.contains(':') => format!("[{host}]:{}", server.port()),
            host => format!("{host}:{}", server.port()),
        };
        let hosts: Vec<String> = servers.iter().map(shown).collect();
        Ok(Address { is_tls, servers, hosts: hosts.join(","), proof, name: name.to_owned() })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "tls" } else { "nats" };
        write!(f, "{scheme}://{}/{}", self.hosts, self.name)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_are_shown_without_what_is_secret() {
        for (text, shown) in [
            ("nats://localhost/verdicts", "nats://localhost:4222/verdicts"),
            ("nats://u:p%2Fw@a:1,b:2/V-1_x/", "nats://a:1,b:2/V-1_x"),
            ("tls://s3cret@example.com:4333/V", "tls://example.com:4333/V"),
            ("nats://[::1]:4222/V", "nats://[::1]:4222/V"),
        ] {
            let address = read(text);
            assert_eq!(address.to_string(), shown);
            assert_eq!(format!("{address:?}"), shown);
        }
        let user = Proof::User { name: "u".to_owned(), password: "p/w".to_owned() };
        assert!(read("nats://u:p%2Fw@a/V").proof == user);
        assert!(read("nats://t0ken@a/V").proof == Proof::Token("t0ken".to_owned()));
    }

    #[test]
    fn what_is_no_address_is_refused_without_being_shown() {
        for text in [
            "http://u:hunter2@a/V",
            "nats://u:hunter2@a",
            "nats://u:hunter2@a/",
            "nats://u:hunter2@/V",
            "nats://u:hunter2@a,/V",
            "nats://u:hunter2@a:port/V",
            "nats://u:hunter2@a/V.x",
            "nats://u:hunter2@a/V/x",
            "nats://u:hunter2@a?x/V",
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{text}: {error}");
        }
    }

    #[test]
    fn fuzz_addresses() {
        bolero::check!().for_each(|bytes: &[u8]| {
            let text = format!("nats://{}/V", String::from_utf8_lossy(bytes));
            if let Ok(address) = text.parse::<Address>() {
                assert_eq!(read(&address.to_string()).to_string(), address.to_string());
            }
        });
    }
}
