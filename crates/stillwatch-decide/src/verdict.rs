//! The words for what is done with an exchange.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use stillwatch_exchange::Time;

use crate::table::InForce;

/// One thing that can be done, the mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// Nothing is known against the account.
    Allow,
    /// The exchange passes, and is counted as one of a campaign.
    Record,
    /// All accounts of the campaign share one token bucket.
    Slow,
    /// Answers are shorter, and fewer at once.
    Cap,
    /// No token probabilities and no visible reasoning.
    Withhold,
    /// The account has to prove who it is.
    Verify,
    /// The exchange is refused.
    Refuse,
}

impl Response {
    /// All of them, the mildest first.
    pub const ALL: [Response; 7] = [
        Response::Allow,
        Response::Record,
        Response::Slow,
        Response::Cap,
        Response::Withhold,
        Response::Verify,
        Response::Refuse,
    ];

    /// The name as the contract spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Response::Allow => "allow",
            Response::Record => "record",
            Response::Slow => "slow",
            Response::Cap => "cap",
            Response::Withhold => "withhold",
            Response::Verify => "verify",
            Response::Refuse => "refuse",
        }
    }
}

impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Several responses at once.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Responses(u8);

impl Responses {
    /// These and the others.
    #[must_use]
    pub fn with(self, response: Response) -> Self {
        Responses(self.0 | 1 << response as u8)
    }

    /// Whether this one is among them.
    #[must_use]
    pub fn has(self, response: Response) -> bool {
        self.0 & (1 << response as u8) != 0
    }

    /// The gravest of them; [`Response::Allow`] where there is none.
    #[must_use]
    pub fn gravest(self) -> Response {
        let gravest = Response::ALL.into_iter().rev().find(|response| self.has(*response));
        gravest.unwrap_or(Response::Allow)
    }

    /// All of them, the mildest first.
    pub fn iter(self) -> impl Iterator<Item = Response> {
        Response::ALL.into_iter().filter(move |response| self.has(*response))
    }
}

impl FromIterator<Response> for Responses {
    fn from_iter<I: IntoIterator<Item = Response>>(responses: I) -> Self {
        responses.into_iter().fold(Responses::default(), Responses::with)
    }
}

impl fmt::Debug for Responses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// Where in the policy a verdict comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Among the policy's rules, from 0.
    pub rule: usize,
    /// Among the rule's steps, from 0.
    pub step: usize,
}

/// What holds for an account at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Verdict<'t> {
    /// What is to be done. While the policy only observes: at most
    /// [`Response::Record`].
    pub responses: Responses,
    /// What would be done if the policy were in force; the same as `responses` where
    /// it is.
    pub intended: Responses,
    /// The campaign that it is done for; none where the account is allowed.
    pub campaign: Option<&'t Arc<InForce>>,
    /// The rule and the step that it comes from; none where the account is allowed.
    pub place: Option<Place>,
    /// When this step ends; none where the account is allowed.
    pub until: Option<Time>,
    /// A sentence without anybody's name in it.
    pub reason: &'static str,
}

impl Verdict<'_> {
    /// The verdict of an account that nothing is known against.
    pub(crate) const fn allow(reason: &'static str) -> Self {
        Verdict {
            responses: Responses(0),
            intended: Responses(0),
            campaign: None,
            place: None,
            until: None,
            reason,
        }
    }

    /// The gravest of what is to be done.
    #[must_use]
    pub fn response(&self) -> Response {
        self.responses.gravest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gravest_of_several_names_the_verdict() {
        let responses: Responses = [Response::Withhold, Response::Slow].into_iter().collect();
        assert_eq!(responses.gravest(), Response::Withhold);
        assert!(responses.has(Response::Slow) && !responses.has(Response::Cap));
        assert_eq!(responses.iter().collect::<Vec<_>>(), [Response::Slow, Response::Withhold]);
        assert_eq!(Responses::default().gravest(), Response::Allow);
    }
}
