//! `demo --live`: a small world played through a guard and a watch to its end.

use std::fs;

use crate::setting::{folder, names, parts, rows, run, stillwatch, text};

/// The numbers in a line of the summary, in order.
fn numbers(line: &str) -> Vec<u64> {
    let digits = line.replace(',', "");
    let words = digits.split(|c: char| !c.is_ascii_digit() && c != '.');
    words.filter_map(|word| word.parse().ok()).collect()
}

#[test]
fn the_harvest_falls_and_the_crowd_notices_nothing() {
    let folder = folder();
    let out = folder.path().join("demo");
    let arguments = ["demo", "--live", "--exchanges", "60000", "--seed", "8", "--out", text(&out)];
    let ran = run(&arguments).succeeded();
    let line = |begins: &str| {
        let found = ran.stdout.lines().find(|line| line.starts_with(begins));
        found.unwrap_or_else(|| panic!("no line begins with {begins}: {}", ran.stdout))
    };
    let exchanges = numbers(line("28 days"))[2];
    assert!(exchanges > 55_000, "{exchanges}");
    let campaign = line("slow_drip: found 2026-03-");
    let after_date = campaign.split_once(", ").unwrap().1;
    let [named, accounts, got_before, asked_before, got, asked] = numbers(after_date)[..6] else {
        panic!("{campaign}");
    };
    assert_eq!(named, accounts, "{campaign}");
    assert_eq!(got_before, asked_before, "{campaign}");
    assert!(asked > 100 && got * 2 < asked, "{campaign}");
    let crowd = line("crowd: ");
    assert!(crowd.ends_with(" 0 refused, 0 changed, 0 accounts ever named"), "{crowd}");
    let crowd = numbers(crowd)[1];
    assert!(crowd < exchanges && crowd > 50_000, "{crowd}");

    // Every exchange has its record, in files that a hunt reads.
    let records = rows(&parts(&out.join("guard").join("records")));
    assert_eq!(records.num_rows() as u64, exchanges);
    let campaigns = fs::read_to_string(out.join("findings").join("campaigns.json")).unwrap();
    assert!(campaigns.contains("\"distillation\""), "{campaigns}");
    assert!(names(&out.join("findings")).contains(&"report.html".to_owned()));
}

#[test]
#[cfg(unix)]
fn told_to_end_it_says_how_far_it_came() {
    let folder = folder();
    let out = folder.path().join("demo");
    let mut command = stillwatch(&["demo", "--live", "--out", text(&out)]);
    let child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    // Once records are there it is under way.
    let records = out.join("guard").join("records");
    while !records.is_dir() || names(&records).is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let told = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(told.unwrap().success());
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stdout).unwrap();
    assert!(ended.status.success(), "{said}");
    assert!(said.contains("crowd: "), "{said}");
}
