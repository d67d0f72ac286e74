//! The policy file: which finding, which response, in which order and for how long.
//!
//! `docs/guard.md` shows one with every key. Keys that are not known are refused, and
//! an error names its line. What is typed becomes what is meant here, without I/O.

use std::net::IpAddr;

use hashbrown::HashSet;
use ipnet::IpNet;
use serde::Deserialize;
use stillwatch_exchange::time::{HOUR_US, SECOND_US};
use stillwatch_exchange::{Campaign, CampaignKind, Time};
use toml::Spanned;

use crate::bucket::Rate;
use crate::verdict::{Response, Responses};

/// No response lasts longer than this, in microseconds: 366 days.
const DURATION_US_MAX: i64 = 366 * 24 * HOUR_US;
/// The largest request body that may be asked for, in MiB.
const BODY_MIB_MAX: u32 = 1024;

/// Why a policy can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct PolicyError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong and what to do.
    pub what: String,
}

/// Whether the policy is in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Verdicts are made and counted, and nothing is done.
    #[default]
    Observe,
    Enforce,
}

/// Where somebody turns who was wronged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Appeal {
    /// An address that answers name.
    pub contact: Option<String>,
    /// A page where an account can prove who it is; answers to `verify` name it.
    pub verify_link: Option<String>,
}

/// What `cap` leaves of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cap {
    /// The longest answer, in tokens.
    pub output_tokens: u32,
    /// The most answers at once.
    pub choices: u16,
}

/// The most output tokens that an exchange can cost: the largest number where the request
/// sets no limit and no cap does. `asked_tokens` and `asked_choices` are what the request
/// says.
#[must_use]
pub fn output_tokens_at_most(
    asked_tokens: Option<u32>,
    asked_choices: Option<u16>,
    cap: Option<Cap>,
) -> u32 {
    let (tokens_max, choices_max) =
        cap.map_or((u32::MAX, u16::MAX), |cap| (cap.output_tokens, cap.choices));
    let tokens = asked_tokens.unwrap_or(u32::MAX).min(tokens_max);
    tokens.saturating_mul(asked_choices.unwrap_or(1).min(choices_max).into())
}

/// Bounds of the gateway that have nothing to do with findings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest request body that is read, in bytes.
    pub body_bytes_max: usize,
    /// How long the upstream may take to begin an answer, in seconds.
    pub first_byte_seconds: u32,
    /// How long an answer may pause, in seconds.
    pub pause_seconds: u32,
    /// How long streams may take to end once the guard is told to, in seconds.
    pub drain_seconds: u32,
    /// Proxies whose `x-forwarded-for` is believed.
    pub trusted_proxies: Vec<IpNet>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            body_bytes_max: 64 << 20,
            first_byte_seconds: 600,
            pause_seconds: 300,
            drain_seconds: 60,
            trusted_proxies: Vec::new(),
        }
    }
}

/// What opaque reasoning blocks are bound to, beside the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reasoning {
    /// Whether they are bound at all.
    pub bind: bool,
    /// Whether only the model that was asked may be asked to go on from one.
    pub to_model: bool,
    /// Whether only the conversation may go on from one, where it has an id.
    pub to_session: bool,
    /// Until when blocks are let in that were issued before they were bound.
    pub unbound_until: Option<Time>,
}

impl Default for Reasoning {
    /// Nothing is bound; what would be is bound to all of it.
    fn default() -> Self {
        Reasoning { bind: false, to_model: true, to_session: true, unbound_until: None }
    }
}

/// Some responses for some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub responses: Responses,
    /// Microseconds.
    pub duration_us: i64,
}

/// Which findings, and what is done about them.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub name: String,
    kinds: Vec<CampaignKind>,
    rank_only: bool,
    evidence_value_at_least: Option<f64>,
    discovery_rate_at_most: Option<f64>,
    rank_at_most: Option<u64>,
    guilty_members_at_least: u64,
    guilty_share_at_least: f64,
    membership_at_least: f64,
    pub steps: Vec<Step>,
}

impl Rule {
    /// Whether the rule is about this member of this campaign; `membership` is 0 to 1.
    #[must_use]
    pub fn covers(&self, campaign: &Campaign, membership: f64) -> bool {
        let promised = campaign.evidence_value.is_some() && campaign.discovery_rate.is_some();
        let at_least = |value: Option<f64>, bound: Option<f64>| {
            bound.is_none_or(|bound| value.is_some_and(|value| value >= bound))
        };
        let at_most = |value: Option<f64>, bound: Option<f64>| {
            bound.is_none_or(|bound| value.is_some_and(|value| value <= bound))
        };
        let guilty = campaign.guilty_members_at_least.members;
        let guilty_share = guilty as f64 / campaign.accounts.max(1) as f64;
        self.kinds.contains(&campaign.kind)
            && (promised || self.rank_only)
            && at_least(campaign.evidence_value, self.evidence_value_at_least)
            && at_most(campaign.discovery_rate, self.discovery_rate_at_most)
            && self.rank_at_most.is_none_or(|bound| campaign.rank <= bound)
            && guilty >= self.guilty_members_at_least
            && guilty_share >= self.guilty_share_at_least
            && membership >= self.membership_at_least
    }

    /// How long all steps take together, in microseconds.
    #[must_use]
    pub fn duration_us(&self) -> i64 {
        self.steps.iter().map(|step| step.duration_us).fold(0, i64::saturating_add)
    }
}

/// All that an operator decides.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub mode: Mode,
    /// Whether answers carry a `stillwatch-verdict` header.
    pub say_verdict: bool,
    /// Whether a verdict that becomes `verify` or `refuse` ends streams under way.
    pub cut_streams: bool,
    /// Whether `slow` holds streams back instead of refusing what they can cost.
    pub pace_streams: bool,
    /// How long an account is left alone after somebody lifted its verdict or cleared
    /// its campaign, in microseconds.
    pub lift_us: i64,
    pub appeal: Appeal,
    exempt_accounts: HashSet<String>,
    exempt_organizations: HashSet<String>,
    pub slow: Rate,
    pub cap: Cap,
    pub reasoning: Reasoning,
    pub limits: Limits,
    /// The first that covers a member counts.
    pub rules: Vec<Rule>,
}

impl Default for Policy {
    /// Observe only, with one rule that covers every finding.
    fn default() -> Self {
        Policy {
            mode: Mode::Observe,
            say_verdict: false,
            cut_streams: false,
            pace_streams: false,
            lift_us: LIFT_DAYS * 24 * HOUR_US,
            appeal: Appeal::default(),
            exempt_accounts: HashSet::default(),
            exempt_organizations: HashSet::default(),
            slow: SLOW,
            cap: CAP,
            reasoning: Reasoning::default(),
            limits: Limits::default(),
            rules: vec![Rule {
                name: "every finding".to_owned(),
                kinds: vec![
                    CampaignKind::Distillation,
                    CampaignKind::LogitExtraction,
                    CampaignKind::RewardGrading,
                    CampaignKind::OpenHarvest,
                ],
                rank_only: true,
                evidence_value_at_least: None,
                discovery_rate_at_most: None,
                rank_at_most: None,
                guilty_members_at_least: 0,
                guilty_share_at_least: 0.0,
                membership_at_least: 0.0,
                steps: vec![Step {
                    responses: [Response::Record].into_iter().collect(),
                    duration_us: 30 * 24 * HOUR_US,
                }],
            }],
        }
    }
}

const LIFT_DAYS: i64 = 90;
const SLOW: Rate = Rate { tokens_per_minute: 20_000, burst_tokens: 20_000 };
const CAP: Cap = Cap { output_tokens: 512, choices: 1 };
/// A member is touched only where membership is this sure, unless the rule says else.
const MEMBERSHIP: f64 = 0.9;

impl Policy {
    /// Reads a policy file.
    ///
    /// # Errors
    /// The first thing in it that can't be used, with its line.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let line_of = |at: usize| {
            let before = text.as_bytes().get(..at.min(text.len())).unwrap_or_default();
            1 + before.iter().filter(|byte| **byte == b'\n').count()
        };
        let file: PolicyFile = toml::from_str(text).map_err(|error| PolicyError {
            line: line_of(error.span().map_or(0, |span| span.start)),
            what: error.message().to_owned(),
        })?;
        file.meant().map_err(|(at, what)| PolicyError { line: line_of(at), what })
    }

    /// Whether nothing may be done to this account.
    #[must_use]
    pub fn exempts(&self, account_id: &str, organization_id: Option<&str>) -> bool {
        self.exempt_accounts.contains(account_id)
            || organization_id.is_some_and(|id| self.exempt_organizations.contains(id))
    }

    /// Whether reasoning blocks are bound, and refused where they are somebody else's; a
    /// policy that only observes does neither.
    #[must_use]
    pub fn binds_reasoning(&self) -> bool {
        self.reasoning.bind && self.mode == Mode::Enforce
    }

    /// The place of the first rule that covers this member.
    #[must_use]
    pub fn rule_for(&self, campaign: &Campaign, membership: f64) -> Option<usize> {
        self.rules.iter().position(|rule| rule.covers(campaign, membership))
    }
}

/// Where in the text, and what is wrong there.
type Wrong = (usize, String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyFile {
    #[serde(default)]
    mode: Mode,
    #[serde(default)]
    say_verdict: bool,
    #[serde(default)]
    cut_streams: bool,
    lift_for: Option<Spanned<String>>,
    #[serde(default)]
    appeal: Appeal,
    #[serde(default)]
    exempt: ExemptFile,
    slow: Option<SlowFile>,
    cap: Option<CapFile>,
    #[serde(default)]
    reasoning: ReasoningFile,
    #[serde(default)]
    limits: LimitsFile,
    #[serde(default)]
    rule: Vec<Spanned<RuleFile>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExemptFile {
    #[serde(default)]
    accounts: Vec<String>,
    #[serde(default)]
    organizations: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SlowFile {
    output_tokens_per_minute: Spanned<u32>,
    burst_tokens: Option<Spanned<u32>>,
    #[serde(default)]
    pace_streams: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CapFile {
    output_tokens: Spanned<u32>,
    choices: Option<Spanned<u16>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReasoningFile {
    #[serde(default)]
    bind: bool,
    to_model: Option<bool>,
    to_session: Option<bool>,
    unbound_until: Option<Spanned<String>>,
}

impl ReasoningFile {
    fn meant(self) -> Result<Reasoning, Wrong> {
        let default = Reasoning::default();
        let time = |text: Spanned<String>| {
            let what = "is no time, such as \"2026-03-02T00:00:00Z\"";
            Time::parse(text.get_ref())
                .map_err(|_| (text.span().start, format!("`{}` {what}", text.get_ref())))
        };
        Ok(Reasoning {
            bind: self.bind,
            to_model: self.to_model.unwrap_or(default.to_model),
            to_session: self.to_session.unwrap_or(default.to_session),
            unbound_until: self.unbound_until.map(time).transpose()?,
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsFile {
    body_mib: Option<Spanned<u32>>,
    first_byte_seconds: Option<Spanned<u32>>,
    pause_seconds: Option<Spanned<u32>>,
    drain_seconds: Option<Spanned<u32>>,
    #[serde(default)]
    trusted_proxies: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleFile {
    name: Option<String>,
    #[serde(default = "hidden_kinds")]
    kinds: Vec<CampaignKind>,
    #[serde(default)]
    rank_only: bool,
    evidence_value_at_least: Option<f64>,
    discovery_rate_at_most: Option<Spanned<f64>>,
    rank_at_most: Option<u64>,
    #[serde(default = "one")]
    guilty_members_at_least: u64,
    guilty_share_at_least: Option<Spanned<f64>>,
    membership_at_least: Option<Spanned<f64>>,
    #[serde(default)]
    steps: Vec<Spanned<StepFile>>,
}

/// A harvest that is not hidden has a customer who can be written to.
fn hidden_kinds() -> Vec<CampaignKind> {
    vec![CampaignKind::Distillation, CampaignKind::LogitExtraction, CampaignKind::RewardGrading]
}

fn one() -> u64 {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepFile {
    #[serde(rename = "do")]
    responses: OneOrMany,
    #[serde(rename = "for")]
    duration: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a response or a list of responses: allow, record, slow, cap, withhold, verify, refuse"
)]
enum OneOrMany {
    One(Response),
    Many(Vec<Response>),
}

impl PolicyFile {
    fn meant(self) -> Result<Policy, Wrong> {
        let pace_streams = self.slow.as_ref().is_some_and(|slow| slow.pace_streams);
        let slow = match self.slow {
            None => SLOW,
            Some(slow) => {
                let tokens_per_minute = positive(&slow.output_tokens_per_minute)?;
                let burst_tokens = slow.burst_tokens.as_ref().map(positive).transpose()?;
                Rate { tokens_per_minute, burst_tokens: burst_tokens.unwrap_or(tokens_per_minute) }
            }
        };
        let cap = match self.cap {
            None => CAP,
            Some(cap) => Cap {
                output_tokens: positive(&cap.output_tokens)?,
                choices: cap.choices.as_ref().map_or(Ok(CAP.choices), positive)?,
            },
        };
        let lift_us = match &self.lift_for {
            Some(text) => duration(text)?,
            None => LIFT_DAYS * 24 * HOUR_US,
        };
        let verify_link = self.appeal.verify_link.is_some();
        let rules = self.rule.into_iter().enumerate();
        let rules = rules.map(|(index, rule)| meant_rule(index, rule, verify_link));
        Ok(Policy {
            mode: self.mode,
            say_verdict: self.say_verdict,
            cut_streams: self.cut_streams,
            pace_streams,
            lift_us,
            appeal: self.appeal,
            exempt_accounts: self.exempt.accounts.into_iter().collect(),
            exempt_organizations: self.exempt.organizations.into_iter().collect(),
            slow,
            cap,
            reasoning: self.reasoning.meant()?,
            limits: self.limits.meant()?,
            rules: rules.collect::<Result<_, _>>()?,
        })
    }
}

impl LimitsFile {
    fn meant(self) -> Result<Limits, Wrong> {
        let default = Limits::default();
        let or =
            |value: &Option<Spanned<u32>>, default| value.as_ref().map_or(Ok(default), positive);
        let body_bytes_max = match &self.body_mib {
            None => default.body_bytes_max,
            Some(mib) if (1..=BODY_MIB_MAX).contains(mib.get_ref()) => {
                *mib.get_ref() as usize * (1 << 20)
            }
            Some(mib) => {
                return Err((
                    mib.span().start,
                    format!("body_mib must lie between 1 and {BODY_MIB_MAX}"),
                ));
            }
        };
        let proxy = |text: &Spanned<String>| {
            let network = text.get_ref();
            let address = |_| network.parse::<IpAddr>().map(IpNet::from);
            network.parse::<IpNet>().or_else(address).map_err(|_| {
                let what = format!("`{network}` is no address or network, such as 10.0.0.0/8");
                (text.span().start, what)
            })
        };
        Ok(Limits {
            body_bytes_max,
            first_byte_seconds: or(&self.first_byte_seconds, default.first_byte_seconds)?,
            pause_seconds: or(&self.pause_seconds, default.pause_seconds)?,
            drain_seconds: or(&self.drain_seconds, default.drain_seconds)?,
            trusted_proxies: self.trusted_proxies.iter().map(proxy).collect::<Result<_, _>>()?,
        })
    }
}

fn meant_rule(index: usize, file: Spanned<RuleFile>, verify_link: bool) -> Result<Rule, Wrong> {
    let at = file.span().start;
    let file = file.into_inner();
    if file.steps.is_empty() {
        let what = "the rule has no steps; add steps = [{ do = \"record\", for = \"30 days\" }]";
        return Err((at, what.to_owned()));
    }
    let share = |value: &Option<Spanned<f64>>, default: f64| match value {
        None => Ok(default),
        Some(value) if (0.0..=1.0).contains(value.get_ref()) => Ok(*value.get_ref()),
        Some(value) => Err((value.span().start, "must lie between 0 and 1".to_owned())),
    };
    let mut steps = Vec::with_capacity(file.steps.len());
    for step in &file.steps {
        let responses: Responses = match &step.get_ref().responses {
            OneOrMany::One(response) => [*response].into_iter().collect(),
            OneOrMany::Many(responses) => responses.iter().copied().collect(),
        };
        if responses.has(Response::Verify) && !verify_link {
            let what = "verify needs a page to send people to: set verify_link in [appeal]";
            return Err((step.span().start, what.to_owned()));
        }
        steps.push(Step { responses, duration_us: duration(&step.get_ref().duration)? });
    }
    Ok(Rule {
        name: file.name.unwrap_or_else(|| format!("rule {}", index + 1)),
        kinds: file.kinds,
        rank_only: file.rank_only,
        evidence_value_at_least: file.evidence_value_at_least,
        discovery_rate_at_most: match &file.discovery_rate_at_most {
            None => None,
            given => Some(share(given, 1.0)?),
        },
        rank_at_most: file.rank_at_most,
        guilty_members_at_least: file.guilty_members_at_least,
        guilty_share_at_least: share(&file.guilty_share_at_least, 0.0)?,
        membership_at_least: share(&file.membership_at_least, MEMBERSHIP)?,
        steps,
    })
}

fn positive<T: Copy + Default + PartialEq>(value: &Spanned<T>) -> Result<T, Wrong> {
    if *value.get_ref() == T::default() {
        return Err((value.span().start, "must be at least 1".to_owned()));
    }
    Ok(*value.get_ref())
}

/// A duration such as «3 days» or «12h»; days have 24 hours.
fn duration(text: &Spanned<String>) -> Result<i64, Wrong> {
    let wrong = |what: String| (text.span().start, what);
    let span: jiff::Span = text.get_ref().parse().map_err(|_| {
        wrong(format!("`{}` is no duration, such as \"3 days\" or \"12 hours\"", text.get_ref()))
    })?;
    let seconds = span
        .to_duration(jiff::SpanRelativeTo::days_are_24_hours())
        .map(|duration| duration.as_secs())
        .map_err(|_| wrong("months and years have no fixed length; say days".to_owned()))?;
    let duration_us = seconds.saturating_mul(SECOND_US);
    if !(SECOND_US..=DURATION_US_MAX).contains(&duration_us) {
        return Err(wrong(
            "must lie between 1 second and 366 days; every response ends".to_owned(),
        ));
    }
    Ok(duration_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_error(text: &str, expected: &str) {
        assert_eq!(Policy::parse(text).unwrap_err().to_string(), expected);
    }

    #[test]
    fn an_empty_file_observes_and_says_nothing() {
        let policy = Policy::parse("").unwrap();
        assert_eq!(policy.mode, Mode::Observe);
        assert!(policy.rules.is_empty());
        assert_eq!(policy.lift_us, 90 * 24 * HOUR_US);
    }

    #[test]
    fn what_is_typed_is_what_is_meant() {
        let policy = Policy::parse(
            r#"
mode = "enforce"
lift_for = "12 hours"
[appeal]
contact = "abuse@example.com"
verify_link = "https://example.com/verify"
[exempt]
accounts = ["acct_7"]
organizations = ["org_1"]
[slow]
output_tokens_per_minute = 600
[limits]
trusted_proxies = ["10.0.0.0/8", "192.0.2.1"]
[[rule]]
name = "promised"
evidence_value_at_least = 20
steps = [
    { do = "slow", for = "1 day" },
    { do = ["cap", "withhold"], for = "3d 12h" },
]
"#,
        )
        .unwrap();
        assert_eq!(policy.slow, Rate { tokens_per_minute: 600, burst_tokens: 600 });
        assert_eq!(policy.lift_us, 12 * HOUR_US);
        assert!(policy.exempts("acct_7", None) && policy.exempts("x", Some("org_1")));
        assert!(!policy.exempts("org_1", Some("acct_7")));
        assert_eq!(policy.limits.trusted_proxies.len(), 2);
        assert_eq!(policy.rules[0].duration_us(), (24 + 84) * HOUR_US);
        assert_eq!(policy.rules[0].steps[1].responses.gravest(), Response::Withhold);
    }

    #[test]
    fn the_documented_policy_is_one() {
        let page = include_str!("../../../docs/guard.md");
        let text =
            page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let policy = Policy::parse(text).unwrap();
        assert_eq!(policy.mode, Mode::Enforce);
        assert_eq!(policy.rules.len(), 3);
        assert_eq!(policy.rules[0].steps.len(), 3);
        assert_eq!(policy.rules[0].membership_at_least, MEMBERSHIP);
        assert_eq!(
            policy.limits,
            Limits { trusted_proxies: policy.limits.trusted_proxies.clone(), ..Limits::default() }
        );
        assert_eq!((policy.slow, policy.cap, policy.lift_us), (SLOW, CAP, 90 * 24 * HOUR_US));
    }

    #[test]
    fn errors_name_the_line_and_what_to_do() {
        check_error(
            "mode = \"enforce\"\nrules = 3\n",
            "line 2: unknown field `rules`, expected one of `mode`, `say_verdict`, `cut_streams`, \
             `lift_for`, `appeal`, `exempt`, `slow`, `cap`, `reasoning`, `limits`, `rule`",
        );
        check_error(
            "mode = \"angry\"",
            "line 1: unknown variant `angry`, expected `observe` or `enforce`",
        );
        check_error(
            "[[rule]]\nname = \"x\"\n",
            "line 1: the rule has no steps; add steps = [{ do = \"record\", for = \"30 days\" }]",
        );
        check_error(
            "\n[[rule]]\nsteps = [{ do = \"slow\", for = \"soon\" }]",
            "line 3: `soon` is no duration, such as \"3 days\" or \"12 hours\"",
        );
        check_error(
            "[[rule]]\nsteps = [{ do = \"slow\", for = \"1 year\" }]",
            "line 2: months and years have no fixed length; say days",
        );
        check_error(
            "[[rule]]\nsteps = [{ do = \"slow\", for = \"400 days\" }]",
            "line 2: must lie between 1 second and 366 days; every response ends",
        );
        check_error(
            "[[rule]]\nsteps = [{ do = \"verify\", for = \"1 day\" }]",
            "line 2: verify needs a page to send people to: set verify_link in [appeal]",
        );
        check_error(
            "[[rule]]\nsteps = [{ do = \"ban\", for = \"1 day\" }]",
            "line 2: a response or a list of responses: allow, record, slow, cap, withhold, \
             verify, refuse",
        );
        check_error("[slow]\noutput_tokens_per_minute = 0", "line 2: must be at least 1");
        check_error(
            "[[rule]]\nmembership_at_least = 90\nsteps = [{ do = \"slow\", for = \"1 day\" }]",
            "line 2: must lie between 0 and 1",
        );
        check_error(
            "[reasoning]\nbind = true\nunbound_until = \"soon\"",
            "line 3: `soon` is no time, such as \"2026-03-02T00:00:00Z\"",
        );
        check_error(
            "[limits]\ntrusted_proxies = [\"here\"]",
            "line 2: `here` is no address or network, such as 10.0.0.0/8",
        );
    }
}
