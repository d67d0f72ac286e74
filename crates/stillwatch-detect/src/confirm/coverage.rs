//! Coverage: no member has a purpose of its own.
//!
//! What it sees: how much of what a member asks is in a wording that recurs with it and
//! with nobody else of the group. Members of a campaign cover one task space together:
//! their wordings are all different, or they share them. Innocent explanations: one
//! narrow app with many tenants. Evaded by giving each account a template of its own, at
//! the price of as many templates.

use hashbrown::HashMap;

use super::{Estimate, M, Measured, View};
use crate::profile::Sampled;

/// Sampled exchanges without which a member's own wording can't be told.
const SAMPLED_MIN: usize = 4;

pub(super) fn measure(view: &View<'_>, out: &mut Measured) {
    out[M::Own as usize] = own(view);
}

fn own(view: &View<'_>) -> Option<Estimate> {
    let window = view.crowd.window;
    // By wording: the member that uses it, or that several do.
    let mut users: HashMap<u64, Option<u32>> = HashMap::new();
    let of = |i: u32| {
        view.population.members()[i as usize]
            .profile
            .epochs(window.freeze..window.look)
            .flat_map(|(_, epoch)| epoch.sample())
    };
    for &i in view.members {
        for wording in of(i).flat_map(Sampled::wordings) {
            let user = users.entry(wording).or_insert(Some(i));
            if *user != Some(i) {
                *user = None;
            }
        }
    }
    view.mean_of(|i| {
        let mut times: HashMap<u64, u32> = HashMap::new();
        let mut sampled = 0usize;
        for s in of(i) {
            sampled += 1;
            for wording in s.wordings() {
                *times.entry(wording).or_default() += 1;
            }
        }
        if sampled < SAMPLED_MIN {
            return None;
        }
        let own = of(i)
            .filter(|s| {
                let recurring = s.wordings().filter(|w| times[w] > 1);
                let (own, all) = recurring
                    .fold((0, 0), |(own, all), w| (own + u32::from(users[&w] == Some(i)), all + 1));
                2 * own > all
            })
            .count();
        Some(own as f64 / sampled as f64)
    })
}
