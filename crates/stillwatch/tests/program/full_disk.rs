//! A disk that is full: it is said, service goes on where it can, what was acknowledged is not
//! lost, and nothing is there twice once there is room again.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::guard::{Guard, Model, ask, recorded};
use crate::nats::verdicts::{administration, guard};
use crate::receive::{export, is_taken};
use crate::setting::{Ran, folder, hunt, hunt_world, names, run, stillwatch, text, world};
use crate::watch::{all_lines, arguments, assert_same, of_the_month};

const FULL: &str = "No space left on device";

/// A small disk of the test's own: a tmpfs in a namespace, whose root a descriptor of this
/// process holds. Whoever is of the same user gets there by the descriptor's path.
struct Disk {
    holder: Child,
    path: PathBuf,
    _root: File,
    place: TempDir,
}

impl Disk {
    /// None where it can't be mounted.
    fn of(kib: u32) -> Option<Self> {
        let place = folder();
        let script = "mount -t tmpfs -o size=\"$1\"k none \"$2\" && echo ready && exec cat";
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]);
        command.args([&kib.to_string(), text(place.path())]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let skipped = || eprintln!("skipped: this user can't mount a small disk here");
        let mut holder = command.spawn().inspect_err(|_| skipped()).ok()?;
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let root = format!("/proc/{}/root{}", holder.id(), place.path().display());
        let Some(root) = (line == "ready\n").then(|| File::open(root).ok()).flatten() else {
            skipped();
            let _ = holder.kill();
            let _ = holder.wait();
            return None;
        };
        let path = format!("/proc/{}/fd/{}", std::process::id(), root.as_raw_fd());
        Some(Disk { holder, path: path.into(), _root: root, place })
    }

    /// The program where this disk is mounted, with a place on it by its real name.
    fn watch(&self, exchanges: &str, more: &[&str]) -> Command {
        let arguments = arguments(exchanges, self.place.path(), more);
        let mut command = Command::new("nsenter");
        command.args(["--preserve-credentials", "--user", "--mount", "--target"]);
        command.arg(self.holder.id().to_string());
        command.arg(env!("CARGO_BIN_EXE_stillwatch")).args(arguments);
        command
    }

    /// Fills it but for so much.
    fn fill(&self, but_kib: u64) {
        let path = self.path.join("fill");
        let mut file = File::create(&path).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        let length = file.metadata().unwrap().len();
        file.set_len(length.saturating_sub(but_kib << 10)).unwrap();
    }

    fn free(&self) {
        fs::remove_file(self.path.join("fill")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Asks a guard; every exchange is answered.
fn ask_for(guard: &Guard, stage: &str) -> Vec<String> {
    let mut stream = TcpStream::connect(guard.address).unwrap();
    let prompts = (0..20).map(|turn| format!("{stage} {turn} {}", "and so on ".repeat(200)));
    let prompts: Vec<String> = prompts.collect();
    for prompt in &prompts {
        assert!(ask(&mut stream, prompt).is_some(), "traffic goes on");
    }
    prompts
}

/// Each prompt is on record once.
#[track_caller]
fn assert_recorded(state: &Path, prompts: &[String]) {
    let records = recorded(state);
    assert!(prompts.iter().all(|prompt| records.get(prompt) == Some(&1)), "{records:?}");
    assert_eq!(records.len(), prompts.len());
}

#[test]
fn a_guard_goes_on_and_records_all_of_it_once_there_is_room() {
    let Some(disk) = Disk::of(2048) else { return };
    let model = Model::start();
    let state = disk.path.join("state");
    let (mut guard, address) = guard(&model, &state, &[]);
    let mut prompts = ask_for(&guard, "before");
    disk.fill(0);
    let said = guard.says("records are not safe: cannot write ");
    assert!(said.contains(FULL), "{said}");
    // So long that it is tried again some times.
    thread::sleep(Duration::from_secs(3));
    assert!(names(&state.join("journal")).iter().all(|name| name.ends_with(".journal")));
    prompts.extend(ask_for(&guard, "meanwhile"));
    let (status, why) = administration(&address, "/readyz");
    assert!(status == 503 && why.contains(FULL), "{status} {why}");
    disk.free();
    guard.says("records are safe again");
    assert_eq!(administration(&address, "/readyz").0, 200);
    let (_, metrics) = administration(&address, "/metrics");
    assert!(metrics.contains("stillwatch_guard_records_lost 0\n"), "{metrics}");
    prompts.extend(ask_for(&guard, "after"));
    guard.signal("-TERM");
    let (status, said) = guard.ended();
    assert!(status.success(), "{said}");
    assert_recorded(&state, &prompts);
}

#[test]
fn a_guard_that_ends_on_a_full_disk_says_what_is_lost_and_keeps_the_rest() {
    let Some(disk) = Disk::of(2048) else { return };
    let model = Model::start();
    let state = disk.path.join("state");
    let (mut running, _) = guard(&model, &state, &[]);
    let mut prompts = ask_for(&running, "before");
    disk.fill(0);
    running.says("records are not safe: cannot write ");
    let lost = ask_for(&running, "meanwhile");
    running.signal("-TERM");
    let (status, said) = running.ended();
    assert_eq!(status.code(), Some(1), "{said}");
    let line = said.lines().find(|line| line.contains("lines of the journal")).unwrap();
    let count: usize = line.split(' ').find_map(|word| word.parse().ok()).unwrap();
    assert!(line.ends_with("are lost") && count > lost.len(), "{line}");
    assert!(said.contains(FULL), "{said}");

    // A full disk is no place to begin either.
    let other = disk.path.join("other");
    let start = |state: &Path| -> Ran {
        let mut command = stillwatch(&["guard", "--listen", "127.0.0.1:0"]);
        command.args(["--admin", "127.0.0.1:0", "--upstream", "http://x", "--state", text(state)]);
        command.env_remove("STILLWATCH_ADMIN_KEY").output().unwrap().into()
    };
    start(&other).failed(1, &["cannot write", "admin.key", FULL]);
    assert!(!other.join("admin.key").exists(), "half a key would be taken for one");
    start(&state).failed(1, &["cannot write", FULL]);

    disk.free();
    let again = Guard::start(&model, &state, &[]);
    prompts.extend(ask_for(&again, "after"));
    again.signal("-TERM");
    assert!(again.ended().0.success());
    let records = recorded(&state);
    assert!(prompts.iter().all(|prompt| records.get(prompt) == Some(&1)), "{records:?}");
    assert!(records.values().all(|count| *count == 1), "{records:?}");
}

#[test]
fn a_hunt_says_it_and_leaves_the_findings_that_were_there() {
    let Some(disk) = Disk::of(32 << 10) else { return };
    let out = disk.path.join("found");
    let again = || hunt_world(world(), &world().join("exchanges"), &out);
    again().succeeded();
    let there = || -> Vec<_> {
        names(&out).into_iter().map(|name| (fs::read(out.join(&name)).unwrap(), name)).collect()
    };
    let before = there();
    for room_kib in [0, 4, 64, 1024] {
        disk.fill(room_kib);
        again().failed(1, &[FULL, text(&out)]);
        assert!(there() == before, "{:?}", names(&out));
        disk.free();
    }
    again().succeeded();
    let of_runs = ["run.json", "report.html"];
    for ((one, name), (other, _)) in before.iter().zip(there()) {
        assert!(*one == other || of_runs.contains(&name.as_str()), "{name}");
    }
}

#[test]
fn what_is_made_anew_is_not_left_half() {
    let Some(disk) = Disk::of(1024) else { return };
    let (exchanges, at) = (world().join("exchanges"), |name: &str| disk.path.join(name));
    // The report alone is larger than the disk.
    hunt(&[&exchanges], &at("findings")).failed(1, &[FULL]);
    assert!(!at("findings").exists(), "{:?}", names(&at("findings")));
    run(&["sketch", "--exchanges", text(&exchanges), "--out", text(&at("sketches"))])
        .failed(1, &[FULL, "sketches"]);
    assert!(!at("sketches").exists());
    run(&["simulate", "--seed", "1", "--out", text(&at("world")), "--exchanges", "200000"])
        .failed(1, &[FULL]);
    assert!(!at("world").exists());
}

#[test]
fn a_watch_says_it_and_counts_each_exchange_once_when_there_is_room() {
    let Some(disk) = Disk::of(64 << 10) else { return };
    let exchanges = world().join("exchanges");
    let more = ["--once", "--look-every", "7d", "--quiet"];
    let watch = || -> Ran { disk.watch(text(&exchanges), &more).output().unwrap().into() };
    for room_kib in [0, 16, 512, 2 << 10, 8 << 10] {
        disk.fill(room_kib);
        let ran = watch().failed(1, &[FULL]);
        assert!(!ran.stderr.contains("Move the folder away"), "it is whole: {}", ran.stderr);
        disk.free();
    }
    let ran = watch().succeeded();
    let count = format!("Counted {} exchanges in all", commas(all_lines().len()));
    assert!(ran.stdout.contains(&count), "{count}: {}", ran.stdout);
    assert_same(&disk.path.join("found"), of_the_month());
}

fn commas(number: usize) -> String {
    format!("{},{:03}", number / 1000, number % 1000)
}

#[test]
fn a_receiver_has_what_it_can_not_write_sent_again() {
    let Some(disk) = Disk::of(16 << 10) else { return };
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let source = format!("otlp-http://{address}");
    let start = || {
        let mut command = disk.watch(&source, &[]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stderr.take().unwrap());
        while TcpStream::connect(address).is_err() {
            assert!(child.try_wait().unwrap().is_none(), "it never listened");
            thread::sleep(Duration::from_millis(20));
        }
        (child, said)
    };
    let (mut watching, mut said) = start();
    // What it has not counted yet when the disk is full may end it.
    thread::sleep(Duration::from_secs(1));
    disk.fill(0);
    let refused = (0..40).filter(|batch| !is_taken(address, &export(*batch))).count();
    assert!(refused > 20, "{refused} of 40 are refused");
    let mut line = String::new();
    while !line.contains(FULL) {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "it never said so");
    }
    disk.free();
    if let Some(status) = watching.try_wait().unwrap() {
        assert_eq!(status.code(), Some(1));
        (watching, _) = start();
    }
    // A sender sends again what was not taken; here all of it.
    assert!((0..40).all(|batch| is_taken(address, &export(batch))));
    let _ = watching.kill();
    watching.wait().unwrap();
    let nothing = folder();
    let all = disk.watch(text(nothing.path()), &["--once", "--quiet"]).output().unwrap();
    let all = Ran::from(all).succeeded();
    assert!(all.stdout.contains("Counted 800 exchanges in all"), "{}", all.stdout);
}
