//! Where requests come from: providers of access, their address blocks, and how an
//! account moves among them.

use std::fmt::Write as _;

use crate::draws::{Draws, Permutation, Purpose, mix, scale};

/// Countries with the share of the world's customers, hours from UTC, and the
/// language of their corpora where that is not English.
pub(crate) const COUNTRIES: &[(&str, f64, f64, &str)] = &[
    ("US", 24.0, -6.0, "en"),
    ("IN", 11.0, 5.5, "en"),
    ("GB", 6.0, 0.0, "en"),
    ("DE", 6.0, 1.0, "de"),
    ("FR", 4.5, 1.0, "fr"),
    ("BR", 5.0, -3.0, "pt"),
    ("JP", 5.0, 9.0, "ja"),
    ("CA", 3.5, -5.0, "en"),
    ("ES", 2.5, 1.0, "es"),
    ("NL", 2.5, 1.0, "en"),
    ("PL", 2.0, 1.0, "en"),
    ("MX", 2.5, -6.0, "es"),
    ("AU", 2.5, 10.0, "en"),
    ("KR", 3.0, 9.0, "ko"),
    ("SG", 2.0, 8.0, "zh"),
    ("TW", 2.0, 8.0, "zh"),
    ("HK", 1.5, 8.0, "zh"),
    ("TR", 2.0, 3.0, "en"),
    ("UA", 1.5, 2.0, "ru"),
    ("IL", 1.5, 2.0, "en"),
    ("SE", 1.2, 1.0, "en"),
    ("ZA", 1.0, 2.0, "en"),
    ("NG", 1.2, 1.0, "en"),
    ("AR", 1.2, -3.0, "es"),
    ("VN", 1.6, 7.0, "en"),
    ("ID", 2.0, 7.0, "en"),
    ("PH", 1.4, 8.0, "en"),
    ("IT", 2.2, 1.0, "en"),
    ("EG", 0.9, 2.0, "en"),
    ("KE", 0.6, 3.0, "en"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NetworkKind {
    Home,
    Mobile,
    Cloud,
    Relay,
    Campus,
    Office,
}

#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub number: u32,
    pub country: u8,
    pub kind: NetworkKind,
    /// Four /16 blocks.
    blocks: [u16; 4],
    has_v6: bool,
}

/// How an account or a group uses networks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NetworkUse {
    /// A household: the address changes every few days.
    Lease { network: u16, host: u32, days: u16 },
    /// One of `size` addresses side by side, another for each session.
    Pool { network: u16, base: u32, size: u32 },
    /// Rotating proxies: another network and address each period.
    Rotating { set: u16, size: u32, period: Rotation },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rotation {
    /// Another address for each exchange.
    Exchange,
    /// Another for each conversation.
    Session,
    /// Another each day.
    Day,
}

/// An address in a network, and its neighbourhood.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub network: u16,
    host: u32,
    /// Tells devices behind one IPv6 prefix apart.
    device: u32,
}

pub(crate) struct Networks {
    pub all: Vec<Network>,
    /// By country, then kind.
    by_country: Vec<Vec<u16>>,
    seed: u64,
    /// Sets of networks that rotating proxies go through.
    pub sets: Vec<Vec<u16>>,
}

const V4_FIRST_OCTETS: u64 = 160;

impl Networks {
    pub(crate) fn new(seed: u64) -> Self {
        let mut draws = Draws::new(seed, Purpose::World, 1, 0);
        let mut networks = Networks {
            all: Vec::new(),
            by_country: vec![Vec::new(); COUNTRIES.len()],
            seed,
            sets: Vec::new(),
        };
        for (country, (_, weight, _, _)) in COUNTRIES.iter().enumerate() {
            let large = usize::from(*weight > 4.0);
            for (kind, count) in [
                (NetworkKind::Home, 3 + 3 * large),
                (NetworkKind::Mobile, 2 + large),
                (NetworkKind::Office, 4 + 6 * large),
                (NetworkKind::Campus, 3 + 3 * large),
                (NetworkKind::Relay, 1 + large),
                (NetworkKind::Cloud, 1 + 2 * large),
            ] {
                for _ in 0..count {
                    networks.add(&mut draws, country as u8, kind);
                }
            }
        }
        networks
    }

    fn add(&mut self, draws: &mut Draws, country: u8, kind: NetworkKind) {
        let index = self.all.len() as u64;
        let places = Permutation::new(V4_FIRST_OCTETS * 256, mix(self.seed, 77, 0));
        let blocks = [0, 1, 2, 3].map(|i| places.at(index * 4 + i) as u16);
        let has_v6 = matches!(kind, NetworkKind::Home | NetworkKind::Mobile) && draws.chance(0.5);
        let number = 1_000 + draws.below(398_000) as u32;
        self.by_country[usize::from(country)].push(index as u16);
        self.all.push(Network { number, country, kind, blocks, has_v6 });
    }

    /// A network of that kind in that country; the first are the largest.
    pub(crate) fn pick(&self, draws: &mut Draws, country: u8, kind: NetworkKind) -> u16 {
        let fitting: Vec<u16> = self.by_country[usize::from(country) % COUNTRIES.len()]
            .iter()
            .copied()
            .filter(|n| self.all[usize::from(*n)].kind == kind)
            .collect();
        let weights: Vec<f64> = (0..fitting.len()).map(|i| 1.0 / (i as f64 + 1.0)).collect();
        fitting.get(draws.weighted(&weights)).copied().unwrap_or_default()
    }

    pub(crate) fn place(
        &self,
        usage: NetworkUse,
        who: u64,
        day: u32,
        session: u64,
        exchange: u64,
    ) -> Place {
        match usage {
            NetworkUse::Lease { network, host, days } => {
                let lease = u64::from(day) / u64::from(days.max(1));
                Place {
                    network,
                    host: mix(self.seed ^ 5, u64::from(host), lease) as u32,
                    device: who as u32,
                }
            }
            NetworkUse::Pool { network, base, size } => {
                let step = scale(mix(self.seed ^ 6, who, session), u64::from(size)) as u32;
                Place { network, host: base.wrapping_add(step), device: who as u32 }
            }
            NetworkUse::Rotating { set, size, period } => {
                let moment = match period {
                    Rotation::Exchange => exchange,
                    Rotation::Session => session,
                    Rotation::Day => u64::from(day),
                };
                let bits = mix(self.seed ^ 7, who, moment);
                let slot = scale(bits, u64::from(size));
                let networks = self.sets.get(usize::from(set)).map_or(&[][..], Vec::as_slice);
                let bits = mix(self.seed ^ 8, u64::from(set), slot);
                let network = networks
                    .get(scale(bits, networks.len() as u64) as usize)
                    .copied()
                    .unwrap_or_default();
                Place { network, host: mix(self.seed ^ 9, bits, 0) as u32, device: slot as u32 }
            }
        }
    }

    pub(crate) fn network(&self, place: Place) -> &Network {
        &self.all[usize::from(place.network) % self.all.len()]
    }

    /// Writes the address and its /24 or /48 prefix.
    pub(crate) fn write(&self, place: Place, address: &mut String, prefix: &mut String) {
        let network = self.network(place);
        let host = place.host;
        // Writing to a string can't fail.
        let _ = if network.has_v6 && host % 5 < 2 {
            let block = network.blocks[0];
            let _ = write!(
                prefix,
                "2a0{:x}:{:x}:{:x}::/48",
                block % 8,
                network.number as u16,
                host >> 16
            );
            let device = mix(self.seed ^ 10, u64::from(place.device), u64::from(host));
            write!(
                address,
                "2a0{:x}:{:x}:{:x}:{:x}:{:x}:{:x}:{:x}:{:x}",
                block % 8,
                network.number as u16,
                host >> 16,
                host & 0xff,
                device as u16,
                (device >> 16) as u16,
                (device >> 32) as u16,
                (device >> 48) as u16
            )
        } else {
            let block = network.blocks[(host >> 16) as usize % 4];
            // 11 to 99, 128 to 168, 173 to 191, 193 to 222: no private or reserved block begins there.
            let first = match u64::from(block) / 256 % V4_FIRST_OCTETS {
                i @ 0..=88 => 11 + i,
                i @ 89..=129 => 128 + i - 89,
                i @ 130..=148 => 173 + i - 130,
                i => 193 + i - 149,
            };
            let (second, third, fourth) =
                (block & 0xff, (host >> 8) & 0xff, (host & 0xff).clamp(1, 254));
            let _ = write!(prefix, "{first}.{second}.{third}.0/24");
            write!(address, "{first}.{second}.{third}.{fourth}")
        };
    }
}
