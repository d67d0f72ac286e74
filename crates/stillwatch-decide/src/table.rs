//! The table of verdicts: made once of findings, policy and history, then only read.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use stillwatch_exchange::{Campaign, CampaignKind, Time};

use crate::bucket::Bucket;
use crate::history::{Event, History};
use crate::policy::{Mode, Policy};
use crate::verdict::{Place, Response, Responses, Verdict};

/// A campaign and who belongs to it.
#[derive(Clone, Debug)]
pub struct Finding {
    pub campaign: Campaign,
    pub members: Vec<Member>,
}

/// An account of a campaign.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    pub account_id: String,
    /// How surely it belongs to the campaign, 0 to 1.
    pub membership: f64,
}

/// Who sends an exchange.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    pub account_id: &'a str,
    pub organization_id: Option<&'a str>,
}

/// A campaign that some response is in force against.
#[derive(Debug)]
pub struct InForce {
    pub campaign_id: String,
    pub kind: CampaignKind,
    /// What all its accounts may take together while they are slowed.
    pub bucket: Bucket,
}

/// What a member is under: 16 bytes, so that a hundred thousand accounts stay small.
#[derive(Clone, Copy, Debug)]
struct Standing {
    begins: Time,
    campaign: u32,
    rule: u32,
}

/// Verdicts for all accounts; see the crate's head.
#[derive(Debug, Default)]
pub struct Table {
    policy: Arc<Policy>,
    campaigns: Vec<Arc<InForce>>,
    accounts: HashMap<Box<str>, Box<[Standing]>>,
    /// Until when an account that has a standing is left alone.
    alone_until: HashMap<Box<str>, Time>,
}

impl Table {
    /// Makes the table that holds from `now` on, and the events of what began with it.
    /// They are stored and applied to the history by the caller, before the table is
    /// used. Buckets that `earlier` had for the same campaigns go on as they are.
    ///
    /// Where the policy only observes nothing begins: every account's steps are
    /// counted from `now`.
    #[must_use]
    pub fn build(
        policy: Arc<Policy>,
        findings: &[Finding],
        history: &History,
        earlier: &Table,
        now: Time,
    ) -> (Self, Vec<Event>) {
        let mut campaigns = Vec::new();
        let mut accounts: HashMap<Box<str>, Vec<Standing>> = HashMap::new();
        let mut events = Vec::new();
        let mut begun_now: HashSet<&str> = HashSet::new();
        let mut seen: HashSet<&str> = HashSet::new();
        for Finding { campaign, members } in findings {
            // Two folders may tell of the same campaign.
            if history.has_cleared(&campaign.campaign_id) || !seen.insert(&campaign.campaign_id) {
                continue;
            }
            let Ok(place) = u32::try_from(campaigns.len()) else { break };
            let mut begun = Vec::new();
            let mut covers_any = false;
            for member in members {
                let Some(rule) = policy.rule_for(campaign, member.membership) else { continue };
                let duration_us = policy.rules.get(rule).map_or(0, |rule| rule.duration_us());
                let account = member.account_id.as_str();
                let ends = |begins: Time| Time(begins.0.saturating_add(duration_us));
                // What began at a time that has not come, by a clock that was set back since,
                // begins now: else it would last for as much longer.
                let begins = match history.begun(account).filter(|begins| *begins <= now) {
                    // Every response ends, unless the account went on after its end.
                    Some(begins) if now < ends(begins) => begins,
                    Some(begins) if campaign.last_seen <= ends(begins) => continue,
                    _ => {
                        let is_alone =
                            history.alone_until(account).is_some_and(|until| now < until);
                        if policy.mode == Mode::Enforce && !is_alone && begun_now.insert(account) {
                            begun.push(account.to_owned());
                        }
                        now
                    }
                };
                let Ok(rule) = u32::try_from(rule) else { continue };
                let standing = Standing { begins, campaign: place, rule };
                accounts.entry_ref(account).or_default().push(standing);
                covers_any = true;
            }
            if !begun.is_empty() {
                let campaign_id = campaign.campaign_id.clone();
                events.push(Event::Begun { time: now, campaign_id, accounts: begun });
            }
            if covers_any {
                campaigns.push(earlier.kept(campaign, &policy).unwrap_or_else(|| {
                    Arc::new(InForce {
                        campaign_id: campaign.campaign_id.clone(),
                        kind: campaign.kind,
                        bucket: Bucket::new(policy.slow),
                    })
                }));
            }
        }
        let alone_until = accounts
            .keys()
            .filter_map(|account| Some((account.clone(), history.alone_until(account)?)))
            .collect();
        let accounts =
            accounts.into_iter().map(|(account, all)| (account, all.into_boxed_slice())).collect();
        (Table { policy, campaigns, accounts, alone_until }, events)
    }

    /// The campaign as it is in force already, where nothing about its bucket changed.
    fn kept(&self, campaign: &Campaign, policy: &Policy) -> Option<Arc<InForce>> {
        let kept = self.campaigns.iter().find(|held| held.campaign_id == campaign.campaign_id)?;
        (kept.bucket.rate() == policy.slow && kept.kind == campaign.kind).then(|| Arc::clone(kept))
    }

    /// The policy that the table was made with.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The same, to make the next table with.
    #[must_use]
    pub fn shared_policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy)
    }

    /// How many accounts some finding names.
    #[must_use]
    pub fn accounts_named(&self) -> usize {
        self.accounts.len()
    }

    /// The campaigns that some account is under.
    #[must_use]
    pub fn campaigns(&self) -> &[Arc<InForce>] {
        &self.campaigns
    }

    /// What holds for an exchange of this account now. Exemptions win over findings,
    /// and of several campaigns the one that asks for the gravest response.
    #[must_use]
    pub fn decide(&self, who: &Who<'_>, now: Time) -> Verdict<'_> {
        let Some(standings) = self.accounts.get(who.account_id) else {
            return Verdict::allow("no finding names the account");
        };
        if self.policy.exempts(who.account_id, who.organization_id) {
            return Verdict::allow("the policy exempts the account");
        }
        if self.alone_until.get(who.account_id).is_some_and(|until| now < *until) {
            return Verdict::allow("somebody has lifted the account's verdict");
        }
        let mut gravest = Verdict::allow("what was done about the account has ended");
        for standing in standings {
            let Some((place, intended, until)) = self.step(standing, now) else { continue };
            if gravest.campaign.is_some() && intended.gravest() <= gravest.intended.gravest() {
                continue;
            }
            let observed = intended.iter().map(|response| response.min(Response::Record)).collect();
            let (responses, reason) = match self.policy.mode {
                Mode::Enforce => (intended, "a finding names the account"),
                Mode::Observe => {
                    (observed, "a finding names the account; the policy only observes")
                }
            };
            let campaign = self.campaigns.get(standing.campaign as usize);
            let place = Some(place);
            gravest = Verdict { responses, intended, campaign, place, until: Some(until), reason };
        }
        gravest
    }

    /// The step that a standing is in now, what it does, and when it ends.
    fn step(&self, standing: &Standing, now: Time) -> Option<(Place, Responses, Time)> {
        let rule_place = standing.rule as usize;
        let rule = self.policy.rules.get(rule_place)?;
        let mut ends = standing.begins;
        for (step_place, step) in rule.steps.iter().enumerate() {
            ends = Time(ends.0.saturating_add(step.duration_us));
            if now < ends {
                let place = Place { rule: rule_place, step: step_place };
                return Some((place, step.responses, ends));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use stillwatch_exchange::GuiltyAtLeast;
    use stillwatch_exchange::time::DAY_US;

    use super::*;

    const POLICY: &str = r#"
        mode = "enforce"
        [exempt]
        accounts = ["exempt"]
        organizations = ["friends"]
        [[rule]]
        evidence_value_at_least = 20
        steps = [{ do = "slow", for = "1 day" }, { do = "refuse", for = "2 days" }]
        [[rule]]
        rank_only = true
        steps = [{ do = "record", for = "1 day" }]
    "#;

    fn finding(campaign_id: &str, evidence: Option<f64>, accounts: &[&str]) -> Finding {
        let campaign = Campaign {
            campaign_id: campaign_id.to_owned(),
            kind: CampaignKind::Distillation,
            evidence_value: evidence,
            discovery_rate: evidence.map(|_| 0.05),
            strata: vec![],
            references: 400,
            rank: 1,
            guilty_members_at_least: GuiltyAtLeast { members: 1, level: 0.95 },
            accounts: accounts.len() as u64,
            exchanges: 0,
            output_tokens: 0,
            reasoning_tokens: 0,
            cost_usd: 0.0,
            first_seen: Time(0),
            last_seen: Time(0),
            first_detectable: Time(0),
            exchanges_before_detection: 0,
            capabilities: vec![],
            routes: vec![],
            models: vec![],
            techniques: vec![],
            evidence: vec![],
        };
        let members = accounts
            .iter()
            .map(|account| Member { account_id: (*account).to_owned(), membership: 1.0 })
            .collect();
        Finding { campaign, members }
    }

    /// A guard that stores nothing: what it decides, day by day.
    struct World {
        policy: Arc<Policy>,
        history: History,
        table: Table,
    }

    impl World {
        fn new(policy: &str) -> Self {
            let policy = Arc::new(Policy::parse(policy).unwrap());
            World { policy, history: History::default(), table: Table::default() }
        }

        fn load(&mut self, day: f64, findings: &[Finding]) -> usize {
            let (table, events) = Table::build(
                Arc::clone(&self.policy),
                findings,
                &self.history,
                &self.table,
                at(day),
            );
            events.iter().for_each(|event| self.history.apply(event));
            self.table = table;
            events.len()
        }

        fn decide(&self, day: f64, account_id: &str) -> &'static str {
            let who = Who { account_id, organization_id: None };
            self.table.decide(&who, at(day)).response().name()
        }
    }

    fn at(day: f64) -> Time {
        Time((day * DAY_US as f64) as i64)
    }

    #[test]
    fn steps_follow_each_other_and_end() {
        let mut world = World::new(POLICY);
        assert_eq!(world.decide(0.0, "a"), "allow");
        assert_eq!(world.load(1.0, &[finding("c", Some(40.0), &["a"])]), 1);
        for (day, expected) in
            [(1.0, "slow"), (1.99, "slow"), (2.0, "refuse"), (3.99, "refuse"), (4.0, "allow")]
        {
            assert_eq!(world.decide(day, "a"), expected, "day {day}");
        }
        assert_eq!(world.decide(1.0, "b"), "allow");
    }

    #[test]
    fn the_next_hunt_goes_on_where_the_last_one_was() {
        let mut world = World::new(POLICY);
        world.load(1.0, &[finding("c", Some(40.0), &["a"])]);
        assert_eq!(world.load(2.5, &[finding("c, grown", Some(50.0), &["a", "b"])]), 1);
        assert_eq!(world.decide(2.5, "a"), "refuse");
        assert_eq!(world.decide(2.5, "b"), "slow");
        // The same finding, once all steps are over, is no reason to begin again.
        assert_eq!(world.load(5.0, &[finding("c, grown", Some(50.0), &["a"])]), 0);
        assert_eq!(world.decide(5.0, "a"), "allow");
        let mut later = finding("c, grown", Some(50.0), &["a"]);
        later.campaign.last_seen = at(4.5);
        assert_eq!(world.load(5.0, &[later]), 1);
        assert_eq!(world.decide(5.0, "a"), "slow");
    }

    #[test]
    fn exemptions_always_win() {
        let mut world = World::new(POLICY);
        world.load(0.0, &[finding("c", Some(40.0), &["exempt", "a"])]);
        assert_eq!(world.decide(0.0, "exempt"), "allow");
        let friend = Who { account_id: "a", organization_id: Some("friends") };
        assert_eq!(world.table.decide(&friend, at(0.0)).response(), Response::Allow);
    }

    #[test]
    fn rules_are_tried_in_order_and_the_gravest_campaign_counts() {
        let mut world = World::new(POLICY);
        let findings =
            [finding("rank", None, &["a", "b"]), finding("promised", Some(20.0), &["b"])];
        world.load(0.0, &findings);
        assert_eq!(world.decide(0.0, "a"), "record");
        assert_eq!(world.decide(0.0, "b"), "slow");
        let unsure = Finding {
            members: vec![Member { account_id: "a".to_owned(), membership: 0.89 }],
            ..finding("c", Some(40.0), &[])
        };
        world.load(0.0, &[unsure]);
        assert_eq!(world.decide(0.0, "a"), "allow");
    }

    #[test]
    fn what_is_undone_stays_undone_under_another_id() {
        let mut world = World::new(POLICY);
        world.load(0.0, &[finding("c", Some(40.0), &["a", "b"])]);
        world.history.apply(&Event::Cleared {
            time: at(0.0),
            campaign_id: "c".to_owned(),
            accounts: vec!["a".to_owned(), "b".to_owned()],
            until: at(90.0),
            why: "a class".to_owned(),
        });
        world.load(0.1, &[finding("c", Some(40.0), &["a", "b"])]);
        assert_eq!(world.decide(0.1, "a"), "allow");
        assert_eq!(world.load(1.0, &[finding("c, grown", Some(40.0), &["a", "b", "x"])]), 1);
        assert_eq!(world.decide(1.0, "a"), "allow");
        assert_eq!(world.decide(1.0, "x"), "slow");
        world.load(91.0, &[finding("c, grown", Some(40.0), &["a"])]);
        assert_eq!(world.decide(91.0, "a"), "slow", "a lift ends, and then begins the mildest");
    }

    #[test]
    fn observing_records_and_begins_nothing() {
        let mut world = World::new(&POLICY.replace("enforce", "observe"));
        assert_eq!(world.load(0.0, &[finding("c", Some(40.0), &["a"])]), 0);
        let who = Who { account_id: "a", organization_id: None };
        let verdict = world.table.decide(&who, at(0.0));
        assert_eq!(verdict.response(), Response::Record);
        assert_eq!(verdict.intended.gravest(), Response::Slow);
    }

    #[test]
    fn what_began_by_a_clock_that_was_wrong_lasts_no_longer() {
        let mut world = World::new(POLICY);
        let findings = [finding("c", Some(40.0), &["a"])];
        world.load(1.0, &findings);
        // A year ahead and back: what had begun goes on where it was.
        let mut later = finding("c, grown", Some(50.0), &["a", "b"]);
        later.campaign.last_seen = at(0.5);
        world.load(366.0, std::slice::from_ref(&later));
        assert_eq!((world.decide(366.0, "a"), world.decide(366.0, "b")), ("allow", "slow"));
        assert_eq!(world.load(2.5, std::slice::from_ref(&later)), 1);
        assert_eq!((world.decide(2.5, "a"), world.decide(2.5, "b")), ("refuse", "slow"));
        assert_eq!((world.decide(3.5, "b"), world.decide(5.5, "b")), ("refuse", "allow"));
        // An hour back is no reason to begin again with what began before.
        assert_eq!(world.load(2.4, &[later]), 1, "b alone");
        assert_eq!((world.decide(2.4, "a"), world.decide(2.4, "b")), ("refuse", "slow"));
    }

    #[test]
    fn a_bucket_lives_on_through_a_reload() {
        let mut world = World::new(POLICY);
        world.load(0.0, &[finding("c", Some(40.0), &["a"])]);
        let tokens = world.policy.slow.burst_tokens;
        assert!(world.table.campaigns()[0].bucket.take(tokens, 0).is_ok());
        world.load(0.1, &[finding("c", Some(40.0), &["a", "b"])]);
        assert!(world.table.campaigns()[0].bucket.take(tokens, 0).is_err());
    }
}
