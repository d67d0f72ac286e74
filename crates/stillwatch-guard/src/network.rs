//! Where a client is: the peer, or what a trusted proxy says of its own.

use std::net::IpAddr;

use http::HeaderMap;
use ipnet::IpNet;

/// The client's address. `x-forwarded-for` is read from its end, which is what the
/// nearest proxy wrote, for as long as the proxies are trusted.
#[must_use]
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut client = peer.to_canonical();
    if !is_trusted(&client) {
        return client;
    }
    let hops: Vec<&str> = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .collect();
    for hop in hops.into_iter().rev() {
        let Ok(address) = hop.trim().parse::<IpAddr>() else { break };
        client = address.to_canonical();
        if !is_trusted(&client) {
            break;
        }
    }
    client
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_trusted_proxies_are_believed() {
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", HeaderValue::from_static("6.6.6.6, 192.0.2.9"));
        headers.append("x-forwarded-for", HeaderValue::from_static("10.0.0.2"));
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        let at = |peer: &str| client_address(peer.parse().unwrap(), &headers, &trusted).to_string();
        assert_eq!(at("10.0.0.1"), "192.0.2.9");
        assert_eq!(at("::ffff:10.0.0.1"), "192.0.2.9");
        assert_eq!(at("192.0.2.1"), "192.0.2.1");
    }
}
