//! What the page says, that it says it the same way every time, and that text from the
//! data stays text.

mod pictures;
mod reading;

use std::collections::BTreeSet;

use proptest::prelude::*;
use reading::{Reading, read};
use stillwatch_exchange::findings::Share;
use stillwatch_exchange::picture::{GraphNode, GroupDot, Picture, Series};
use stillwatch_exchange::time::Time;

/// The page as read, without the four megabytes of its chart library.
fn page_of(picture: &Picture) -> Reading {
    let html = stillwatch_report::render(picture).unwrap();
    let start = html.find("<script>/**").unwrap() + "<script>".len();
    let end = start + html[start..].find("</script>").unwrap();
    read(&format!("{}{}", &html[..start], &html[end..]))
}

fn section(text: &str, from: &str, to: &str) -> String {
    let start = text.find(from).unwrap();
    let end = text[start..].find(to).map_or(text.len(), |i| start + i);
    text[start..end].to_owned()
}

#[test]
fn a_rich_picture_in_words() {
    let text = page_of(&pictures::rich()).text;
    insta::assert_snapshot!("glance", section(&text, "Stillwatch", "The crowd\nAll groups"));
    insta::assert_snapshot!(
        "campaign",
        section(&text, "Campaign 1 Distillation\n", "Campaign 2 Distillation\n")
    );
    insta::assert_snapshot!(
        "promise_and_read",
        section(&text, "What a report promises\nA group", "\0")
    );
}

#[test]
fn without_campaigns_the_page_says_so_and_shows_the_crowd() {
    let page = page_of(&pictures::nothing_found());
    assert!(page.text.contains("No campaign was found"), "{}", page.text);
    assert!(page.text.contains("does not prove that there was no campaign"));
    assert!(page.text.contains("All 640 groups that were judged; none was reported."));
    assert!(page.ids.iter().any(|id| id == "crowd-groups"));
    assert!(!page.text.contains("What was found"));
}

#[test]
fn the_head_says_how_many_findings_carry_a_promise() {
    let mut picture = pictures::rich();
    let promised = "have a promise: of such findings at most 5 % are expected to be innocent";
    let ranked = "have a rank only: there is too little to compare with for a promise";
    let text = page_of(&picture).text.replace('\u{a0}', " ");
    assert!(text.contains(&format!("3 findings {promised}")), "{text}");
    assert!(text.contains(&format!("2 findings {ranked}")));
    picture.campaigns.iter_mut().for_each(|c| c.finding.evidence_value = None);
    let text = page_of(&picture).text.replace('\u{a0}', " ");
    assert!(text.contains(&format!("All findings {ranked}")), "{text}");
    assert!(!text.contains(promised));
}

#[test]
fn what_was_known_after_the_last_exchange_is_told_so() {
    let mut picture = pictures::rich();
    let after = "after the last of them: looks are taken only at the ends of epochs";
    assert!(!page_of(&picture).text.contains(after));
    let finding = &mut picture.campaigns[0].finding;
    finding.first_detectable = Time(finding.last_seen.0 + 1);
    finding.exchanges_before_detection = finding.exchanges;
    let text = page_of(&picture).text;
    assert_eq!(text.matches(after).count(), 1, "{text}");
    assert_eq!(text.matches(", after its last exchange").count(), 1);
}

#[test]
fn no_rows_are_not_an_acquittal() {
    let page = page_of(&pictures::empty());
    assert!(page.text.contains("Nothing was read"), "{}", page.text);
    assert!(!page.text.contains("No campaign was found"));
    assert!(page.data.is_empty());
}

#[test]
fn what_is_not_known_is_not_made_up() {
    let text = page_of(&pictures::bare()).text;
    insta::assert_snapshot!(
        "bare_campaign",
        section(&text, "Campaign 1 Distillation\n", "What a report promises\nA group")
    );
}

#[test]
fn a_country_comes_with_its_warning_and_only_then() {
    let warning = "A country is never evidence. It is shown because it was logged";
    assert!(page_of(&pictures::rich()).text.contains(warning));
    assert!(!page_of(&pictures::bare()).text.contains(warning));
}

#[test]
fn without_references_a_rank_is_given_and_no_promise() {
    let text = page_of(&pictures::rich()).text;
    let third = section(&text, "Campaign 3 Reward grading\n", "Campaign 4 Logit extraction\n");
    assert!(third.contains("There are too few reference groups for a promise: 31"), "{third}");
    assert!(third.contains("number 3 among all candidates"));
    assert!(!third.contains("e-value is"));
}

#[test]
fn excerpts_are_there_only_when_asked_for() {
    let mut picture = pictures::rich();
    assert!(!page_of(&picture).text.contains("Excerpts"));
    picture.campaigns[0].excerpts = vec!["<b>Prove</b> that √2 & π …".to_owned()];
    let page = page_of(&picture);
    assert!(page.text.contains("Excerpts of harvested prompts"));
    assert!(page.text.contains("<b>Prove</b> that √2 & π …"));
}

#[test]
fn evidence_without_a_picture_is_not_lost() {
    let mut picture = pictures::rich();
    picture.campaigns[0].evidence.retain(|e| e.channel != "timing");
    let text = page_of(&picture).text;
    let first = section(&text, "Campaign 1 Distillation\n", "Campaign 2 Distillation\n");
    assert!(first.contains("When one account stops, another goes on within 40 seconds"), "{first}");
}

#[test]
fn the_same_picture_gives_the_same_bytes() {
    for picture in [pictures::rich(), pictures::nothing_found(), pictures::bare()] {
        let once = stillwatch_report::render(&picture).unwrap();
        let again = stillwatch_report::render(&picture.clone()).unwrap();
        assert!(once == again);
    }
}

#[test]
fn the_page_is_well_made_and_needs_nothing_beside_itself() {
    for picture in
        [pictures::rich(), pictures::nothing_found(), pictures::bare(), pictures::empty()]
    {
        let html = stillwatch_report::render(&picture).unwrap();
        let page = read(&html);

        assert_eq!(page.scripts.len(), 2, "one library and one script of the page's own");
        assert!(page.scripts[0].contains("plotly.js v"));
        assert!(page.links.iter().all(|link| link.starts_with('#')), "{:?}", page.links);
        for link in &page.links {
            assert!(page.ids.contains(&link[1..].to_owned()), "{link} leads nowhere");
        }
        let unique: BTreeSet<_> = page.ids.iter().collect();
        assert_eq!(unique.len(), page.ids.len());

        assert_eq!(page.headings[0], 1);
        for pair in page.headings.windows(2) {
            assert!(pair[1] > 1 && pair[1] <= pair[0] + 1, "a level is skipped: {pair:?}");
        }
        assert_eq!(page.alternatives.len(), page.data.len());
        assert!(page.alternatives.iter().all(|words| words.len() > 20), "{:?}", page.alternatives);
        for data in &page.data {
            let figure: serde_json::Value = serde_json::from_str(data).unwrap();
            for trace in figure["data"].as_array().unwrap() {
                assert!(["scatter", "bar"].contains(&trace["type"].as_str().unwrap()));
            }
        }
    }
}

#[test]
fn every_colour_of_the_charts_has_its_rule_in_the_style_sheet() {
    let html = stillwatch_report::render(&pictures::rich()).unwrap();
    let page = read(&html);
    let mut colours = BTreeSet::new();
    for data in &page.data {
        colours.extend(data.match_indices("\"#").map(|(i, _)| data[i + 2..i + 8].to_owned()));
    }
    assert!(colours.len() >= 8, "{colours:?}");
    for colour in colours {
        let part = |i: usize| u8::from_str_radix(&colour[i..i + 2], 16).unwrap();
        let rgb = format!("rgb({}, {}, {})", part(0), part(2), part(4));
        for property in ["fill", "stroke"] {
            let rule = format!(".chart [style*=\"{property}: {rgb}\"] {{ {property}: var(--");
            assert!(html.contains(&rule), "#{colour} has no rule for {property}");
        }
    }
}

#[test]
fn what_is_too_much_is_left_out_and_said() {
    let mut picture = pictures::rich();
    picture.crowd.groups = (0..50_000_u32)
        .map(|i| GroupDot {
            stratum: format!("stratum {}", i % 100),
            accounts: 5,
            score: f64::from(i % 97),
            campaign_id: None,
        })
        .collect();
    picture.run.problems = (0..1_000).map(|i| format!("problem {i}")).collect();
    let campaign = &mut picture.campaigns[0];
    campaign.traffic = Series {
        name: String::new(),
        start: campaign.traffic.start,
        width_us: 1_000_000,
        counts: vec![1.0; 100_000],
    };
    campaign.graph.nodes = (0..5_000)
        .map(|i| GraphNode {
            label: format!("account {i}"),
            kind: "account".to_owned(),
            x: 0.5,
            y: 0.5,
            size: 1.0,
        })
        .collect();
    campaign.graph.edges = vec![(0, 1); 50_000];
    campaign.graph.accounts_left_out = 100;
    campaign.networks = (0..500).map(|i| Share { name: format!("AS{i}"), share: 0.002 }).collect();
    campaign.excerpts = vec!["x".repeat(100_000); 200];
    let html = stillwatch_report::render(&picture).unwrap();
    assert!(html.len() < 9_000_000, "{} bytes", html.len());
    let text = read(&html).text;
    for said in [
        "33,333 dots are left out of the drawing",
        "and 800 more",
        "100,000 exchanges in the time drawn",
        "3,600 more accounts are left out",
        "and 488 more with 97.6 % together",
        "150 more are left out.",
    ] {
        assert!(text.contains(said), "not said: {said}");
    }
}

#[test]
fn broken_figures_break_nothing() {
    for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, -1.0, 0.0, f64::MIN_POSITIVE]
    {
        for time in [Time(0), Time(i64::MIN), Time(i64::MAX)] {
            let mut picture = pictures::rich();
            picture.run.last_seen = time;
            picture.run.level = odd;
            picture.crowd.traffic.start = time;
            picture.crowd.groups.iter_mut().step_by(3).for_each(|g| g.score = odd);
            for campaign in &mut picture.campaigns {
                campaign.finding.cost_usd = odd;
                campaign.finding.evidence_value = Some(odd);
                campaign.finding.first_detectable = time;
                (campaign.finding.first_seen, campaign.finding.accounts) = (time, 0);
                (campaign.traffic.width_us, campaign.harvest.start) = (time.0, time);
                campaign.volumes = vec![odd; 3];
                campaign.hours_members = vec![odd; 24];
                campaign.graph.edges.push((u32::MAX, 0));
                campaign.graph.nodes[..]
                    .iter_mut()
                    .step_by(5)
                    .for_each(|n| (n.x, n.size) = (odd, odd));
                campaign.countries.iter_mut().for_each(|s| s.share = odd);
                campaign.marks.push((time, "odd".to_owned()));
                for evidence in &mut campaign.evidence {
                    evidence.value = odd;
                    evidence.strength = odd;
                    evidence.references.iter_mut().step_by(2).for_each(|r| *r = odd);
                }
            }
            let page = page_of(&picture);
            assert!(page.text.contains("What was read"));
            for data in &page.data {
                serde_json::from_str::<serde_json::Value>(data).unwrap();
            }
        }
    }
}

/// Text that tries to be something else.
fn hostile_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("</script><script>alert(1)</script>".to_owned()),
        Just("<!--<script>".to_owned()),
        Just("-->".to_owned()),
        Just("\"><img src=x onerror=alert(1)>".to_owned()),
        Just("' onmouseover='alert(1)".to_owned()),
        Just("</style></title></textarea>".to_owned()),
        Just("&lt;b&gt;&amp;&#x3c;".to_owned()),
        Just("<a href=\"javascript:alert(1)\">x</a>".to_owned()),
        Just("{{ run.version }}{% raw %}".to_owned()),
        Just("\u{2028}\u{2029}\u{202e}\0\r\n".to_owned()),
        Just("\\u003cscript\\u003e\\".to_owned()),
        "\\PC{0,12}",
    ];
    prop::collection::vec(piece, 1..5).prop_map(|pieces| format!("x{}", pieces.concat()))
}

proptest! {
    // Each case makes two pages of five megabytes.
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn text_from_the_data_stays_text(text in hostile_text()) {
        let plain = page_of(&pictures::hostile("x"));
        let page = page_of(&pictures::hostile(&text));
        prop_assert_eq!(&page.skeleton, &plain.skeleton);
        prop_assert_eq!(&page.ids, &plain.ids);
        prop_assert_eq!(&page.links, &plain.links);
        prop_assert_eq!(&page.scripts, &plain.scripts);
        for data in &page.data {
            let figure: serde_json::Value = serde_json::from_str(data).unwrap();
            no_markup_in_labels(&figure);
        }
    }
}

/// Plotly reads a few tags in labels; all that are ours are `<b>`, `<br>` and `<extra>`.
fn no_markup_in_labels(value: &serde_json::Value) {
    match value {
        serde_json::Value::String(text) => {
            let mut rest = text.clone();
            for ours in ["<b>", "</b>", "<br>", "<extra>", "</extra>"] {
                rest = rest.replace(ours, "");
            }
            assert!(!rest.contains(['<', '>']), "{text}");
        }
        serde_json::Value::Array(values) => values.iter().for_each(no_markup_in_labels),
        serde_json::Value::Object(fields) => fields.values().for_each(no_markup_in_labels),
        _ => {}
    }
}
