//! Scans over all records of a selection: the interface between the statistics and the records.

use crate::selection::batch::Batch;
use crate::{Progress, Result};

/// Records that can be streamed as often as it takes. With `rowless`, batches may come without row numbers.
pub trait Scan: Sync {
    /// Streams the records through `visit`, each thread over a contiguous part with its own state; returns the states
    /// in the order of the records.
    fn fold<A: Send>(
        &self,
        rowless: bool,
        progress: &Progress,
        start: impl Fn() -> A + Sync,
        visit: impl Fn(&mut A, &Batch) -> Result<()> + Sync,
    ) -> Result<Vec<A>>;

    /// Streams all records through `visit`, in row order.
    fn all(
        &self,
        rowless: bool,
        progress: &Progress,
        visit: &mut dyn FnMut(&Batch) -> Result<()>,
    ) -> Result<()>;
}
