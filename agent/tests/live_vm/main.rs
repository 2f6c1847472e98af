//! Reading real QEMU machines: once, again and again, and through every kind of end.

#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

mod backups;
mod devices;
mod guest;
mod kills;
#[path = "../fixtures/loop_device.rs"]
mod loop_device;
#[path = "../fixtures/machine.rs"]
mod machine;
mod proxy;
mod reading;
mod writes;
