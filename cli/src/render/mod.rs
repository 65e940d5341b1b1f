//! What people see: output, words, progress and tables.

pub(crate) mod json;
pub(crate) mod log;
pub(crate) mod markdown;
pub(crate) mod notice;
pub(crate) mod output;
pub(crate) mod picture;
pub(crate) mod table;
pub(crate) mod units;
pub(crate) mod words;
