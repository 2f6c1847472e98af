//! Time and money of the reference chain.

use crate::{Balance, BlockNumber};

/// Time between two blocks, and the length of a slot. It cannot change once a
/// chain runs: slots are counted from the Unix epoch in this unit.
pub const MILLISECS_PER_BLOCK: u64 = 2_000;

/// Blocks in a minute.
pub const MINUTES: BlockNumber = 60_000 / (MILLISECS_PER_BLOCK as BlockNumber);
/// Blocks in an hour.
pub const HOURS: BlockNumber = MINUTES * 60;
/// Blocks in a day.
pub const DAYS: BlockNumber = HOURS * 24;

/// One token.
pub const UNIT: Balance = 1_000_000_000_000;
/// A thousandth of a token.
pub const MILLI_UNIT: Balance = UNIT / 1_000;
/// A millionth of a token.
pub const MICRO_UNIT: Balance = MILLI_UNIT / 1_000;

/// The least that an account must hold to exist.
pub const EXISTENTIAL_DEPOSIT: Balance = MILLI_UNIT;
/// The fee for each byte of a transaction.
pub const BYTE_FEE: Balance = MICRO_UNIT;

/// What is held for as long as `items` entries with `bytes` in all are in storage.
#[must_use]
pub const fn deposit(items: u32, bytes: u32) -> Balance {
	items as Balance * 10 * MILLI_UNIT + bytes as Balance * 100 * MICRO_UNIT
}
