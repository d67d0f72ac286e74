//! Observe: one exchange becomes [`Traits`], and its text a keyed [`Sketch`].

mod lexicon;
mod sketch;
mod text;
mod traits;

pub use lexicon::{Asks, CAPABILITIES, Capability};
pub use sketch::{Key, SKETCH_BYTES, Sketch, SketchError};
pub use text::{BANDS, TOPIC_BUCKETS, topic_similarity};
pub use traits::{
    Facts, Flags, GLANCE_BYTES, Glance, Link, Observer, Prompt, TRAITS_BYTES, Traits, TraitsError,
    asks_for_reasoning, is_truncation,
};
