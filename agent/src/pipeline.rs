//! From a disk to sealed blocks in a repository, and back.

pub mod source;
