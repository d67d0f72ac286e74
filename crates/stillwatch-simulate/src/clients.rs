//! What sends the requests: client programs with their TLS fingerprints, and the
//! parameters they send.

use crate::draws::{Draws, Purpose, mix};

/// Families of client programs: name, TLS stack, and whether they stream.
const FAMILIES: &[(&str, u8, bool, f64)] = &[
    ("openai-python/{}", 0, false, 22.0),
    ("openai-node/{}", 1, true, 12.0),
    ("anthropic-sdk-python/{}", 0, false, 14.0),
    ("anthropic-sdk-typescript/{}", 1, true, 8.0),
    ("python-requests/{}", 2, false, 9.0),
    ("python-httpx/{}", 0, false, 6.0),
    ("axios/{}", 1, false, 6.0),
    ("okhttp/{}", 3, true, 4.0),
    ("Go-http-client/{}", 4, false, 4.0),
    ("langchain/{}", 0, true, 7.0),
    ("litellm/{}", 0, true, 5.0),
    ("curl/{}", 5, false, 2.0),
    ("reqwest/{}", 6, true, 1.5),
    ("Java-http-client/{}", 7, false, 2.5),
    ("PostmanRuntime/{}", 1, false, 0.8),
];
/// Chat front ends: what people use who never see an API.
const FRONT_ENDS: &[(&str, u8, bool, f64)] = &[
    ("OpenWebUI/{}", 0, true, 20.0),
    ("LobeChat/{}", 1, true, 14.0),
    ("LibreChat/{}", 1, true, 8.0),
    ("ChatBox/{} (desktop)", 8, true, 18.0),
    ("PocketChat/{} (iPhone; iOS 19)", 9, true, 24.0),
    ("PocketChat/{} (Android 16)", 3, true, 22.0),
    (
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/{} Safari/537.36",
        8,
        true,
        30.0,
    ),
    (
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/{} Safari/605.1.15",
        9,
        true,
        14.0,
    ),
];
const AGENTS: &[(&str, u8, bool, f64)] = &[
    ("tern-cli/{} (external, cli)", 1, true, 10.0),
    ("cormorant-agent/{}", 6, true, 6.0),
    ("editor-pair/{} (vscode)", 8, true, 5.0),
    ("shellmate/{}", 4, true, 3.0),
    ("patchwright/{}", 0, true, 2.0),
    ("kiln-agents/{}", 0, true, 1.5),
];
const VERSIONS: usize = 5;
/// Platforms that a program runs on, each with TLS libraries of its own.
const PLATFORMS: usize = 3;

#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub user_agent: String,
    pub ja4: String,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum ClientKind {
    Library,
    FrontEnd,
    Agent(usize),
}

pub(crate) struct Clients {
    pub all: Vec<Client>,
    seed: u64,
}

pub(crate) const AGENT_COUNT: usize = AGENTS.len();

fn families() -> impl Iterator<Item = &'static (&'static str, u8, bool, f64)> {
    FAMILIES.iter().chain(FRONT_ENDS).chain(AGENTS)
}

impl Clients {
    pub(crate) fn new(seed: u64) -> Self {
        let mut clients = Clients { all: Vec::new(), seed };
        let mut draws = Draws::new(seed, Purpose::World, 2, 0);
        for (name, stack, _, _) in families() {
            let (major, minor) = (draws.between(0, 4), draws.between(3, 60));
            for version in 0..VERSIONS {
                let number = format!("{major}.{}.{}", minor + version, draws.below(12));
                for _ in 0..PLATFORMS {
                    let build = draws.weighted(&[8.0, 4.0, 2.0, 1.0, 1.0, 0.5]) as u64;
                    let ja4 = ja4(mix(seed, 200 + u64::from(*stack), build), *stack);
                    clients.all.push(Client { user_agent: name.replace("{}", &number), ja4 });
                }
            }
        }
        clients
    }

    /// A client in ordinary use, with the one it is later updated to.
    pub(crate) fn pick(&self, draws: &mut Draws, kind: ClientKind) -> (u32, u32) {
        let platform = draws.weighted(&[6.0, 3.0, 1.0]);
        let at = |family: usize, version: usize| {
            ((family * VERSIONS + version) * PLATFORMS + platform) as u32
        };
        let (first, list) = match kind {
            ClientKind::Library => (0, FAMILIES),
            ClientKind::FrontEnd => (FAMILIES.len(), FRONT_ENDS),
            ClientKind::Agent(which) => {
                let family = FAMILIES.len() + FRONT_ENDS.len() + which % AGENTS.len();
                // Agents update themselves: nearly all run the last two versions.
                let version = VERSIONS - 2 - usize::from(draws.chance(0.08));
                return (at(family, version), at(family, VERSIONS - 1));
            }
        };
        let weights: Vec<f64> = list.iter().map(|f| f.3).collect();
        let family = first + draws.weighted(&weights);
        let version = draws.weighted(&[1.0, 1.5, 3.0, 6.0, 4.0]);
        let later = if draws.chance(0.4) { VERSIONS - 1 } else { version };
        (at(family, version), at(family, later))
    }

    /// Whether a client streams its answers by default.
    pub(crate) fn streams(&self, client: u32) -> bool {
        families().nth(client as usize / (VERSIONS * PLATFORMS)).is_some_and(|f| f.2)
    }

    /// A build that few have: a popular program's name, or a name of its own, over
    /// a TLS stack of its own.
    pub(crate) fn add_rare(&mut self, draws: &mut Draws, own_name: bool) -> u32 {
        let user_agent = if own_name {
            let name = draws.pick(&[
                "aiohttp",
                "node-fetch",
                "undici",
                "httpie",
                "got",
                "Apache-HttpClient",
                "libwww-perl",
                "Faraday",
                "hyper",
                "ky",
            ]);
            format!("{name}/{}.{}.{}", draws.between(0, 5), draws.below(40), draws.below(20))
        } else {
            let at = draws.below(FAMILIES.len() * VERSIONS * PLATFORMS);
            self.all[at].user_agent.clone()
        };
        let stack = draws.below(10) as u8;
        let ja4 = ja4(mix(self.seed, 900, draws.bits()), stack);
        self.all.push(Client { user_agent, ja4 });
        (self.all.len() - 1) as u32
    }
}

/// A JA4 string: protocol, ciphers and extensions counted, two truncated hashes.
fn ja4(bits: u64, stack: u8) -> String {
    let ciphers = 9 + (stack as u64 * 7 + bits % 3) % 44;
    let extensions = 6 + (stack as u64 * 5 + (bits >> 8) % 3) % 14;
    let version = if bits.is_multiple_of(23) { "12" } else { "13" };
    let protocol = if matches!(stack, 2 | 5 | 7) { "00" } else { "h2" };
    let (first, second) = (mix(bits, 1, 0) >> 16, mix(bits, 2, 0) >> 16);
    format!("t{version}d{ciphers:02}{extensions:02}{protocol}_{first:012x}_{second:012x}")
}

/// The parameters that a client sends with a request; `None` = left to the default.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Parameters {
    pub temperature: Option<f32>,
    pub top_p: Option<f32>,
    pub max_tokens: Option<u32>,
    pub choices: Option<u16>,
    pub seed: Option<i64>,
    pub stream: Option<bool>,
    pub top_logprobs: Option<u16>,
    pub logit_bias: Option<u16>,
    pub reasoning: Option<&'static str>,
    pub tools: Option<u16>,
}

pub(crate) const REASONING: &[&str] = &["minimal", "low", "medium", "high"];

/// Parameters as an ordinary caller of an API chooses them: mostly the defaults.
pub(crate) fn ordinary_parameters(draws: &mut Draws, streams: bool) -> Parameters {
    let mut parameters = Parameters { stream: streams.then_some(true), ..Parameters::default() };
    if draws.chance(0.55) {
        parameters.temperature =
            Some(*draws.pick(&[0.0, 0.0, 0.2, 0.3, 0.5, 0.7, 0.7, 0.7, 0.8, 1.0, 1.0]));
    }
    if draws.chance(0.12) {
        parameters.top_p = Some(*draws.pick(&[0.9, 0.95, 0.95, 0.99, 1.0]));
    }
    if draws.chance(0.6) {
        parameters.max_tokens =
            Some(*draws.pick(&[256, 512, 1000, 1024, 1024, 1500, 2000, 2048, 4096, 4096, 8192]));
    }
    if draws.chance(0.2) {
        parameters.reasoning = Some(*draws.pick(REASONING));
    }
    parameters
}
