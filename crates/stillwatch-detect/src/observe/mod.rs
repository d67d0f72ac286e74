//! Observe: one exchange becomes [`Traits`], and its text a keyed [`Sketch`].

mod lexicon;
mod sketch;
mod text;
mod traits;

pub use lexicon::{Asks, CAPABILITIES, Capability};
pub use sketch::{Key, SKETCH_BYTES, Sketch, SketchError};
pub use text::{BANDS, TOPIC_BUCKETS, topic_similarity};
pub use traits::{Flags, Observer, TRAITS_BYTES, Traits, TraitsError};
