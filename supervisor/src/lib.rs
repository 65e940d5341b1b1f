//! The process that holds the public socket, finds and starts workers and hands clients over.
