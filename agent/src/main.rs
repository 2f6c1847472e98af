//! `backup-agent`: the command line of the daemon, which is in [`backup_agent::commands`].

use std::process::ExitCode;

fn main() -> ExitCode {
	backup_agent::commands::main()
}
