//! Coverage: no member has a purpose of its own.
//!
//! What it sees: how much of what a member asks is in a wording that recurs with it and
//! with nobody else of the group. Members of a campaign cover one task space together:
//! their wordings are all different, or they share them. Innocent explanations: one
//! narrow app with many tenants. Evaded by giving each account a template of its own, at
//! the price of as many templates.

use super::{M, Measured, View};

pub(super) fn measure(view: &View<'_>, out: &mut Measured) {
    // Each recurring wording with whether several members have it.
    let mut wordings: Vec<u32> =
        view.features().flat_map(|f| f.recurring.iter().map(|r| r.wording)).collect();
    wordings.sort_unstable();
    let mut common: Vec<u32> =
        wordings.chunk_by(|a, b| a == b).filter(|run| run.len() > 1).map(|run| run[0]).collect();
    common.dedup();
    out[M::Own as usize] = view.mean(|f| {
        // Exchanges most of whose recurring wordings nobody else has.
        let own = (0..f.sampled)
            .filter(|exchange| {
                let mut own = 0;
                let mut all = 0;
                for r in f.recurring.iter().filter(|r| r.exchanges >> exchange & 1 == 1) {
                    all += 1;
                    own += u32::from(common.binary_search(&r.wording).is_err());
                }
                2 * own > all
            })
            .count();
        (f.sampled >= SAMPLED_MIN).then(|| own as f64 / f64::from(f.sampled))
    });
}

/// Sampled exchanges without which a member's own wording can't be told.
const SAMPLED_MIN: u32 = 4;
