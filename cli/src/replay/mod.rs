//! What `tithon replay` knows: which cells make a state again, and whether they say the same again.

pub(crate) mod compare;
pub(crate) mod plan;
pub(crate) mod run;
