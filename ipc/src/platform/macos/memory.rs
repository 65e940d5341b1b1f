//! Memory that a process at rest gives back.

/// Nothing: which pages may be let go of has no counterpart of `/proc/self/smaps` here.
pub fn give_back() {}
