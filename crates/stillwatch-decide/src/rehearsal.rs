//! A policy tried on traffic that has been, before it is put in force: who would have
//! been touched, by which step, and how many of them are innocent as far as is known.
//!
//! The exchanges go through the same [`Table`], buckets and steps as in a guard, by the
//! time that they carry, in a history in which nothing has begun. Three things are not
//! known of traffic that has been, and are assumed: an answer takes no time, an exchange
//! that is refused is not tried again, and everybody asks what they asked then.

mod tally;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use stillwatch_exchange::Time;

use crate::history::History;
use crate::policy::{Cap, Mode, Policy, output_tokens_at_most};
use crate::table::{Finding, Table, Who};
use crate::verdict::{Place, Response, Responses, Verdict};

use self::tally::Outcome;
pub use self::tally::{
    AccountTally, CampaignTally, InForceFrom, Known, Passed, Rehearsal, ResponseTally, RuleTally,
    StepTally, Tally, Untouched,
};

/// Below this a member is one that the finding is not sure of; what a rule asks for
/// where it says nothing.
const SURE_MEMBERSHIP: f64 = 0.9;

/// What is counted of a response or a step.
#[derive(Clone, Debug, Default)]
struct Counting {
    campaigns: BTreeSet<String>,
    accounts: HashSet<String>,
    first: Option<Time>,
    last: Option<Time>,
    tally: Tally,
}

impl Counting {
    fn add(&mut self, campaign_id: &str, passed: &Passed<'_>, outcome: Outcome) {
        if !self.campaigns.contains(campaign_id) {
            self.campaigns.insert(campaign_id.to_owned());
        }
        self.accounts.get_or_insert_with(passed.account_id, str::to_owned);
        self.first.get_or_insert(passed.time);
        self.last = Some(passed.time);
        self.tally.add(passed, outcome);
    }
}

/// What is counted of an account that a finding names.
#[derive(Clone, Debug, Default)]
struct Account {
    membership: f64,
    campaigns: BTreeSet<String>,
    gravest: Option<Response>,
    is_exempt: bool,
    is_lifted: bool,
    has_sent: bool,
    tally: Tally,
}

/// Rehearses a policy; exchanges are passed to it in the order of time.
#[derive(Debug)]
pub struct Rehearser<'f> {
    policy: Arc<Policy>,
    findings: &'f [Finding],
    in_force_from: InForceFrom,
    history: History,
    began: Time,
    table: Table,
    /// Findings that are not in force yet, the latest first.
    coming: Vec<(Time, usize)>,
    in_force: Vec<Finding>,
    accounts: HashMap<&'f str, Account>,
    /// By rule and response, and by rule and step.
    responses: BTreeMap<(usize, Response), Counting>,
    steps: BTreeMap<Place, Counting>,
    campaigns: HashMap<String, Counting>,
    named: Tally,
}

impl<'f> Rehearser<'f> {
    /// Before traffic that begins at `began`. The policy counts as in force even where it
    /// says that it observes. Of the history what people have undone is heeded, and what
    /// has begun is not.
    #[must_use]
    pub fn new(
        policy: &Policy,
        findings: &'f [Finding],
        history: &History,
        in_force_from: InForceFrom,
        began: Time,
    ) -> Self {
        let mut accounts: HashMap<&str, Account> = HashMap::new();
        for member in findings.iter().flat_map(|finding| &finding.members) {
            let account = accounts.entry(member.account_id.as_str()).or_default();
            account.membership = account.membership.max(member.membership);
        }
        let since = |finding: &Finding| match in_force_from {
            InForceFrom::Start => began,
            InForceFrom::Detected => finding.campaign.first_detectable.max(began),
        };
        let mut coming: Vec<(Time, usize)> =
            findings.iter().enumerate().map(|(place, f)| (since(f), place)).collect();
        coming.sort_unstable_by(|a, b| b.cmp(a));
        let mut policy = policy.clone();
        policy.mode = Mode::Enforce;
        Rehearser {
            policy: Arc::new(policy),
            findings,
            in_force_from,
            history: history.undone(),
            began,
            table: Table::default(),
            coming,
            in_force: Vec::new(),
            accounts,
            responses: BTreeMap::new(),
            steps: BTreeMap::new(),
            campaigns: HashMap::new(),
            named: Tally::default(),
        }
    }

    /// Whether some finding names the account; the exchanges of others change nothing.
    #[must_use]
    pub fn names(&self, account_id: &str) -> bool {
        self.accounts.contains_key(account_id)
    }

    /// Puts in force what is by then.
    fn advance(&mut self, now: Time) {
        while let Some((since, _)) = self.coming.last().copied().filter(|(since, _)| *since <= now)
        {
            while let Some((_, place)) = self.coming.pop_if(|(next, _)| *next == since) {
                self.in_force.extend(self.findings.get(place).cloned());
            }
            let (table, events) = Table::build(
                Arc::clone(&self.policy),
                &self.in_force,
                &self.history,
                &self.table,
                since,
            );
            events.iter().for_each(|event| self.history.apply(event));
            self.table = table;
        }
    }

    /// Passes the next exchange.
    pub fn pass(&mut self, passed: &Passed<'_>) {
        self.advance(passed.time);
        let Some(account) = self.accounts.get_mut(passed.account_id) else { return };
        account.has_sent = true;
        let who = Who { account_id: passed.account_id, organization_id: passed.organization_id };
        account.is_exempt |= self.policy.exempts(who.account_id, who.organization_id);
        account.is_lifted |=
            self.history.alone_until(who.account_id).is_some_and(|until| passed.time < until);
        let verdict = self.table.decide(&who, passed.time);
        let (Some(place), Some(campaign)) = (verdict.place, verdict.campaign) else {
            self.named.add(passed, Outcome::default());
            return;
        };
        // A clock of the buckets that begins with the traffic.
        let now_ns = passed.time.0.saturating_sub(self.began.0).saturating_mul(1000);
        let (done, whole) = outcomes(&self.policy, &verdict, passed, now_ns);
        let id = campaign.campaign_id.as_str();
        self.named.add(passed, whole);
        for (response, outcome) in done {
            let counting = self.responses.entry((place.rule, response)).or_default();
            counting.add(id, passed, outcome);
        }
        self.steps.entry(place).or_default().add(id, passed, whole);
        let gravest = verdict.response();
        account.gravest = account.gravest.max(Some(gravest));
        if gravest > Response::Record {
            account.tally.add(passed, whole);
            if !account.campaigns.contains(id) {
                account.campaigns.insert(id.to_owned());
            }
            self.campaigns.entry_ref(id).or_default().add(id, passed, whole);
        }
    }

    /// What came of it, with what is known of accounts.
    #[must_use]
    pub fn finish(self, known: &BTreeMap<String, BTreeSet<Known>>) -> Rehearsal {
        let innocence = |account_id: &str, membership: f64| {
            let mut why = known.get(account_id).cloned().unwrap_or_default();
            if self.history.alone_until(account_id).is_some() {
                why.insert(Known::Lifted);
            }
            if membership < SURE_MEMBERSHIP {
                why.insert(Known::UnsureMember);
            }
            why
        };
        let mut untouched = Untouched::default();
        let mut innocent: BTreeMap<Known, u64> = BTreeMap::new();
        let mut accounts = Vec::new();
        for (account_id, account) in &self.accounts {
            let Some(gravest) = account.gravest.filter(|gravest| *gravest > Response::Record)
            else {
                *untouched.why(account) += 1;
                continue;
            };
            let why = innocence(account_id, account.membership);
            why.iter().for_each(|why| *innocent.entry(*why).or_default() += 1);
            accounts.push(AccountTally {
                account_id: (*account_id).to_owned(),
                campaign_ids: account.campaigns.iter().cloned().collect(),
                gravest,
                membership: account.membership,
                innocent: why.into_iter().collect(),
                tally: account.tally,
            });
        }
        accounts.sort_by(|a, b| a.account_id.cmp(&b.account_id));
        let innocents: HashSet<&str> = accounts
            .iter()
            .filter(|account| !account.innocent.is_empty())
            .map(|account| account.account_id.as_str())
            .collect();
        let rules = self.policy.rules.iter().enumerate().map(|(place, rule)| RuleTally {
            rule: rule.name.clone(),
            responses: self.of_responses(place, &innocents),
            steps: self.of_steps(place, rule.steps.iter().map(|step| step.responses)),
        });
        let rules: Vec<RuleTally> = rules.collect();
        let innocent_accounts = innocents.len() as u64;
        drop(innocents);
        Rehearsal {
            in_force_from: self.in_force_from,
            named_accounts: self.accounts.len() as u64,
            named: self.named,
            touched_accounts: accounts.len() as u64,
            innocent_accounts,
            innocent,
            untouched,
            rules,
            campaigns: self.of_campaigns(),
            accounts,
        }
    }

    fn of_responses(&self, rule: usize, innocents: &HashSet<&str>) -> Vec<ResponseTally> {
        let all = self.responses.iter().filter(|((of, _), _)| *of == rule);
        all.map(|((_, response), counting)| {
            let is_touched = *response > Response::Record;
            let innocent =
                counting.accounts.iter().filter(|id| is_touched && innocents.contains(id.as_str()));
            ResponseTally {
                response: *response,
                campaigns: counting.campaigns.len() as u64,
                accounts: counting.accounts.len() as u64,
                innocent_accounts: innocent.count() as u64,
                tally: counting.tally,
            }
        })
        .collect()
    }

    fn of_steps(&self, rule: usize, steps: impl Iterator<Item = Responses>) -> Vec<StepTally> {
        let none = Counting::default();
        steps
            .enumerate()
            .map(|(step, responses)| {
                let counting = self.steps.get(&Place { rule, step }).unwrap_or(&none);
                StepTally {
                    step: step + 1,
                    responses: responses.iter().collect(),
                    first: counting.first,
                    last: counting.last,
                    accounts: counting.accounts.len() as u64,
                    tally: counting.tally,
                }
            })
            .collect()
    }

    fn of_campaigns(&self) -> Vec<CampaignTally> {
        let none = Counting::default();
        let mut seen = HashSet::new();
        let mut all = Vec::new();
        for Finding { campaign, members } in self.findings {
            if !seen.insert(campaign.campaign_id.as_str()) {
                continue;
            }
            let counting = self.campaigns.get(&campaign.campaign_id).unwrap_or(&none);
            all.push(CampaignTally {
                campaign_id: campaign.campaign_id.clone(),
                kind: campaign.kind,
                in_force_from: match self.in_force_from {
                    InForceFrom::Start => self.began,
                    InForceFrom::Detected => campaign.first_detectable.max(self.began),
                },
                accounts: members.len() as u64,
                guilty_members_at_least: campaign.guilty_members_at_least.members,
                touched_accounts: counting.accounts.len() as u64,
                tally: counting.tally,
            });
        }
        all
    }
}

impl Untouched {
    /// The count that an account belongs to.
    fn why(&mut self, account: &Account) -> &mut u64 {
        if !account.has_sent {
            &mut self.silent
        } else if account.is_exempt {
            &mut self.exempt
        } else if account.is_lifted {
            &mut self.lifted
        } else if account.gravest == Some(Response::Record) {
            &mut self.recorded
        } else {
            &mut self.uncovered
        }
    }
}

/// What a verdict does to an exchange, by response and as a whole. The order is the
/// gateway's: who is shut out is neither slowed nor capped, who is slowed is not capped.
fn outcomes(
    policy: &Policy,
    verdict: &Verdict<'_>,
    passed: &Passed<'_>,
    now_ns: i64,
) -> (Vec<(Response, Outcome)>, Outcome) {
    let responses = verdict.responses;
    let given = u64::from(passed.output_tokens.unwrap_or(0));
    let refused = Outcome { is_refused: true, is_changed: false, kept_output_tokens: given };
    let shut_out = [Response::Refuse, Response::Verify].into_iter().find(|r| responses.has(*r));
    if let Some(response) = shut_out {
        return (vec![(response, refused)], refused);
    }
    let cap = responses.has(Response::Cap).then_some(policy.cap);
    let shorter = cap.map_or(Outcome::default(), |cap| capped(cap, passed));
    if responses.has(Response::Slow)
        && let Some(campaign) = verdict.campaign
    {
        // A paced stream is let in and pays as it comes.
        let is_paced = policy.pace_streams && passed.is_stream;
        let tokens = if passed.is_embedding || is_paced {
            1
        } else {
            output_tokens_at_most(passed.max_tokens, passed.choices, cap)
        };
        let Ok(taken) = campaign.bucket.take(tokens, now_ns) else {
            return (vec![(Response::Slow, refused)], refused);
        };
        let used = match passed.output_tokens {
            _ if passed.is_failed => 0,
            Some(_) => given - shorter.kept_output_tokens,
            None => u64::from(taken),
        };
        campaign.bucket.settle(taken.into(), used, now_ns);
    }
    let mut whole = shorter;
    let done = responses
        .iter()
        .map(|response| match response {
            Response::Cap => (response, shorter),
            Response::Withhold => {
                whole.is_changed |= passed.asks_probabilities;
                (response, Outcome { is_changed: passed.asks_probabilities, ..Outcome::default() })
            }
            _ => (response, Outcome::default()),
        })
        .collect();
    (done, whole)
}

/// What a cap takes from an exchange: answers beyond the number, and of each that stays
/// what is longer. Of several answers only the sum is known; they count as equally long.
fn capped(cap: Cap, passed: &Passed<'_>) -> Outcome {
    if passed.is_embedding || passed.is_failed {
        return Outcome::default();
    }
    let given = u64::from(passed.output_tokens.unwrap_or(0));
    let choices = u64::from(passed.choices.unwrap_or(1).max(1));
    let kept_choices = choices.min(cap.choices.into());
    let each = given.div_ceil(choices).min(cap.output_tokens.into());
    let left = given.min(each * kept_choices);
    Outcome {
        is_refused: false,
        is_changed: left < given || kept_choices < choices,
        kept_output_tokens: given - left,
    }
}
