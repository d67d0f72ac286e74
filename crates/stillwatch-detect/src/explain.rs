//! Explain: each piece of evidence as a sentence that a person who was not there can
//! follow, the innocent explanation that was looked at, and what it would cost an
//! attacker to avoid it.

use crate::confirm::{ConfirmChannel, M, MEASURES};
use crate::judge::Scale;
use crate::link::LinkChannel;

/// The sentence for a measure of a group beside its references.
#[must_use]
pub fn statement(measure: usize, value: f64, scale: &Scale, accounts: usize) -> String {
    let percent = |share: f64| format!("{:.0} %", (share * 100.0).clamp(-100.0, 100.0));
    let times = |log: f64| format!("{:.1}", log.exp());
    let n = accounts;
    let m = scale.median;
    if measure == M::Spread as usize {
        format!(
            "The {n} accounts' volumes lie within a factor of {} of each other (two thirds of them); in ordinary groups of this kind the factor is {}.",
            times(2.0 * value),
            times(2.0 * m)
        )
    } else if measure == M::Drift as usize {
        format!(
            "Each account's own volume stays within a factor of {} from one slice of time to the next; in ordinary groups of this kind the factor is {}.",
            times(2.0 * value),
            times(2.0 * m)
        )
    } else if measure == M::Quiet as usize {
        format!(
            "{} of the exchanges fall into the eight hours in which the same accounts were quietest before; in ordinary groups it is {}, and a machine that knows no night reaches 33 %.",
            percent(value),
            percent(m)
        )
    } else if measure == M::Together as usize {
        format!(
            "Two of the accounts are active at the same moments {} more often than their own daily rhythms explain; in ordinary groups it is {}.",
            percent_more(value),
            percent_more(m)
        )
    } else if measure == M::Repeats as usize {
        format!(
            "A question of one account was asked by another given one of the group with a chance of {}; in ordinary groups it is {}.",
            percent(value),
            percent(m)
        )
    } else if measure == M::Clock as usize {
        format!(
            "{} of the exchanges come within seconds of a full five minutes, where chance gives 5 %; in ordinary groups it is {}.",
            percent(value),
            percent(m)
        )
    } else if measure == M::FollowUps as usize {
        format!(
            "{} of the exchanges go on from an earlier answer; in ordinary groups it is {}.",
            percent(value),
            percent(m)
        )
    } else if measure == M::Thread as usize {
        format!(
            "Consecutive questions of one account are {} points more alike than any two of its questions; in ordinary groups it is {} points.",
            points(value),
            points(m)
        )
    } else if measure == M::Own as usize {
        format!(
            "{} of what an account asks is in a wording that recurs with it and that no other account of the group uses; in ordinary groups it is {}.",
            percent(value),
            percent(m)
        )
    } else if measure == M::Successors as usize {
        format!(
            "Of the accounts that were opened in the time, {} more than chance gives came within two days after another account of the group was closed; in ordinary groups it is {} more.",
            percent(value),
            percent(m)
        )
    } else if measure == M::Moved as usize {
        format!(
            "Within a day of a release the accounts moved {} more of their traffic to the new model than everybody else did; ordinary groups moved {} more.",
            percent(value),
            percent(m)
        )
    } else if measure == M::Reasoning as usize {
        format!(
            "{} of the exchanges ask for the reasoning; in ordinary groups it is {}.",
            percent(value),
            percent(m)
        )
    } else if measure == M::Probabilities as usize {
        format!(
            "{} of the exchanges ask for token probabilities or bias tokens; in ordinary groups it is {}.",
            percent(value),
            percent(m)
        )
    } else if measure == M::Grading as usize {
        format!(
            "{} of the exchanges ask for something to be graded; in ordinary groups it is {}.",
            percent(value),
            percent(m)
        )
    } else {
        format!(
            "An answer has {:.0} tokens on average; in ordinary groups it has {:.0}.",
            value.exp(),
            m.exp()
        )
    }
}

fn percent_more(ratio: f64) -> String {
    format!("{:.0} %", (ratio * 100.0).max(0.0))
}

fn points(likeness: f64) -> String {
    format!("{:.1}", likeness * 100.0)
}

/// The sentence for what linked a group.
#[must_use]
pub fn link_statement(
    channel: LinkChannel,
    sharing: usize,
    accounts: usize,
    everybody: usize,
) -> String {
    let thing = channel.shared_thing();
    format!(
        "{sharing} of the {accounts} accounts share one {thing} with at least seven others of the group; of all {everybody} accounts it is a part too small for chance."
    )
}

/// The innocent explanation that a channel looks at, and why a finding rules it out.
#[must_use]
pub fn ruled_out(channel: ConfirmChannel) -> &'static str {
    match channel {
        ConfirmChannel::Balance => {
            "Equal seats of one firm, or automations on one timetable: the accounts do not belong to one organisation, and their requests do not keep to the clock."
        }
        ConfirmChannel::Rhythm => {
            "Automations work at night too; they ask the same thing again and again, at full minutes, and are among the groups it was compared with."
        }
        ConfirmChannel::Timing => {
            "Classes, meetings and timetables act together too; each account's own daily rhythm and the crowd's days are taken out before comparing."
        }
        ConfirmChannel::Sharding => {
            "One customer's data set is divided too; the accounts do not belong to one organisation. Benchmarks and assignments overlap instead."
        }
        ConfirmChannel::Independence => {
            "Batch jobs and evaluations do not go on from answers either; this only says that no people are talking here, and never stands alone."
        }
        ConfirmChannel::Coverage => {
            "Evaluation suites cover subjects alike, but all ask the same questions; apps, automations and pipelines each have a template of their own."
        }
        ConfirmChannel::Pivot => {
            "Evaluation teams and agents whose default model moves do so as well; everybody's own move to the new model is taken off."
        }
        ConfirmChannel::Succession => {
            "Growth after marketing brings births too; here they keep to the closures, and the time that lies close after closures is taken off."
        }
        ConfirmChannel::Demand => {
            "Power users ask for it too; a whole group that shares other things as well is compared with groups linked the same way."
        }
    }
}

/// What it would cost an attacker not to be seen in a channel.
#[must_use]
pub fn cost_to_avoid(channel: ConfirmChannel) -> &'static str {
    match channel {
        ConfirmChannel::Balance => {
            "Use accounts unevenly: with a crowd's volumes most accounts stand nearly idle, so that several times as many are needed."
        }
        ConfirmChannel::Rhythm => {
            "Keep the hours of people: about two thirds of the day's capacity."
        }
        ConfirmChannel::Timing => {
            "Delay each request at random: throughput, and state to keep for each account."
        }
        ConfirmChannel::Sharding => "Ask part of the questions twice: as many more requests.",
        ConfirmChannel::Independence => {
            "Feign conversations: a follow-up for each question, paid for and thrown away."
        }
        ConfirmChannel::Coverage => {
            "Give each account a template and a subject of its own: a plan for each, and new ones when an account is lost."
        }
        ConfirmChannel::Pivot => "Wait days for a better model.",
        ConfirmChannel::Succession => {
            "Keep accounts in reserve, each paid for and used from time to time, or stand still after a closure."
        }
        ConfirmChannel::Demand => {
            "Do without the reasoning, probabilities or grades that the harvest is for."
        }
    }
}

/// What it would cost not to be linked in a channel.
#[must_use]
pub fn link_cost(channel: LinkChannel) -> &'static str {
    match channel {
        LinkChannel::Payment => "A payment instrument for each account.",
        LinkChannel::Birth => "Signing up over months, with as many e-mail domains.",
        LinkChannel::Network => "An address for each account: residential proxies, paid by volume.",
        LinkChannel::Client => "As many clients as accounts, each kept in repair.",
        LinkChannel::Script => "Every request worded anew by another model.",
        LinkChannel::Pool => "One answer to each question.",
        LinkChannel::Conversation => "Losing a conversation with the account it began on.",
        LinkChannel::Habit => "Habits as varied as a crowd's.",
    }
}

/// The name of a measure's axis.
#[must_use]
pub fn axis(measure: usize) -> &'static str {
    MEASURES.get(measure).map_or("", |m| m.name)
}
