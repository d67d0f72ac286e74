//! The models on offer, their releases and their prices.

use stillwatch_exchange::Time;
use stillwatch_exchange::time::DAY_US;

use crate::draws::{Draws, Purpose};

pub(crate) struct Model {
    pub name: String,
    pub response_name: String,
    pub released_us: i64,
    /// US dollars per million tokens in and out.
    pub price: (f64, f64),
    /// 0 small, 1 middle, 2 large.
    pub tier: u8,
}

pub(crate) struct Models {
    pub all: Vec<Model>,
    pub provider: &'static str,
    /// The current model of each tier when the world begins.
    pub standing: [u8; 3],
    /// Models released while the world lasts, in order.
    pub fresh: Vec<u8>,
}

impl Models {
    pub(crate) fn new(seed: u64, start_us: i64, days: u32, releases: u32) -> Self {
        let mut draws = Draws::new(seed, Purpose::World, 3, 0);
        let families = [
            "meridian", "halcyon", "corvid", "tessera", "aurelia", "kestrel", "lodestar", "marlin",
        ];
        let provider = *draws.pick(&["northwind", "cedar-ai", "openfjord", "larkspur"]);
        let family = *draws.pick(&families);
        let generation = draws.between(2, 6);
        let tiers = [("mini", 0.3, 1.2), ("core", 2.5, 10.0), ("max", 12.0, 60.0)];
        let mut all = Vec::new();
        let mut add = |generation: String, tier: u8, released_us: i64, factor: f64| {
            let (word, input, output) = tiers[usize::from(tier)];
            let name = format!("{family}-{generation}-{word}");
            let date = date(released_us);
            all.push(Model {
                response_name: format!("{name}-{date}"),
                name,
                released_us,
                price: (input * factor, output * factor),
                tier,
            });
            (all.len() - 1) as u8
        };
        let before = |draws: &mut Draws, low: f64, high: f64| {
            start_us - (draws.range(low, high) * DAY_US as f64) as i64
        };
        for tier in 0..3 {
            let released = before(&mut draws, 300.0, 520.0);
            add((generation - 1).to_string(), tier, released, 1.2);
        }
        let mut standing = [0; 3];
        for tier in 0..3u8 {
            let released = before(&mut draws, 40.0, 200.0);
            standing[usize::from(tier)] = add(generation.to_string(), tier, released, 1.0);
        }
        let mut fresh = Vec::new();
        for release in 0..releases.min(3) {
            let (low, high) = [(0.35, 0.5), (0.62, 0.78), (0.82, 0.9)][release as usize];
            let share = draws.range(low, high);
            // Releases come in the working hours of the provider.
            let day = (share * f64::from(days)).floor();
            let released_us =
                start_us + (day * DAY_US as f64) as i64 + (draws.range(15.0, 19.0) * 3.6e9) as i64;
            let tier = [2, 1, 0][release as usize];
            fresh.push(add(format!("{generation}.{}", release + 1), tier, released_us, 1.1));
        }
        Models { all, provider, standing, fresh }
    }
}

/// `YYYYMMDD` of a moment.
fn date(us: i64) -> String {
    Time(us).to_string().chars().take(10).filter(|c| *c != '-').collect()
}
