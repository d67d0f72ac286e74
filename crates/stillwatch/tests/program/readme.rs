//! The README's commands are the ones that are tested.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The commands of the README that call cargo, each once, in order.
fn commands() -> Vec<String> {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let mut commands: Vec<String> = Vec::new();
    for line in readme.lines() {
        let line = line.trim().trim_start_matches("$ ");
        if line.starts_with("cargo ") && !commands.iter().any(|known| known == line) {
            commands.push(line.to_owned());
        }
    }
    commands
}

#[test]
fn two_commands_do_it() {
    assert_eq!(commands(), ["cargo run --release -- demo", "cargo test --release --workspace"]);
}

#[test]
fn ci_runs_exactly_the_test_command() {
    let script = fs::read_to_string(root().join(".ci/run")).unwrap();
    let test = commands().pop().unwrap();
    assert!(script.lines().any(|line| line.trim() == test), ".ci/run has no line that is `{test}`");
}

#[test]
fn every_file_that_is_linked_to_exists() {
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = [root().join("README.md"), root().join("ARCHITECTURE.md")].into_iter();
    let is_page = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "md");
    for page in pages.chain(docs).filter(is_page) {
        let text = fs::read_to_string(&page).unwrap();
        let (folder, page_file, page) = (page.parent().unwrap(), &page, page.display());
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://")) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let linked = if file.is_empty() { page_file.clone() } else { folder.join(file) };
            assert!(linked.exists(), "{page} links to {link}");
            assert!(
                heading.is_empty()
                    || headings(&fs::read_to_string(linked).unwrap()).any(|one| one == heading),
                "{page} links to {link}, and there is no such heading"
            );
        }
    }
}

/// The anchors of a page: those that it names, and those of its headings, as they are made
/// of them where Markdown is shown.
fn headings(page: &str) -> impl Iterator<Item = String> + '_ {
    let named = page.split("<a id=\"").skip(1).filter_map(|rest| rest.split('"').next());
    let headings = page.lines().filter(|line| line.starts_with('#')).map(|line| {
        line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-").replace('`', "")
    });
    named.map(str::to_owned).chain(headings)
}
