//! The node of the reference chain: Aura makes blocks, GRANDPA finalizes them, and the
//! offchain worker of `pallet-backup` talks to the backup agent on the same machine.

#![expect(clippy::result_large_err, reason = "the SDK's errors are what they are, and rare")]

mod chain_spec;
mod cli;
mod command;
mod rpc;
mod service;

fn main() -> sc_cli::Result<()> {
	command::run()
}
