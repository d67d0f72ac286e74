//! The same world gives the same findings, byte for byte, however it is stored.

use std::fs;
use std::path::Path;

use arrow::array::UInt32Array;
use arrow::compute::take_record_batch;

use crate::setting::{folder, hunt_world, parts, rows, run, text, world, write_rows};

fn campaigns(out: &Path) -> String {
    fs::read_to_string(out.join("campaigns.json")).unwrap()
}

/// The findings of the world as it was simulated.
fn plain(folder: &Path) -> String {
    let out = folder.join("plain");
    hunt_world(world(), &world().join("exchanges"), &out).succeeded();
    campaigns(&out)
}

#[test]
fn the_same_files_hunted_twice() {
    let folder = folder();
    let once = plain(folder.path());
    let out = folder.path().join("again");
    let exchanges = world().join("exchanges");
    let (accounts, releases) = (world().join("accounts.parquet"), world().join("releases.parquet"));
    run(&[
        "hunt",
        "--exchanges",
        text(&exchanges),
        "--accounts",
        text(&accounts),
        "--releases",
        text(&releases),
        "--out",
        text(&out),
        "--threads",
        "5",
    ])
    .succeeded();
    assert_eq!(campaigns(&out), once, "with another number of threads");
    for file in ["members.parquet", "harvest.parquet"] {
        let [a, b] = ["plain", "again"].map(|name| folder.path().join(name).join(file));
        assert!(fs::read(a).unwrap() == fs::read(b).unwrap(), "{file}");
    }
}

#[test]
fn files_split_reordered_and_renamed() {
    let folder = folder();
    let once = plain(folder.path());
    let other = folder.path().join("other");
    fs::create_dir_all(other.join("below")).unwrap();
    let all = rows(&parts(&world().join("exchanges")));

    // A fixed walk through all rows: its step and their number have no divisor in common.
    let count = all.num_rows() as u32;
    let step = (7_919..).find(|step| gcd(*step, count) == 1).unwrap();
    let order = UInt32Array::from_iter_values(
        (0..count).map(|i| (u64::from(i) * u64::from(step) % u64::from(count)) as u32),
    );
    let mixed = take_record_batch(&all, &order).unwrap();
    let (first, second) = (mixed.num_rows() / 7, mixed.num_rows() / 2);
    write_rows(&other.join("z.parquet"), &mixed.slice(0, first), 1_000);
    write_rows(&other.join("below").join("m.data"), &mixed.slice(first, second - first), 9_999);
    write_rows(&other.join("a.parquet"), &mixed.slice(second, mixed.num_rows() - second), 500_000);

    let out = folder.path().join("mixed");
    hunt_world(world(), &other, &out).succeeded();
    assert_eq!(campaigns(&out), once);
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[test]
fn sketches_in_place_of_the_text() {
    let folder = folder();
    let key = folder.path().join("key");
    fs::write(&key, "a secret that is long enough").unwrap();
    let exchanges = world().join("exchanges");
    let sketches = folder.path().join("sketches");
    run(&[
        "sketch",
        "--exchanges",
        text(&exchanges),
        "--out",
        text(&sketches),
        "--key-file",
        text(&key),
    ])
    .succeeded();

    let sketched = rows(&parts(&sketches));
    assert_eq!(sketched.num_rows(), rows(&parts(&exchanges)).num_rows());
    for text in ["prompt", "system_instructions"] {
        assert!(sketched.column_by_name(text).is_none(), "{text} is still there");
    }
    for filled in ["prompt_sketch", "exchange_id"] {
        assert_eq!(sketched.column_by_name(filled).unwrap().null_count(), 0, "{filled}");
    }

    let found = |exchanges: &Path, name: &str| {
        let out = folder.path().join(name);
        let accounts = world().join("accounts.parquet");
        run(&[
            "hunt",
            "--exchanges",
            text(exchanges),
            "--accounts",
            text(&accounts),
            "--out",
            text(&out),
            "--key-file",
            text(&key),
        ])
        .succeeded();
        campaigns(&out)
    };
    assert_eq!(found(&sketches, "of sketches"), found(&exchanges, "of text"));
}

#[test]
fn sketches_made_again_are_the_same_and_their_input_is_safe() {
    let folder = folder();
    let exchanges = world().join("exchanges");
    let [one, two] = ["one", "two"].map(|name| folder.path().join(name));
    let ran = run(&["sketch", "--exchanges", text(&exchanges), "--out", text(&one)]).succeeded();
    assert!(ran.stderr.contains("the key is public"), "{}", ran.stderr);
    fs::create_dir(&two).unwrap();
    fs::write(two.join("sketch-00007.parquet"), "of an earlier, larger run").unwrap();
    let threads = ["--threads", "3"];
    let arguments = ["sketch", "--exchanges", text(&exchanges), "--out", text(&two)];
    run(&[&arguments[..], &threads[..]].concat()).succeeded();
    let bytes = |folder: &Path| -> Vec<Vec<u8>> {
        parts(folder).iter().map(|path| fs::read(path).unwrap()).collect()
    };
    assert!(bytes(&one) == bytes(&two));

    run(&["sketch", "--exchanges", text(&one), "--out", text(&one)])
        .failed(2, &["lies in", "another folder"]);
    assert!(bytes(&one) == bytes(&two));
}
