//! Between disks and blocks: reading, sealing, storing, and the way back.

pub mod source;
