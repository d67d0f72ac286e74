//! Fraudar: the densest block of accounts and objects, weighed so that popular objects
//! and camouflage say little.
//!
//! What it is: in the bipartite graph of accounts and what they use, nodes are taken away
//! one by one, each time the one that adds least; the densest of the graphs on the way is
//! the block. An edge to an object of degree d weighs 1 / ln(d + 5). Source: Hooi, Song,
//! Beutel, Shah, Shin, Faloutsos, «FRAUDAR: Bounding Graph Fraud in the Face of
//! Camouflage», KDD 2016, algorithm 1, with its logarithmic weights; further blocks are
//! found once the edges of those before are gone, as its authors' program does. Settings:
//! objects are addresses, clients, payment instruments and prompts that two accounts or
//! more share; eight blocks a look; a block's density is the score. Complexity: edges
//! times the logarithm of nodes, for each block.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::detector::{Detector, Suspicion, looks, sharers};
use crate::traffic::{Needs, Traffic};

pub struct Fraudar;

const BLOCKS: usize = 8;

impl Detector for Fraudar {
    fn name(&self) -> &'static str {
        "Fraudar"
    }

    fn needs(&self) -> Needs {
        Needs { origins: true, prompts: true, ..Needs::default() }
    }

    fn suspicions(&self, traffic: &Traffic, _: &[f64]) -> Vec<Suspicion> {
        let mut suspicions = Vec::new();
        for look in looks(traffic) {
            let exchanges = traffic.until(look);
            let mut active = vec![false; traffic.accounts.len()];
            exchanges.iter().for_each(|e| active[e.account as usize] = true);
            let payments = traffic
                .accounts
                .iter()
                .enumerate()
                .filter(|(index, _)| active[*index])
                .map(|(index, account)| (account.payment, index as u32));
            let objects: Vec<Vec<u32>> = [
                sharers(payments, usize::MAX),
                sharers(exchanges.iter().map(|e| (e.address, e.account)), usize::MAX),
                sharers(exchanges.iter().map(|e| (e.client, e.account)), usize::MAX),
                sharers(exchanges.iter().map(|e| (e.prompt, e.account)), usize::MAX),
            ]
            .into_iter()
            .flatten()
            .map(|(_, accounts)| accounts)
            .collect();
            for (accounts, density) in blocks(objects, traffic.accounts.len(), BLOCKS) {
                suspicions.push(Suspicion { accounts, course: vec![(look, density)] });
            }
        }
        suspicions
    }
}

/// Blocks, the densest first, each with its accounts and its density.
fn blocks(mut objects: Vec<Vec<u32>>, accounts: usize, most: usize) -> Vec<(Vec<u32>, f64)> {
    let mut found = Vec::new();
    while found.len() < most {
        let Some((rows, columns, density)) = densest(&objects, accounts) else { break };
        for column in columns {
            objects[column].retain(|account| rows.binary_search(account).is_err());
        }
        found.push((rows, density));
    }
    found
}

/// The accounts and the objects of the densest block, both ascending.
fn densest(objects: &[Vec<u32>], accounts: usize) -> Option<(Vec<u32>, Vec<usize>, f64)> {
    let weights: Vec<f64> =
        objects.iter().map(|list| 1.0 / (list.len() as f64 + 5.0).ln()).collect();
    let mut of_account: Vec<Vec<u32>> = vec![Vec::new(); accounts];
    let mut degrees = vec![0.0f64; accounts + objects.len()];
    let mut total = 0.0;
    for (object, list) in objects.iter().enumerate() {
        for account in list {
            of_account[*account as usize].push(object as u32);
            degrees[*account as usize] += weights[object];
            degrees[accounts + object] += weights[object];
            total += weights[object];
        }
    }
    let mut is_there: Vec<bool> = degrees.iter().map(|d| *d > 0.0).collect();
    let mut left = is_there.iter().filter(|there| **there).count();
    if left == 0 {
        return None;
    }
    // Degrees only fall, and each fall enters the queue anew; stale entries are passed over.
    let mut queue: BinaryHeap<Reverse<(u64, u32)>> = degrees
        .iter()
        .enumerate()
        .filter(|(_, degree)| **degree > 0.0)
        .map(|(node, degree)| Reverse((degree.to_bits(), node as u32)))
        .collect();
    let mut gone: Vec<u32> = Vec::with_capacity(left);
    let mut best = (total / left as f64, 0);
    while let Some(Reverse((bits, node))) = queue.pop() {
        let node = node as usize;
        // The bits of numbers that are not negative are in the numbers' order.
        if !is_there[node] || bits != degrees[node].max(0.0).to_bits() {
            continue;
        }
        is_there[node] = false;
        gone.push(node as u32);
        left -= 1;
        total -= degrees[node];
        let mut take = |other: usize, weight: f64| {
            if is_there[other] {
                degrees[other] = (degrees[other] - weight).max(0.0);
                queue.push(Reverse((degrees[other].to_bits(), other as u32)));
            }
        };
        if node < accounts {
            for object in &of_account[node] {
                take(accounts + *object as usize, weights[*object as usize]);
            }
        } else {
            for account in &objects[node - accounts] {
                take(*account as usize, weights[node - accounts]);
            }
        }
        if left > 0 && total / left as f64 > best.0 + 1e-12 {
            best = (total / left as f64, gone.len());
        }
    }
    let mut inside: Vec<u32> = gone[best.1..].to_vec();
    inside.sort_unstable();
    let rows: Vec<u32> = inside.iter().copied().filter(|n| (*n as usize) < accounts).collect();
    let columns: Vec<usize> = inside
        .iter()
        .map(|n| *n as usize)
        .filter(|n| *n >= accounts)
        .map(|n| n - accounts)
        .collect();
    (!rows.is_empty() && !columns.is_empty()).then_some((rows, columns, best.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thousand accounts with a few objects each, and accounts 0–29 that share all of
    /// thirty objects beside.
    fn crowd_with_a_block(camouflage: bool) -> Vec<Vec<u32>> {
        let mut objects: Vec<Vec<u32>> = vec![Vec::new(); 330];
        for account in 0..1_000u32 {
            for k in 0..3u32 {
                let object = (account.wrapping_mul(2_654_435_761) >> 7).wrapping_add(k * 97) % 300;
                objects[object as usize].push(account);
            }
        }
        for account in 0..30 {
            for object in &mut objects[300..] {
                object.push(account);
            }
            if camouflage {
                // As much again of what everybody uses.
                for k in 0..30 {
                    objects[(account * 7 + k * 11) as usize % 20].push(account);
                }
            }
        }
        for list in &mut objects {
            list.sort_unstable();
            list.dedup();
        }
        objects
    }

    #[test]
    fn it_finds_the_block_even_behind_camouflage() {
        for camouflage in [false, true] {
            let found = blocks(crowd_with_a_block(camouflage), 1_000, 1);
            assert_eq!(found[0].0, (0..30).collect::<Vec<u32>>(), "camouflage {camouflage}");
        }
    }

    #[test]
    fn the_next_block_comes_once_the_first_is_gone() {
        let mut objects = crowd_with_a_block(false);
        objects.extend((0..20).map(|_| (500..520).collect::<Vec<u32>>()));
        let found = blocks(objects, 1_000, 2);
        assert_eq!(found[0].0, (0..30).collect::<Vec<u32>>());
        assert_eq!(found[1].0, (500..520).collect::<Vec<u32>>());
        assert!(found[0].1 > found[1].1);
    }

    #[test]
    fn the_density_is_that_of_the_definition() {
        // A single object that all three share: 3 edges of 1 / ln 8, among 4 nodes.
        let found = blocks(vec![vec![0, 1, 2]], 3, 5);
        assert_eq!(found.len(), 1);
        assert!((found[0].1 - 3.0 / 8f64.ln() / 4.0).abs() < 1e-12);
        assert_eq!(blocks(Vec::new(), 3, 5), []);
    }
}
