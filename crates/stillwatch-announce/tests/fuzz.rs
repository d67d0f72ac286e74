//! Whatever stands where a key or a ledger should, nothing panics.

use stillwatch_announce::{Key, Ledger};

#[test]
fn keys() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let _ = Key::parse(&String::from_utf8_lossy(bytes));
        let _ = Key::parse(&format!("whsec_{}", String::from_utf8_lossy(bytes)));
    });
}

#[test]
fn ledgers() {
    bolero::check!().for_each(|bytes: &[u8]| {
        if let Ok(mut ledger) = serde_json::from_slice::<Ledger>(bytes) {
            ledger.look(stillwatch_exchange::Time(0), &[], &[]);
        }
    });
}
