//! Carries out what the command line says.

use crate::{
	chain_spec,
	cli::{Cli, Subcommand},
	service::{self, Parts},
};
use backup_runtime::opaque::Block;
use sc_cli::{Result, SubstrateCli};
use sc_network::{Litep2pNetworkBackend, NetworkWorker, config::NetworkBackendType};
use sp_runtime::traits::Block as BlockT;

impl SubstrateCli for Cli {
	fn impl_name() -> String {
		"Backup Node".into()
	}

	fn impl_version() -> String {
		env!("SUBSTRATE_CLI_IMPL_VERSION").into()
	}

	fn executable_name() -> String {
		env!("CARGO_PKG_NAME").into()
	}

	fn description() -> String {
		env!("CARGO_PKG_DESCRIPTION").into()
	}

	fn author() -> String {
		"the pallet-backup developers".into()
	}

	fn support_url() -> String {
		"the issue tracker of pallet-backup".into()
	}

	fn copyright_start_year() -> i32 {
		2025
	}

	fn load_spec(&self, id: &str) -> std::result::Result<Box<dyn sc_service::ChainSpec>, String> {
		Ok(match id {
			"dev" => Box::new(chain_spec::development()?),
			"" | "local" => Box::new(chain_spec::local()?),
			path => Box::new(chain_spec::ChainSpec::from_json_file(path.into())?),
		})
	}
}

/// Parses the command line and runs it to its end.
pub(crate) fn run() -> Result<()> {
	let cli = Cli::from_args();
	match &cli.subcommand {
		None => run_node(&cli),
		Some(subcommand) => run_subcommand(&cli, subcommand),
	}
}

fn run_node(cli: &Cli) -> Result<()> {
	let backup = cli.backup.settings().map_err(|error| sc_cli::Error::Input(error.to_string()))?;
	cli.create_runner(&cli.run)?.run_node_until_exit(|config| async move {
		match config.network.network_backend {
			NetworkBackendType::Libp2p => {
				service::start::<NetworkWorker<Block, <Block as BlockT>::Hash>>(config, &backup)
			}
			NetworkBackendType::Litep2p => service::start::<Litep2pNetworkBackend>(config, &backup),
		}
		.map_err(sc_cli::Error::Service)
	})
}

fn run_subcommand(cli: &Cli, subcommand: &Subcommand) -> Result<()> {
	match subcommand {
		Subcommand::Key(command) => command.run(cli),
		Subcommand::ExportChainSpec(command) => command.run(cli.load_spec(&command.chain)?),
		Subcommand::CheckBlock(command) => cli.create_runner(command)?.async_run(|config| {
			let Parts { client, task_manager, import_queue, .. } = service::open(&config)?;
			Ok((command.run(client, import_queue), task_manager))
		}),
		Subcommand::ExportBlocks(command) => cli.create_runner(command)?.async_run(|config| {
			let Parts { client, task_manager, .. } = service::open(&config)?;
			Ok((command.run(client, config.database), task_manager))
		}),
		Subcommand::ExportState(command) => cli.create_runner(command)?.async_run(|config| {
			let Parts { client, task_manager, .. } = service::open(&config)?;
			Ok((command.run(client, config.chain_spec), task_manager))
		}),
		Subcommand::ImportBlocks(command) => cli.create_runner(command)?.async_run(|config| {
			let Parts { client, task_manager, import_queue, .. } = service::open(&config)?;
			Ok((command.run(client, import_queue), task_manager))
		}),
		Subcommand::PurgeChain(command) => {
			cli.create_runner(command)?.sync_run(|config| command.run(config.database))
		}
		Subcommand::Revert(command) => cli.create_runner(command)?.async_run(|config| {
			let Parts { client, task_manager, backend, .. } = service::open(&config)?;
			let revert_finality =
				Box::new(|client, _, blocks| Ok(sc_consensus_grandpa::revert(client, blocks)?));
			Ok((command.run(client, backend, Some(revert_finality)), task_manager))
		}),
	}
}
