//! One partition on disk.

pub mod storage;
