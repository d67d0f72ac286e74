//! SynchroTrap: accounts that do the same things at the same times, again and again.
//!
//! What it is: two actions match when they are on the same object within a window of
//! time; accounts are alike by the Jaccard index of their actions, and accounts that are
//! alike enough are clustered by single linkage; large clusters are accused. Source: Cao,
//! Yang, Yu, Palow, «Uncovering Large Groups of Active Malicious Accounts in Online Social
//! Networks», CCS 2014. Settings: objects are what a model API has of the paper's pages
//! and addresses, namely the network of origin and the prompt; a window is an hour;
//! accounts are alike from one half on; the size of a cluster, which the paper sets by
//! hand, is the threshold. The paper cuts the most popular objects off to bound its work;
//! here what over 100 accounts do within an hour matches nobody. Complexity: pairs of
//! accounts by object and hour, so at most 100 times the exchanges.

use hashbrown::HashMap;
use petgraph::unionfind::UnionFind;
use stillwatch_exchange::time::HOUR_US;

use super::infrastructure::components;
use crate::detector::{Detector, Suspicion, looks};
use crate::traffic::{Needs, Traffic};

pub struct SynchroTrap;

const WINDOW_US: i64 = HOUR_US;
const ALIKE: f64 = 0.5;
const TOGETHER_MAX: usize = 100;
/// Actions that two accounts must have in common; fewer are chance.
const COMMON_MIN: u32 = 3;

impl Detector for SynchroTrap {
    fn name(&self) -> &'static str {
        "SynchroTrap"
    }

    fn needs(&self) -> Needs {
        Needs { origins: true, prompts: true, ..Needs::default() }
    }

    fn suspicions(&self, traffic: &Traffic, _: &[f64]) -> Vec<Suspicion> {
        let mut actions: Vec<(i64, u64, u32)> = traffic
            .exchanges
            .iter()
            .flat_map(|e| {
                let window = e.time_us.div_euclid(WINDOW_US);
                [(window, e.network, e.account), (window, e.prompt.rotate_left(7), e.account)]
            })
            .filter(|(_, object, _)| *object != 0)
            .collect();
        actions.sort_unstable();
        actions.dedup();

        let mut counts = vec![0u32; traffic.accounts.len()];
        let mut common: HashMap<(u32, u32), u32> = HashMap::new();
        let mut suspicions = Vec::new();
        let mut rest = actions.as_slice();
        for look in looks(traffic) {
            let (now, later) = rest
                .split_at(rest.partition_point(|(window, ..)| (window + 1) * WINDOW_US <= look));
            rest = later;
            for together in now.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
                together.iter().for_each(|(.., account)| counts[*account as usize] += 1);
                if together.len() > TOGETHER_MAX {
                    continue;
                }
                for (i, (.., a)) in together.iter().enumerate() {
                    for (.., b) in &together[i + 1..] {
                        *common.entry((*a, *b)).or_default() += 1;
                    }
                }
            }
            let mut joined: UnionFind<u32> = UnionFind::new(traffic.accounts.len());
            for ((a, b), both) in common.iter().filter(|(_, both)| **both >= COMMON_MIN) {
                let either = counts[*a as usize] + counts[*b as usize] - both;
                if f64::from(*both) >= ALIKE * f64::from(either) {
                    joined.union(*a, *b);
                }
            }
            suspicions.extend(components(joined, look));
        }
        suspicions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detectors::made::{HOUR, of};
    use crate::traffic::Exchange;

    #[test]
    fn it_sees_those_who_act_together_and_not_those_who_share_a_place() {
        let act = |account, hour: i64, network| Exchange {
            account,
            time_us: hour * HOUR,
            network,
            ..Exchange::default()
        };
        // 0–9 go through one network after the other, hour by hour. 10–19 share one
        // network and come at hours of their own. 20–29 have a network each.
        let together = (0..10).flat_map(|a| (0..40).map(move |h| act(a, h, 1 + h as u64)));
        let campus = (10..20).flat_map(|a: u32| {
            (0..40).map(move |k| act(a, (i64::from(a) * 7 + k * 13) % 400, 900))
        });
        let alone =
            (20..30).flat_map(|a: u32| (0..40).map(move |h| act(a, h, 1_000 + u64::from(a))));
        let suspicions = SynchroTrap.suspicions(&of(together.chain(campus).chain(alone)), &[]);
        assert!(!suspicions.is_empty());
        for suspicion in &suspicions {
            assert_eq!(suspicion.accounts, (0..10).collect::<Vec<u32>>());
        }
    }
}
