//! Coverage: no member has a purpose of its own.
//!
//! # What it sees
//!
//! How much of what a member asks is in a wording that recurs with it and with nobody
//! else of the group. Members of a campaign cover one task space together: their wordings
//! are all different, or they share them.
//!
//! # Why it matters
//!
//! A customer comes with one purpose, which shows in what it asks again and again. Where
//! most of what members do is in wordings of their own, that explains a group.
//!
//! # Innocent explanations
//!
//! One narrow app with many tenants, who share its template; so it accuses nobody.
//!
//! # How it is evaded, and at what cost
//!
//! By giving each account a template of its own, at the price of as many templates.
//!
//! # References
//!
//! * Wang et al. (2023), «Self-Instruct», ACL, arXiv 2212.10560: questions made to cover
//!   a task space
//! * Anthropic (2026-02-23), «Detecting and preventing distillation attacks»

use super::{Confirm, Explains, M, Measure, Measured, Role, Sum, Tail, View, percent};
use crate::link::LinkChannel;

pub(super) const CHANNEL: Confirm = Confirm {
    name: "coverage",
    role: Role::Clears,
    needs_occasion: false,
    lasts: false,
    sum: Sum::Mean,
    spent_by: &[LinkChannel::Script],
    measure,
    measures: &[Measure {
        id: M::Own,
        name: "share of a member's questions in a wording of its own",
        high: false,
        resolution: 0.10,
        weight: 1.0,
        tail: Tail::Heavy,
        corroborates: false,
        explains: &[Explains::Mostly],
        statement: |value, ordinary, _| {
            format!(
                "{} of what an account asks is in a wording that recurs with it and that no other account of the group uses; in ordinary groups it is {}.",
                percent(value),
                percent(ordinary)
            )
        },
    }],
    ruled_out: "Evaluation suites cover subjects alike, but all ask the same questions; apps, automations and pipelines each have a template of their own.",
    cost_to_avoid: "Give each account a template and a subject of its own: a plan for each, and new ones when an account is lost.",
};

fn measure(view: &View<'_>, out: &mut Measured) {
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
