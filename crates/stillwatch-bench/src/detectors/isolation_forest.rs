//! Isolation forest: accounts whose habits few random cuts set apart.
//!
//! What it is: trees that cut a sample of the accounts at random features and random
//! values; who is alone after few cuts is unusual. Source: Liu, Ting, Zhou, «Isolation
//! Forest», ICDM 2008. Settings, all the paper's: 100 trees, 256 accounts a tree, a height
//! of at most 8, scores from 0.6 on as anomalies. Features of an account, counted up to
//! the look: volume, exchanges a day, length of life, spread over the hours, share at
//! night, share of follow-ups, addresses and clients and prompts for each exchange, tokens
//! asked and answered, unevenness of the gaps. Complexity: accounts times trees times
//! height. The two crates that exist draw from the thread's own randomness, which can't be
//! seeded, so that no run could be repeated; hence these few lines.

use hashbrown::HashSet;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use stillwatch_exchange::time::{DAY_US, HOUR_US};

use crate::detector::{Detector, Suspicion, looks};
use crate::traffic::{Exchange, Needs, Traffic};

pub struct IsolationForest;

const TREES: u64 = 100;
const SAMPLE: usize = 256;
/// Exchanges that an account must have for habits.
const EXCHANGES_MIN: usize = 5;
const FEATURES: usize = 12;

type Habits = [f64; FEATURES];

impl Detector for IsolationForest {
    fn name(&self) -> &'static str {
        "isolation forest"
    }

    fn needs(&self) -> Needs {
        Needs { origins: true, habits: true, prompts: true, ..Needs::default() }
    }

    fn suspicions(&self, traffic: &Traffic, _: &[f64]) -> Vec<Suspicion> {
        let lists = traffic.by_account();
        let mut suspicions = Vec::new();
        for look in looks(traffic) {
            let rows: Vec<(u32, Habits)> = lists
                .par_iter()
                .enumerate()
                .filter_map(|(account, list)| {
                    let count =
                        list.partition_point(|i| traffic.exchanges[*i as usize].time_us < look);
                    let exchanges: Vec<&Exchange> =
                        list[..count].iter().map(|i| &traffic.exchanges[*i as usize]).collect();
                    (count >= EXCHANGES_MIN).then(|| (account as u32, habits(&exchanges)))
                })
                .collect();
            let points: Vec<Habits> = rows.iter().map(|(_, habits)| *habits).collect();
            let scores = scores(&points);
            suspicions.extend(rows.iter().zip(scores).map(|((account, _), score)| Suspicion {
                accounts: vec![*account],
                course: vec![(look, score)],
            }));
        }
        suspicions
    }

    fn paper_threshold(&self) -> Option<f64> {
        Some(0.6)
    }
}

fn habits(exchanges: &[&Exchange]) -> Habits {
    let count = exchanges.len() as f64;
    let distinct = |of: &dyn Fn(&Exchange) -> u64| {
        exchanges.iter().map(|e| of(e)).collect::<HashSet<u64>>().len() as f64
    };
    let mean = |of: &dyn Fn(&Exchange) -> f64| exchanges.iter().map(|e| of(e)).sum::<f64>() / count;
    let (first, last) = (exchanges[0].time_us, exchanges[exchanges.len() - 1].time_us);
    let days = (last - first) as f64 / DAY_US as f64;
    let mut hours = [0.0f64; 24];
    for exchange in exchanges {
        hours[exchange.time_us.rem_euclid(DAY_US).div_euclid(HOUR_US) as usize % 24] += 1.0 / count;
    }
    let spread: f64 = hours.iter().filter(|h| **h > 0.0).map(|h| -h * h.ln()).sum();
    let quietest = (0..24)
        .map(|start| (0..8).map(|k| hours[(start + k) % 24]).sum::<f64>())
        .fold(1.0, f64::min);
    let gaps: Vec<f64> = exchanges
        .windows(2)
        .map(|w| ((w[1].time_us - w[0].time_us) as f64 / 1e6).ln_1p())
        .collect();
    let gap = gaps.iter().sum::<f64>() / gaps.len().max(1) as f64;
    let uneven =
        (gaps.iter().map(|g| (g - gap).powi(2)).sum::<f64>() / gaps.len().max(1) as f64).sqrt();
    [
        count.ln(),
        (count / (days + 1.0)).ln(),
        days,
        spread,
        quietest,
        mean(&|e| f64::from(u8::from(e.turn > 1))),
        distinct(&|e| e.address).ln() / (count + 1.0).ln(),
        distinct(&|e| e.client).ln(),
        distinct(&|e| e.prompt) / count,
        mean(&|e| f64::from(e.input_tokens).ln_1p()),
        mean(&|e| f64::from(e.output_tokens).ln_1p()),
        uneven,
    ]
}

enum Node {
    Leaf { size: usize },
    Cut { feature: usize, at: f64, below: Box<Node>, above: Box<Node> },
}

/// By point: 1 for what stands alone, 0.5 for the ordinary.
fn scores(points: &[Habits]) -> Vec<f64> {
    if points.len() < 2 {
        return vec![0.5; points.len()];
    }
    let sample = SAMPLE.min(points.len());
    let height = (sample as f64).log2().ceil() as usize;
    let trees: Vec<Node> = (0..TREES)
        .into_par_iter()
        .map(|number| {
            let mut rng = ChaCha8Rng::seed_from_u64(number);
            let mut order: Vec<usize> = (0..points.len()).collect();
            for i in 0..sample {
                let other = rng.random_range(i..order.len());
                order.swap(i, other);
            }
            grow(points, &mut order[..sample], height, &mut rng)
        })
        .collect();
    let usual = path_length(sample);
    points
        .par_iter()
        .map(|point| {
            let depth: f64 = trees.iter().map(|tree| depth(tree, point)).sum();
            (-depth / TREES as f64 / usual * std::f64::consts::LN_2).exp()
        })
        .collect()
}

fn grow(points: &[Habits], sample: &mut [usize], height: usize, rng: &mut ChaCha8Rng) -> Node {
    let leaf = Node::Leaf { size: sample.len() };
    if height == 0 || sample.len() < 2 {
        return leaf;
    }
    let range = |feature: usize| {
        sample
            .iter()
            .map(|i| points[*i][feature])
            .fold((f64::INFINITY, f64::NEG_INFINITY), |r, v| (r.0.min(v), r.1.max(v)))
    };
    let cuttable: Vec<usize> = (0..FEATURES).filter(|f| range(*f).0 < range(*f).1).collect();
    if cuttable.is_empty() {
        return leaf;
    }
    let feature = cuttable[rng.random_range(0..cuttable.len())];
    let (low, high) = range(feature);
    let at = low + (high - low) * rng.random::<f64>();
    sample.sort_unstable_by(|a, b| points[*a][feature].total_cmp(&points[*b][feature]));
    let (below, above) = sample.split_at_mut(sample.partition_point(|i| points[*i][feature] < at));
    Node::Cut {
        feature,
        at,
        below: Box::new(grow(points, below, height - 1, rng)),
        above: Box::new(grow(points, above, height - 1, rng)),
    }
}

fn depth(tree: &Node, point: &Habits) -> f64 {
    let (mut node, mut cuts) = (tree, 0.0);
    loop {
        match node {
            Node::Leaf { size } => return cuts + path_length(*size),
            Node::Cut { feature, at, below, above } => {
                node = if point[*feature] < *at { below } else { above };
                cuts += 1.0;
            }
        }
    }
}

/// The mean length of an unsuccessful search in a binary tree of so many, the paper's
/// equation 1.
fn path_length(size: usize) -> f64 {
    const EULER: f64 = 0.577_215_664_901_532_9;
    match size {
        0 | 1 => 0.0,
        2 => 1.0,
        n => {
            let n = n as f64;
            2.0 * ((n - 1.0).ln() + EULER) - 2.0 * (n - 1.0) / n
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The paper: an outlier scores near 1, a crowd about 0.5 or below, and what is unusual
    /// but comes by the hundred hides itself («masking»).
    #[test]
    fn it_sees_one_that_is_alone_and_not_many_that_are_alike() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut point = |centre: f64, width: f64| -> Habits {
            std::array::from_fn(|_| centre + width * (rng.random::<f64>() - 0.5))
        };
        let mut points: Vec<Habits> = (0..1_000).map(|_| point(0.0, 2.0)).collect();
        points.push([6.0; FEATURES]);
        points.extend((0..400).map(|_| point(3.0, 0.2)));
        let scores = scores(&points);
        let inside = scores[..1_000].iter().sum::<f64>() / 1_000.0;
        let many = scores[1_001..].iter().sum::<f64>() / 400.0;
        assert!(inside < 0.53, "{inside}");
        assert!(scores[1_000] > 0.6, "{}", scores[1_000]);
        assert!(many < 0.55, "{many}");
    }

    #[test]
    fn the_same_points_have_the_same_scores() {
        let points: Vec<Habits> = (0..300).map(|i| [f64::from(i % 17); FEATURES]).collect();
        assert_eq!(scores(&points), scores(&points));
        assert_eq!(scores(&points[..1]), [0.5]);
    }

    #[test]
    fn path_lengths_are_the_paper_s() {
        assert!((path_length(256) - 10.244_770_920_7).abs() < 1e-2);
    }
}
