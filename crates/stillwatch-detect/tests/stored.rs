//! Stored forms: the sketch's layout is fixed, and no bytes make a reader panic.
//!
//! The fuzz targets run for a second each as ordinary tests. For longer:
//! `BOLERO_RANDOM_TEST_TIME_MS=600000 cargo test --release --workspace --test stored TARGET`.

use std::fmt::Write;

use stillwatch_detect::calendar::{Calendar, Grid};
use stillwatch_detect::observe::{Glance, Key, Observer, Sketch, Traits};
use stillwatch_detect::piece::{Piece, releases_near};
use stillwatch_detect::profile::Profile;
use stillwatch_exchange::{Exchange, Time};

const PROMPTS: &[(&str, Option<&str>)] = &[
    ("", None),
    ("hi", Some("You are brief.")),
    (
        "Grade the answer below against the rubric and give a score for each criterion: \"It is 42.\"",
        Some("You are a strict examiner. Today is 2026-03-02."),
    ),
    ("请一步一步推理并解释你的思考：患者出现症状应该如何治疗？", None),
    (
        "Fix this:\n```rust\nfn main() { println!(\"{}\", 1 / 0); }\n```\nand explain order 66 of user_9.",
        None,
    ),
];

/// A change here is a change of the stored format: it needs another version.
#[test]
fn the_sketch_is_stored_as_in_the_golden_file() {
    let key = Key::derive(b"golden");
    let mut told = String::new();
    for (prompt, system) in PROMPTS {
        let exchange =
            Exchange { prompt: Some(prompt), system_instructions: *system, ..Exchange::default() };
        told.push_str(&hex(&Observer::new(key).sketch(&exchange).unwrap().to_bytes(&key)));
        told.push('\n');
    }
    let golden = include_str!("golden/sketch_v1.txt");
    assert_eq!(told, golden, "\nwritten now:\n{told}");
    for line in golden.lines() {
        let bytes: Vec<u8> = (0..line.len() / 2)
            .map(|i| u8::from_str_radix(&line[2 * i..2 * i + 2], 16).unwrap())
            .collect();
        let sketch = Sketch::from_bytes(&bytes, &key).unwrap();
        assert_eq!(sketch.to_bytes(&key).as_slice(), bytes);
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut told = String::new();
    for byte in bytes {
        write!(told, "{byte:02x}").unwrap();
    }
    told
}

/// A piece with all of [`PROMPTS`], a release among them.
fn piece() -> Piece {
    let grid = Grid::new(86_400_000_000).unwrap();
    let start = grid.start(20_000).0;
    let mut observer = Observer::new(Key::derive(b"golden"));
    let released = [(Time(start + 30_000_000_000), observer.model("model-2"))];
    let near = releases_near(grid, 20_000, &released);
    let mut piece = Piece::default();
    for (i, (prompt, system)) in PROMPTS.iter().enumerate() {
        let traits = observer.observe(&Exchange {
            time: Time(start + i as i64 * 17_000_000_000),
            account_id: "a",
            prompt: Some(prompt),
            system_instructions: *system,
            client_address: Some("203.0.113.7"),
            request_model: Some("model-2"),
            usage_output_tokens: Some(70 * i as u32),
            ..Exchange::default()
        });
        piece.add(&Glance::of(&traits, 1), grid, &near);
    }
    piece
}

/// A change here is a change of the form in which a watch keeps its state: it needs
/// another version of the state.
#[test]
fn a_piece_is_stored_as_in_the_golden_file() {
    let mut bytes = Vec::new();
    piece().write(&mut bytes);
    let told = format!("{}\n", hex(&bytes));
    let golden = include_str!("golden/piece_v2.txt");
    assert_eq!(told, golden, "\nwritten now:\n{told}");
    assert_eq!(Piece::read(&bytes), Ok(piece()));
}

#[test]
fn fuzz_piece() {
    let sample = piece();
    let mut stored = Vec::new();
    sample.write(&mut stored);
    bolero::check!().with_type::<(Vec<u8>, Vec<(u16, u8)>)>().for_each(|(bytes, changes)| {
        let _ = Piece::read(bytes);
        let mut changed = stored.clone();
        for &(at, value) in changes {
            let at = usize::from(at) % changed.len();
            changed[at] = value;
        }
        if let Ok(piece) = Piece::read(&changed) {
            let mut again = Vec::new();
            piece.write(&mut again);
            assert_eq!(Piece::read(&again), Ok(piece.clone()));
            let mut sum = piece.clone();
            sum.merge(&piece);
            sum.merge(&sample);
            assert!(sum.size_bytes() < 2048, "{}", sum.size_bytes());
        }
    });
}

#[test]
fn fuzz_sketch() {
    let key = Key::public();
    bolero::check!().with_type::<Vec<u8>>().for_each(|bytes| {
        // As they are, and with a beginning that lets the rest be read.
        let _ = Sketch::from_bytes(bytes, &key);
        let mut valid = Sketch::default().to_bytes(&key);
        for (to, from) in valid[5..].iter_mut().zip(bytes) {
            *to = *from;
        }
        let sketch = Sketch::from_bytes(&valid, &key).unwrap();
        assert_eq!(Sketch::from_bytes(&sketch.to_bytes(&key), &key), Ok(sketch));
    });
}

#[test]
fn fuzz_traits() {
    bolero::check!().with_type::<Vec<u8>>().for_each(|bytes| {
        let mut whole = Traits::default().to_bytes();
        for (to, from) in whole.iter_mut().zip(bytes) {
            *to = *from;
        }
        let traits = Traits::from_bytes(&whole).unwrap();
        assert_eq!(Traits::from_bytes(&traits.to_bytes()), Ok(traits));
        assert!(bytes.len() == whole.len() || Traits::from_bytes(bytes).is_err());
        // Any traits at all can be added to a profile.
        let calendar = Calendar::new(Time(0), Time(i64::MAX / 4), &[(Time(5), 7)]);
        let mut profile = Profile::default();
        profile.add(&traits, 1, &calendar);
        profile.add(&traits, 1, &calendar);
    });
}

#[test]
fn fuzz_profile() {
    let calendar = Calendar::new(Time(0), Time(86_400_000_000), &[]);
    let mut sample = Profile::default();
    for (i, (prompt, system)) in PROMPTS.iter().enumerate() {
        let exchange = Exchange {
            time: Time(i as i64 * 20_000_000_000),
            account_id: "a",
            prompt: Some(prompt),
            system_instructions: *system,
            client_address: Some("203.0.113.7"),
            ..Exchange::default()
        };
        sample.add(&Observer::new(Key::public()).observe(&exchange), 1, &calendar);
    }
    let mut stored = Vec::new();
    sample.write(&mut stored);
    bolero::check!().with_type::<(Vec<u8>, Vec<(u16, u8)>)>().for_each(|(bytes, changes)| {
        let _ = Profile::read(bytes);
        let mut changed = stored.clone();
        for &(at, value) in changes {
            let at = usize::from(at) % changed.len();
            changed[at] = value;
        }
        if let Ok(profile) = Profile::read(&changed) {
            let mut again = Vec::new();
            profile.write(&mut again);
            assert_eq!(again, changed);
            let mut sum = profile.clone();
            sum.merge(&profile);
            sum.merge(&sample);
            assert!(sum.size_bytes() < 4096 + 512, "{}", sum.size_bytes());
        }
    });
}

#[test]
fn fuzz_prompt() {
    let mut observer = Observer::new(Key::public());
    bolero::check!().with_type::<(String, Option<String>)>().for_each(|(prompt, system)| {
        let exchange = Exchange {
            prompt: Some(prompt),
            system_instructions: system.as_deref(),
            ..Exchange::default()
        };
        let traits = observer.observe(&exchange);
        assert_eq!(Traits::from_bytes(&traits.to_bytes()), Ok(traits));
    });
}
