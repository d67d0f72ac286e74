//! The views that the templates lay out: every sentence, figure and table of the page.

use std::collections::BTreeMap;

use askama::Template;
use stillwatch_exchange::findings::{CampaignKind, Evidence, Share, Technique};
use stillwatch_exchange::picture::{CampaignPicture, EvidencePicture, Picture};
use stillwatch_exchange::time::Time;

use crate::ReportError;
use crate::embed::{self, Script};
use crate::figures::campaign::{self as campaign_figures, Mark};
use crate::figures::{self, Figure};
use crate::wording::{self, ChannelRole};

const SHARES_MAX: usize = 12;
const PROBLEMS_MAX: usize = 200;
const EXCERPTS_MAX: usize = 50;
const EXCERPT_CHARS_MAX: usize = 4_000;
const EXAMPLES_MAX: usize = 50;

/// Writes the page.
pub(crate) fn render(picture: &Picture) -> Result<String, ReportError> {
    let library = embed::chart_library()?;
    let script = embed::page_script();
    let page = Page {
        policy: policy(library, script),
        style: include_str!("../templates/report.css"),
        library: &library.text,
        script: &script.text,
        glance: Glance::of(picture),
        crowd: Crowd::of(picture)?,
        campaigns: picture
            .campaigns
            .iter()
            .enumerate()
            .map(|(i, campaign)| CampaignView::of(i + 1, campaign))
            .collect::<Result<_, _>>()?,
        run: Run::of(picture),
    };
    Ok(page.render()?)
}

/// What the page may do: run these two scripts, and fetch nothing.
pub(crate) fn policy(library: &Script, script: &Script) -> String {
    format!(
        "default-src 'none'; script-src {} {}; style-src 'unsafe-inline'; \
         img-src data: blob:; base-uri 'none'; form-action 'none'",
        library.hash, script.hash
    )
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    policy: String,
    style: &'a str,
    library: &'a str,
    script: &'a str,
    glance: Glance,
    crowd: Crowd,
    campaigns: Vec<CampaignView<'a>>,
    run: Run<'a>,
}

/// A chart with the sentence that stands for it where it can't be seen.
pub(crate) struct Chart {
    pub(crate) id: String,
    /// Safe inside a `<script>`.
    pub(crate) json: String,
    pub(crate) height_px: usize,
    /// What the chart shows, in a sentence.
    pub(crate) alternative: String,
}

impl Chart {
    pub(crate) fn of(
        id: String,
        figure: &Figure,
        alternative: String,
    ) -> Result<Self, ReportError> {
        match embed::json(figure) {
            Ok(json) => Ok(Chart { id, json, height_px: figure.height_px, alternative }),
            Err(source) => Err(ReportError::Chart { chart: id, source }),
        }
    }
}

/// A name beside its value.
pub(crate) struct Fact {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    /// What qualifies the value, empty where nothing does.
    pub(crate) note: String,
}

pub(crate) fn fact(name: &'static str, value: impl Into<String>, note: impl Into<String>) -> Fact {
    Fact { name, value: value.into(), note: note.into() }
}

/// The name that a campaign bears on the page; its id is a hash that nobody can say.
fn name(number: usize) -> String {
    format!("Campaign {number}")
}

fn period(picture: &Picture) -> String {
    let run = &picture.run;
    if run.exchanges == 0 {
        return "no time".to_owned();
    }
    format!("{} to {}", wording::day(run.first_seen), wording::day(run.last_seen))
}

/// The top of the page.
struct Glance {
    /// Nothing was reported.
    clear: bool,
    verdict: String,
    lead: String,
    facts: Vec<Fact>,
}

impl Glance {
    fn of(picture: &Picture) -> Self {
        let run = &picture.run;
        let (open, hidden): (Vec<_>, Vec<_>) =
            picture.campaigns.iter().partition(|c| c.finding.kind == CampaignKind::OpenHarvest);
        let sum = |campaigns: &[&CampaignPicture], of: fn(&CampaignPicture) -> u64| {
            campaigns.iter().fold(0_u64, |sum, c| sum.saturating_add(of(c)))
        };
        let all: Vec<&CampaignPicture> = picture.campaigns.iter().collect();
        let accounts = sum(&all, |c| c.finding.accounts);
        let exchanges = sum(&all, |c| c.finding.exchanges);
        let (hidden_count, open_count) = (hidden.len() as u64, open.len() as u64);
        let hidden_words = wording::counted(hidden_count, "hidden campaign", "hidden campaigns");
        let open_words = wording::counted(open_count, "open harvest", "open harvests");

        let verdict = match (run.exchanges, hidden_count, open_count) {
            (0, 0, 0) => "Nothing was read".to_owned(),
            (_, 0, 0) => "No campaign was found".to_owned(),
            (_, 0, _) => format!("No hidden campaign was found, but {open_words}"),
            (_, _, 0) => format!("{hidden_words} found"),
            _ => format!("{hidden_words} found, and {open_words}"),
        };
        let read = format!(
            "{} of {} {} read, {}.",
            wording::counted(run.exchanges, "exchange", "exchanges"),
            wording::counted(run.accounts, "account", "accounts"),
            if run.exchanges == 1 { "was" } else { "were" },
            if run.first_seen == run.last_seen {
                format!("all at {}", wording::moment(run.first_seen))
            } else {
                format!(
                    "from {} to {} ({})",
                    wording::moment(run.first_seen),
                    wording::moment(run.last_seen),
                    wording::duration(run.last_seen.0.saturating_sub(run.first_seen.0))
                )
            }
        );
        let lead = match (run.exchanges, picture.campaigns.len()) {
            (0, 0) => "There was not one exchange in what was read, so this page says nothing \
                       about any traffic. What was wrong with the input stands at its end."
                .to_owned(),
            (_, 0) => format!(
                "{read} {} That does not prove that there was no campaign: accounts that share \
                 nothing rare are never gathered into a group.",
                match run.candidates {
                    0 => "No accounts shared anything rare enough to be judged as a group."
                        .to_owned(),
                    1 => "One group of linked accounts was judged, and it did not stand out."
                        .to_owned(),
                    n => format!(
                        "{} groups of linked accounts were judged, and none stood out.",
                        wording::amount(n)
                    ),
                }
            ),
            _ => format!(
                "{read} {} made {}, which is {} of all. {} {}",
                wording::counted(accounts, "reported account", "reported accounts"),
                wording::counted(exchanges, "exchange", "exchanges"),
                wording::percent(wording::share(exchanges, run.exchanges)),
                promises(picture),
                if open.is_empty() {
                    String::new()
                } else {
                    "An open harvest is one account or one verified organisation that does not \
                     hide; it is listed for completeness."
                        .to_owned()
                }
            ),
        };
        let mut facts = vec![
            fact(
                "campaigns",
                wording::count(hidden_count),
                if open.is_empty() { String::new() } else { format!("and {open_words}") },
            ),
            fact(
                "accounts reported",
                wording::amount(accounts),
                format!("of {}", wording::amount(run.accounts)),
            ),
            fact(
                "exchanges by them",
                wording::amount(exchanges),
                format!("of {}", wording::amount(run.exchanges)),
            ),
            fact(
                "share of traffic",
                wording::percent(wording::share(exchanges, run.exchanges)),
                "",
            ),
            fact(
                "groups judged",
                wording::amount(run.candidates),
                wording::counted(run.references, "reference group", "reference groups"),
            ),
            fact(
                "rows refused",
                wording::amount(run.rows_refused),
                if run.problems.is_empty() { "" } else { "see what was read" },
            ),
        ];
        if picture.campaigns.is_empty() {
            facts.retain(|f| f.name != "exchanges by them" && f.name != "share of traffic");
        }
        Glance { clear: hidden.is_empty(), verdict, lead, facts }
    }
}

/// How many findings carry a promise, how many have a rank only, and what that means.
fn promises(picture: &Picture) -> String {
    let findings = picture.campaigns.len() as u64;
    let promised =
        picture.campaigns.iter().filter(|c| c.finding.evidence_value.is_some()).count() as u64;
    let promise = format!(
        "a promise: of such findings at most {} are expected to be innocent groups",
        wording::percent(picture.run.level)
    );
    let rank = "a rank only: there is too little to compare with for a promise, and no error \
                rate is claimed";
    let of = |n: u64| match (n, n == findings) {
        (1, true) => "The finding has".to_owned(),
        (_, true) => "All findings have".to_owned(),
        (1, false) => "One finding has".to_owned(),
        (n, false) => format!("{} findings have", wording::count(n)),
    };
    match (promised, findings - promised) {
        (0, 0) => String::new(),
        (0, ranked) => format!("{} {rank}.", of(ranked)),
        (promised, 0) => format!("{} {promise}.", of(promised)),
        (promised, ranked) => format!("{} {promise}. {} {rank}.", of(promised), of(ranked)),
    }
}

/// What the findings stood out from.
struct Crowd {
    groups: Option<Chart>,
    groups_left_out: String,
    groups_note: String,
    traffic: Option<Chart>,
}

impl Crowd {
    fn of(picture: &Picture) -> Result<Self, ReportError> {
        let names: BTreeMap<&str, String> = picture
            .campaigns
            .iter()
            .enumerate()
            .map(|(i, c)| (c.finding.campaign_id.as_str(), name(i + 1)))
            .collect();
        let crowd = &picture.crowd;
        let reported = crowd.groups.iter().filter(|g| g.campaign_id.is_some()).count() as u64;
        let all = crowd.groups.len() as u64;
        let groups_note = match (all, reported) {
            (0, _) => "No accounts shared anything rare enough to make a group.".to_owned(),
            (1, 0) => "The one group that was judged; it was not reported.".to_owned(),
            (1, _) => "The one group that was judged; it was reported.".to_owned(),
            (n, 0) => {
                format!("All {} groups that were judged; none was reported.", wording::count(n))
            }
            (n, r) => format!(
                "Each dot is one of {} that were judged: how many accounts it has, and how \
                 strongly the confirming channels speak against an ordinary group. {} reported.",
                wording::counted(n, "group", "groups"),
                match r {
                    1 => "One was".to_owned(),
                    r => format!("{} were", wording::count(r)),
                }
            ),
        };
        let (groups, groups_left_out) = match figures::crowd::groups(&crowd.groups, &names) {
            Some((figure, left_out)) => (
                Some(Chart::of("crowd-groups".to_owned(), &figure, groups_note.clone())?),
                match left_out {
                    0 => String::new(),
                    n => format!(
                        "{} are left out of the drawing, evenly.",
                        wording::counted(n as u64, "dot", "dots")
                    ),
                },
            ),
            None => (None, String::new()),
        };
        let traffic = figures::crowd::traffic(crowd)
            .map(|figure| {
                let words = figures::series_in_words(&crowd.traffic);
                Chart::of("crowd-traffic".to_owned(), &figure, format!("All traffic: {words}"))
            })
            .transpose()?;
        Ok(Crowd { groups, groups_left_out, groups_note, traffic })
    }
}

/// One row of a list of shares.
struct ShareRow<'a> {
    name: &'a str,
    percent: String,
    /// Of the bar, in percent, as CSS reads it.
    width: String,
}

/// A list of shares, the largest first.
struct Shares<'a> {
    title: &'static str,
    /// What qualifies the list, empty where nothing does.
    note: &'static str,
    rows: Vec<ShareRow<'a>>,
    rest: String,
}

impl<'a> Shares<'a> {
    fn of(title: &'static str, note: &'static str, shares: &'a [Share]) -> Self {
        let clean = |s: &Share| {
            if s.share.is_finite() { s.share.clamp(0.0, 1.0) } else { 0.0 }
        };
        let mut sorted: Vec<(&str, f64)> =
            shares.iter().map(|s| (s.name.as_str(), clean(s))).collect();
        sorted.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
        let rest = sorted.get(SHARES_MAX..).unwrap_or_default();
        let rest = if rest.is_empty() {
            String::new()
        } else {
            format!(
                "and {} more with {} together",
                wording::count(rest.len() as u64),
                wording::percent(rest.iter().map(|r| r.1).sum())
            )
        };
        let rows = sorted
            .into_iter()
            .take(SHARES_MAX)
            .map(|(name, share)| ShareRow {
                name: if name.trim().is_empty() { "not in the logs" } else { name },
                percent: wording::percent(share),
                width: format!("{:.2}%", 100.0 * share),
            })
            .collect();
        Shares { title, note, rows, rest }
    }
}

/// One piece of evidence.
struct EvidenceView<'a> {
    channel: String,
    sees: &'static str,
    role: &'static str,
    statement: &'a str,
    ruled_out: &'a str,
    cost_to_avoid: &'a str,
    measure: &'a str,
    standing: String,
    strength: String,
    chart: Option<Chart>,
    examples: Vec<&'a str>,
    examples_left_out: String,
}

impl<'a> EvidenceView<'a> {
    fn of(
        id: String,
        picture: &'a EvidencePicture,
        stated: Option<&'a Evidence>,
    ) -> Result<Self, ReportError> {
        let standing = figures::evidence::standing(picture).unwrap_or_default();
        let chart = figures::evidence::chart(picture)
            .map(|figure| {
                Chart::of(
                    id,
                    &figure,
                    format!("{}. {standing}", wording::sentence_case(&picture.measure)),
                )
            })
            .transpose()?;
        let mut view = Self::bare(&picture.channel, &picture.statement, picture.strength, stated);
        view.ruled_out = &picture.ruled_out;
        view.cost_to_avoid = &picture.cost_to_avoid;
        view.measure = &picture.measure;
        view.standing = standing;
        view.chart = chart;
        Ok(view)
    }

    /// Evidence that no picture was made of.
    fn bare(
        channel: &str,
        statement: &'a str,
        strength: f64,
        stated: Option<&'a Evidence>,
    ) -> Self {
        let (role, sees) = wording::channel(channel);
        let examples = stated.map_or(&[][..], |e| e.examples.as_slice());
        EvidenceView {
            channel: wording::sentence_case(&channel.replace('_', " ")),
            sees,
            role: match role {
                ChannelRole::Link => "links the accounts",
                ChannelRole::Confirm => "confirms the group",
                ChannelRole::Other => "",
            },
            statement,
            ruled_out: "",
            cost_to_avoid: "",
            measure: "",
            standing: String::new(),
            strength: wording::strength(role, strength),
            chart: None,
            examples: examples.iter().take(EXAMPLES_MAX).map(String::as_str).collect(),
            examples_left_out: match examples.len().saturating_sub(EXAMPLES_MAX) {
                0 => String::new(),
                n => format!("and {} more", wording::count(n as u64)),
            },
        }
    }
}

/// A campaign's section.
struct CampaignView<'a> {
    number: usize,
    name: String,
    id: &'a str,
    kind: &'static str,
    kind_means: &'static str,
    open: bool,
    headline: String,
    accounts: String,
    accounts_counted: String,
    exchanges: String,
    since: String,
    detectable: String,
    evidence_value: String,
    facts: Vec<Fact>,
    timeline: Option<Chart>,
    marks: Vec<MarkView>,
    graph: Option<Chart>,
    graph_note: String,
    came_from: Vec<Shares<'a>>,
    countries_shown: bool,
    took: Vec<Shares<'a>>,
    took_words: String,
    hours: Option<Chart>,
    hours_words: String,
    volumes: Option<Chart>,
    volumes_words: String,
    evidence: Vec<EvidenceView<'a>>,
    promise: &'a str,
    promise_means: String,
    techniques: &'a [Technique],
    excerpts: Vec<String>,
    excerpts_left_out: String,
}

struct MarkView {
    number: String,
    when: String,
    text: String,
}

impl From<Mark> for MarkView {
    fn from(mark: Mark) -> Self {
        MarkView {
            number: mark.number.map_or_else(|| "–".to_owned(), |n| n.to_string()),
            when: wording::moment(mark.time),
            text: mark.text,
        }
    }
}

impl<'a> CampaignView<'a> {
    fn of(number: usize, campaign: &'a CampaignPicture) -> Result<Self, ReportError> {
        let finding = &campaign.finding;
        let (kind, kind_means) = wording::kind(finding.kind);
        let id = |part: &str| format!("campaign-{number}-{part}");

        let before = wording::share(finding.exchanges_before_detection, finding.exchanges);
        let is_over = finding.first_detectable > finding.last_seen;
        let headline = format!(
            "{} made {} {}. By the same rule it could first have been reported \
             on {}, {}.",
            wording::counted(finding.accounts, "account", "accounts"),
            wording::counted(finding.exchanges, "exchange", "exchanges"),
            between(finding.first_seen, finding.last_seen),
            wording::moment(finding.first_detectable),
            if is_over {
                "after the last of them: looks are taken only at the ends of epochs, and this is \
                 the first at which it stood out"
                    .to_owned()
            } else {
                format!(
                    "after {} ({} of its total)",
                    wording::counted(finding.exchanges_before_detection, "exchange", "exchanges"),
                    wording::percent(before)
                )
            },
        );

        let marks = campaign_figures::marks(campaign);
        let timeline = campaign_figures::timeline(campaign, &marks)
            .map(|figure| {
                let words = figures::series_in_words(&campaign.traffic);
                Chart::of(
                    id("timeline"),
                    &figure,
                    format!("The members' exchanges over time: {words}"),
                )
            })
            .transpose()?;

        let shared = campaign.graph.nodes.iter().filter(|n| n.kind != "account").count() as u64;
        let drawn = campaign.graph.nodes.len() as u64 - shared;
        let graph_words = format!(
            "{} and {} shared by them.",
            wording::counted(drawn, "account", "accounts"),
            wording::counted(shared, "thing", "things")
        );
        let (graph, graph_cut) = match campaign_figures::graph(&campaign.graph) {
            Some((figure, cut)) => {
                (Some(Chart::of(id("graph"), &figure, graph_words.clone())?), cut as u64)
            }
            None => (None, 0),
        };
        let left_out = campaign.graph.accounts_left_out.saturating_add(graph_cut);
        let graph_note = match left_out {
            0 => graph_words,
            n => format!(
                "{graph_words} {} left out to keep the drawing readable.",
                match n {
                    1 => "One more account is".to_owned(),
                    n => format!("{} more accounts are", wording::amount(n)),
                }
            ),
        };

        let hours_words = match (
            campaign_figures::busiest_hour(&campaign.hours_members),
            campaign_figures::busiest_hour(&campaign.hours_crowd),
        ) {
            (Some((hour, share)), crowd) => {
                let beside = crowd.map_or_else(String::new, |(hour, share)| {
                    format!("; the crowd's is {hour:02}:00 with {}", wording::percent(share))
                });
                format!(
                    "The members' busiest hour is {hour:02}:00 UTC with {} of their exchanges{beside}. \
                     Spread evenly, each hour would have 4.2\u{a0}%.",
                    wording::percent(share)
                )
            }
            (None, _) => String::new(),
        };
        let hours = campaign_figures::hours(&campaign.hours_members, &campaign.hours_crowd)
            .map(|figure| Chart::of(id("hours"), &figure, hours_words.clone()))
            .transpose()?;

        let volumes_words = match campaign_figures::volume_quartiles(&campaign.volumes) {
            Some((low, median, high)) if campaign.volumes.len() > 1 => format!(
                "Half of the accounts made between {} and {} exchanges; the median is {}.",
                wording::significant(low),
                wording::significant(high),
                wording::significant(median)
            ),
            Some((_, median, _)) => {
                format!("The one account made {} exchanges.", wording::significant(median))
            }
            None => String::new(),
        };
        // A histogram of one account would be a picture of nothing.
        let volumes = campaign_figures::volumes(&campaign.volumes)
            .filter(|_| campaign.volumes.len() > 1)
            .map(|figure| Chart::of(id("volumes"), &figure, volumes_words.clone()))
            .transpose()?;

        let came_from: Vec<Shares<'a>> = [
            Shares::of("Networks", "", &campaign.networks),
            Shares::of("Clients", "", &campaign.clients),
            Shares::of("Routes", "", &finding.routes),
            Shares::of("Countries", "", &campaign.countries),
        ]
        .into_iter()
        .filter(|s| !s.rows.is_empty())
        .collect();
        let took: Vec<Shares<'a>> = [
            Shares::of("Capabilities", "as a part of the harvest", &finding.capabilities),
            Shares::of("Models", "as asked for", &finding.models),
        ]
        .into_iter()
        .filter(|s| !s.rows.is_empty())
        .collect();

        Ok(CampaignView {
            number,
            name: name(number),
            id: &finding.campaign_id,
            kind,
            kind_means,
            open: finding.kind == CampaignKind::OpenHarvest,
            headline,
            accounts: wording::amount(finding.accounts),
            accounts_counted: wording::counted(finding.accounts, "account", "accounts"),
            exchanges: wording::amount(finding.exchanges),
            since: wording::day(finding.first_seen),
            detectable: format!(
                "{}{}",
                wording::day(finding.first_detectable),
                if is_over { ", after its last exchange" } else { "" }
            ),
            evidence_value: finding
                .evidence_value
                .map_or_else(|| format!("rank {}", finding.rank), wording::significant),
            facts: facts(campaign),
            timeline,
            marks: marks.into_iter().map(MarkView::from).collect(),
            graph,
            graph_note,
            came_from,
            countries_shown: !campaign.countries.is_empty(),
            took,
            took_words: took_words(campaign),
            hours,
            hours_words,
            volumes,
            volumes_words,
            evidence: evidence(number, campaign)?,
            promise: &campaign.promise,
            promise_means: promise_means(campaign),
            techniques: &finding.techniques,
            excerpts: campaign
                .excerpts
                .iter()
                .take(EXCERPTS_MAX)
                .map(|text| match text.char_indices().nth(EXCERPT_CHARS_MAX) {
                    Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
                    None => text.clone(),
                })
                .collect(),
            excerpts_left_out: match campaign.excerpts.len().saturating_sub(EXCERPTS_MAX) {
                0 => String::new(),
                n => format!("{} more are left out.", wording::count(n as u64)),
            },
        })
    }
}

/// `between 3 March 2026 and 9 March 2026`, `on 3 March 2026`.
fn between(from: Time, to: Time) -> String {
    let (from, to) = (wording::day(from), wording::day(to));
    if from == to { format!("on {from}") } else { format!("between {from} and {to}") }
}

/// The key figures of a campaign.
fn facts(campaign: &CampaignPicture) -> Vec<Fact> {
    let finding = &campaign.finding;
    let guilty = &finding.guilty_members_at_least;
    let lasted = finding.last_seen.0.saturating_sub(finding.first_seen.0);
    let per_account = match finding.accounts {
        0 | 1 => String::new(),
        n => format!("{} an account", wording::significant(finding.exchanges as f64 / n as f64)),
    };
    let mut facts = vec![
        fact(
            "accounts",
            wording::amount(finding.accounts),
            if guilty.members == 0 {
                String::new()
            } else {
                format!(
                    "at least {} not ordinary ({} sure)",
                    wording::amount(guilty.members),
                    wording::percent(guilty.level)
                )
            },
        ),
        fact("exchanges", wording::amount(finding.exchanges), per_account),
        fact(
            "active for",
            wording::duration(lasted),
            between(finding.first_seen, finding.last_seen),
        ),
        fact(
            "output tokens",
            wording::amount(finding.output_tokens),
            match finding.reasoning_tokens {
                0 => String::new(),
                n => format!("{} of them reasoning", wording::amount(n)),
            },
        ),
    ];
    if let Some(cost) = wording::dollars(finding.cost_usd) {
        facts.push(fact("billed", cost, ""));
    }
    facts.push(match finding.evidence_value {
        Some(value) => fact(
            "e-value",
            wording::significant(value),
            format!(
                "on {}",
                wording::counted(finding.references, "reference group", "reference groups")
            ),
        ),
        None => fact(
            "rank",
            wording::count(finding.rank),
            "among all candidates; too few reference groups for a promise",
        ),
    });
    facts
}

fn took_words(campaign: &CampaignPicture) -> String {
    let finding = &campaign.finding;
    let reasoning = match finding.reasoning_tokens {
        0 => String::new(),
        n => format!(
            ", of which {} ({}) are reasoning",
            wording::amount(n),
            wording::percent(wording::share(n, finding.output_tokens))
        ),
    };
    let cost = wording::dollars(finding.cost_usd).map_or_else(
        || "What it cost is not in the logs.".to_owned(),
        |cost| format!("It was billed {cost}."),
    );
    format!(
        "The group was given {}{reasoning}. {cost}",
        wording::counted(finding.output_tokens, "output token", "output tokens")
    )
}

/// What the promise of this finding means and does not, on how many references.
fn promise_means(campaign: &CampaignPicture) -> String {
    let finding = &campaign.finding;
    let strata = if finding.strata.is_empty() {
        String::new()
    } else {
        format!(" linked in the same way ({})", finding.strata.join(", "))
    };
    match (finding.evidence_value, finding.discovery_rate) {
        (Some(value), rate) => format!(
            "It was compared with {}{strata}. Its e-value is {}: if it were an ordinary group like \
             those, a value this large would be expected at most once in {} such \
             groups.{} It means «not an ordinary group of this kind»; what the group is instead, the \
             evidence above has to say.",
            wording::counted(finding.references, "reference group", "reference groups"),
            wording::significant(value),
            wording::significant(value.max(1.0)),
            rate.map_or_else(String::new, |rate| format!(
                " It is reported at a false-discovery rate of at most {}: of all findings of this \
                 page that carry a promise, at most that share is expected to be ordinary.",
                wording::percent(rate)
            )),
        ),
        (None, _) => format!(
            "There are too few reference groups for a promise: {}{strata}. So no error rate is \
             claimed; the group is number {} among all candidates of this run, and the evidence \
             above has to stand on its own.",
            match finding.references {
                0 => "none".to_owned(),
                n => wording::count(n),
            },
            wording::count(finding.rank),
        ),
    }
}

/// The pictures of the evidence with their examples, and what was stated without a picture.
fn evidence(
    number: usize,
    campaign: &CampaignPicture,
) -> Result<Vec<EvidenceView<'_>>, ReportError> {
    let stated = &campaign.finding.evidence;
    let of = |picture: &EvidencePicture| {
        stated
            .iter()
            .find(|e| e.channel == picture.channel && e.statement == picture.statement)
            .or_else(|| stated.iter().find(|e| e.channel == picture.channel))
    };
    let mut views = Vec::with_capacity(campaign.evidence.len().max(stated.len()));
    for (i, picture) in campaign.evidence.iter().enumerate() {
        let id = format!("campaign-{number}-evidence-{}", i + 1);
        views.push(EvidenceView::of(id, picture, of(picture))?);
    }
    for evidence in stated {
        if !campaign.evidence.iter().any(|p| p.channel == evidence.channel) {
            views.push(EvidenceView::bare(
                &evidence.channel,
                &evidence.statement,
                evidence.strength,
                Some(evidence),
            ));
        }
    }
    Ok(views)
}

/// What was read, and what of it could not be.
struct Run<'a> {
    version: &'a str,
    period: String,
    exchanges: String,
    accounts: String,
    rows_refused: String,
    candidates: String,
    references: String,
    level: String,
    problems: Vec<&'a str>,
    problems_left_out: String,
}

impl<'a> Run<'a> {
    fn of(picture: &'a Picture) -> Self {
        let run = &picture.run;
        Run {
            version: &run.version,
            period: period(picture),
            exchanges: wording::count(run.exchanges),
            accounts: wording::count(run.accounts),
            rows_refused: wording::count(run.rows_refused),
            candidates: wording::count(run.candidates),
            references: wording::count(run.references),
            level: wording::percent(run.level),
            problems: run.problems.iter().take(PROBLEMS_MAX).map(String::as_str).collect(),
            problems_left_out: match run.problems.len().saturating_sub(PROBLEMS_MAX) {
                0 => String::new(),
                n => format!("and {} more", wording::count(n as u64)),
            },
        }
    }
}
