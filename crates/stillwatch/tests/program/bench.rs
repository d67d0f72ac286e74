//! `bench guard`: the contestants start, are asked, and are told of.

use crate::setting::{folder, names, run, text};

#[test]
fn proxies_are_measured_beside_each_other() {
    if !std::path::Path::new("/proc/self/stat").exists() {
        eprintln!("skipped: CPU and memory of processes are read from /proc");
        return;
    }
    let folder = folder();
    let dir = folder.path().join("bench");
    let small = ["bench", "guard", "--exchanges", "1000", "--rounds", "1", "--dir", text(&dir)];
    let printed = run(&[&small[..], &["--keep"]].concat()).succeeded().stdout;
    for (name, own) in [("minimal hyper proxy", true), ("stillwatch guard", false)] {
        let row = printed.lines().find(|line| line.trim_start().starts_with(name)).unwrap();
        let cells: Vec<&str> = row.split("  ").map(str::trim).filter(|c| !c.is_empty()).collect();
        assert_eq!(cells.len(), 11, "{row}");
        assert_eq!(cells[2] == "1.00", own, "{row}");
        assert!(cells[10].ends_with("MiB"), "{row}");
    }
    // What went through the guard is on record there.
    assert!(names(&dir.join("state/journal")).len() + names(&dir.join("state/records")).len() > 0);

    run(&small).succeeded();
    assert!(!dir.exists(), "a bench clears its folder away");
    let foreign = folder.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("mine"), "").unwrap();
    let refused = run(&["bench", "guard", "--dir", text(&foreign)]);
    assert_eq!(refused.status, Some(2), "{}", refused.stderr);
}
