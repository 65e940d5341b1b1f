//! How much a fold may hold, and why that much.
//!
//! Every bound that has to make room does so in steps (from a maximum down to a lower mark), so that the price of
//! forgetting is spread over the bytes that made it necessary.

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The bounds of one fold. Only tests use other values than [`Limits::DEFAULT`].
#[derive(Debug)]
pub(super) struct Limits {
    /// Bytes kept of the start of a stream item.
    pub(super) head_bytes: usize,
    /// Bytes of finished lines a stream item may hold after its head before it is cut …
    pub(super) tail_bytes: usize,
    /// … down to this.
    pub(super) tail_keep_bytes: usize,
    /// Columns of a line; what is written beyond goes to the next line, as in a terminal.
    pub(super) line_columns: usize,
    /// Items kept from the start of a fold, as long as they weigh no more than `head_items_bytes`.
    pub(super) head_items: usize,
    pub(super) head_items_bytes: usize,
    /// Items and bytes a fold may hold before its middle is dropped …
    pub(super) items: usize,
    pub(super) bytes: usize,
    /// … down to these.
    pub(super) keep_items: usize,
    pub(super) keep_bytes: usize,
    /// Bytes of one value passed through from the kernel: a MIME bundle, metadata, a traceback.
    pub(super) value_bytes: usize,
    /// Output areas that may claim, or await a clear, at one time.
    pub(super) areas: usize,
    /// Bytes of a comm id, display id or stream name.
    pub(super) id_bytes: usize,
}

impl Limits {
    pub(super) const DEFAULT: Self = Self {
        // Together 1 MiB: far more than anyone scrolls, and a snapshot of a cell that printed for a week still
        // arrives at once. The end is what people look at, so it gets most.
        head_bytes: 256 * KIB,
        tail_bytes: 768 * KIB,
        tail_keep_bytes: 512 * KIB,
        // Not below head + tail: text that needs no cut must not be altered by a wrap either.
        line_columns: MIB,
        // More separate outputs than an editor renders without trouble; an alternation of stdout and stderr gets here.
        head_items: 1_000,
        items: 4_000,
        keep_items: 3_000,
        // The head and one item of the largest possible weight (an error: three values) must fit into `bytes`,
        // or dropping items would not always make room.
        head_items_bytes: 8 * MIB,
        bytes: 64 * MIB,
        keep_bytes: 40 * MIB,
        // A plotting library's inlined JavaScript is 5 MB, a data profiling report 10.
        value_bytes: 16 * MIB,
        // Nested `with output:` blocks are a handful deep; the comm ids of ipywidgets are 32 bytes long.
        areas: 1_024,
        id_bytes: KIB,
    };
}

/// Bounds small enough for a test to reach every one of them.
#[cfg(test)]
impl Limits {
    pub(super) const TINY: Self = Self {
        head_bytes: 24,
        tail_bytes: 48,
        tail_keep_bytes: 24,
        line_columns: 40,
        head_items: 2,
        head_items_bytes: 100,
        items: 8,
        bytes: 640,
        keep_items: 5,
        keep_bytes: 300,
        value_bytes: 120,
        areas: 3,
        id_bytes: 8,
    };
}

#[cfg(test)]
mod tests {
    use super::Limits;

    /// What the comments above rely on.
    #[test]
    fn limits_fit_each_other() {
        for limits in [Limits::DEFAULT, Limits::TINY] {
            assert!(limits.tail_keep_bytes < limits.tail_bytes);
            assert!(limits.head_items < limits.keep_items && limits.keep_items < limits.items);
            assert!(limits.keep_bytes < limits.bytes);
            assert!(limits.head_items_bytes + 3 * limits.value_bytes <= limits.bytes);
            let stream = limits.head_bytes + limits.tail_bytes + 4 * limits.line_columns;
            assert!(limits.head_items_bytes + stream + limits.id_bytes <= limits.bytes);
        }
        let limits = Limits::DEFAULT;
        assert!(limits.line_columns >= limits.head_bytes + limits.tail_bytes);
    }
}
