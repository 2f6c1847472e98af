//! The pallets whose weights can be measured on this runtime.

#![expect(clippy::crate_in_macro_def, reason = "the macros that this defines are for this crate")]

frame_benchmarking::define_benchmarks!(
	[frame_benchmarking, frame_benchmarking::baseline::Pallet::<crate::Runtime>]
	[frame_system, frame_system_benchmarking::Pallet::<crate::Runtime>]
	[frame_system_extensions, frame_system_benchmarking::extensions::Pallet::<crate::Runtime>]
	[pallet_backup, crate::Backup]
	[pallet_balances, crate::Balances]
	[pallet_collective, crate::Council]
	[pallet_timestamp, crate::Timestamp]
	[pallet_utility, crate::Utility]
);

impl frame_benchmarking::baseline::Config for crate::Runtime {}
impl frame_system_benchmarking::Config for crate::Runtime {}
