//! Ties: accounts that are tied twice, by who they are and by what they run.
//!
//! # What it sees
//!
//! The part of the members that share an instrument, an e-mail domain or a day of birth
//! with others of the group, and the part that share a client or a wording with them; of
//! the two, the smaller, by as much as it outnumbers the rest. A value counts if it is much rarer outside of the group, and if
//! it ties three customers or more: what one organisation's own accounts share is no tie.
//! Nor is anything where most members are in one place.
//!
//! # Why it matters
//!
//! Customers of one application run the same program, and have nothing else in common; a
//! promotion's have one birthday, and each a program of his own. Whoever hides behind many
//! accounts has to make them as well as to drive them.
//!
//! # Innocent explanations
//!
//! A class has its mail domain, its day of signing up and its tools in common, and a campus.
//! Who hides behind many accounts hides behind many networks too, so that one place makes it
//! a class or an office. Remote ones are left, so it corroborates and never accuses.
//!
//! # How it is evaded, and at what cost
//!
//! By an instrument, a domain and a day of birth for each account, or a program and a
//! wording for each.
//!
//! # References
//!
//! * Thomas et al. (2013), «Trafficking fraudulent accounts: the role of the underground
//!   market in Twitter spam and abuse», USENIX Security: accounts are made in one place and
//!   used in another
//! * Xiao, Freeman, Hwa (2015), «Detecting clusters of fake accounts in online social
//!   networks», AISec

use super::{ACTIVE_MIN, Confirm, Estimate, M, Measure, Measured, Role, Sum, Tail, View, percent};
use crate::link::LinkChannel;

pub(super) const CHANNEL: Confirm = Confirm {
    name: "ties",
    role: Role::Corroborates,
    needs_occasion: false,
    lasts: true,
    sum: Sum::Mean,
    spent_by: &[],
    measure,
    measures: &[Measure {
        id: M::Ties,
        name: "excess of those tied both by who they are and by what they run over the rest",
        high: true,
        resolution: 0.15,
        weight: 1.0,
        tail: Tail::Heavy,
        corroborates: false,
        explains: &[],
        statement: |value, ordinary, _| {
            format!(
                "{} of the accounts or more are tied to others of the group by payment, domain or day of signing up, and as many by client or wording; in ordinary groups it is at most {}.",
                percent((1.0 + value) / 2.0),
                percent((1.0 + ordinary) / 2.0)
            )
        },
    }],
    ruled_out: "Customers of one application run one program and have nothing else in common; seats of one organisation are not counted.",
    cost_to_avoid: "An instrument, a domain and a day of signing up for each account, or a program and a wording for each.",
};

/// By which an account is known.
pub(crate) const WHO: [LinkChannel; 2] = [LinkChannel::Payment, LinkChannel::Birth];
/// By which what it runs is known.
pub(crate) const WHAT: [LinkChannel; 2] = [LinkChannel::Client, LinkChannel::Script];

/// Whether most members mostly work from one network.
fn is_one_place(view: &View<'_>) -> bool {
    let place = |m: &u32| view.owners.get(*m as usize).and_then(|owner| owner.place);
    let mut places: Vec<u64> = view.members.iter().filter_map(place).collect();
    places.sort_unstable();
    let most = places.chunk_by(|a, b| a == b).map(<[u64]>::len).max().unwrap_or(0);
    2 * most > view.members.len()
}

fn measure(view: &View<'_>, out: &mut Measured) {
    let Some(values) = view.values else { return };
    let tied = values.tied(view.members, &[&WHO, &WHAT], |account| {
        view.owners.get(account as usize).and_then(|owner| owner.organization)
    });
    let members = view.members.len();
    if members >= ACTIVE_MIN {
        let [who, what] = [tied[0], tied[1]].map(|tied| tied as f64 / members as f64);
        let tied = if is_one_place(view) { 0.0 } else { who.min(what) };
        let error = 2.0 * (tied * (1.0 - tied) / members as f64).sqrt();
        out[M::Ties as usize] =
            Some(Estimate { value: (2.0 * tied - 1.0).max(0.0), error, chance: 0.0 });
    }
}
