//! Why a request is not done: a status and words for whoever sent it.

use hyper::StatusCode;

/// An answer other than 200.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) words: String,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, words: impl Into<String>) -> Self {
        Self {
            status,
            words: words.into(),
        }
    }

    /// The request is not what it should be.
    pub(crate) fn bad(words: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, words)
    }

    /// There is no such state.
    pub(crate) fn no_state() -> Self {
        Self::new(StatusCode::NOT_FOUND, "State not found.")
    }

    /// It cannot be done with the states as they are.
    pub(crate) fn conflict(words: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, words)
    }

    /// Something of ours does not work.
    pub(crate) fn broken(words: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, words)
    }
}
