//! Several models side by side: models × prompts × settings × repeats, each asked once, within a cap.
//!
//! [`Grid`] says what is asked and [`Row`] what came of it; [`Comparison`] is the folder and the asking. Killed at any point, the next run asks what has no row, each item under the key it had before, so that nothing is
//! charged twice. Leaves to others: how it is shown (comity-cli).

mod folder;
mod grid;
mod prompts;
mod row;
mod run;

pub use folder::{CompareError, Comparison};
pub use grid::{Grid, Item, NotAGrid, Setting};
pub use prompts::{Message, NotPrompts, Prompt};
pub use row::{Missed, Row};
pub use run::{Bounds, Ended, Progress, Skipped};
