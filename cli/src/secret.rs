//! The secret to sign with: from a file, a command, the environment, or the person at the terminal.
//! Never from an argument, which other users of the machine can see.

use crate::{
	args::Global, descendants::Descendants, error::CliError, input::read_up_to, progress::Quiet,
	terminal,
};
use rustix::process::Signal;
use std::{env, io, os::unix::process::ExitStatusExt, path::Path, process::Stdio, str::FromStr};
use subxt::utils::AccountId32;
use subxt_signer::{SecretUri, sr25519::Keypair};
use tokio::{io::AsyncReadExt, process::Command};

/// Most bytes of a file with a secret, or of the line that a command prints one in.
const SECRET_BYTES_MAX: u64 = 4096;

/// The variables that can hold the secret; the second is the older name.
pub(crate) const VARIABLES: [&str; 2] = ["BACKUP_SECRET", "BACKUP_SURI"];

/// The key to sign with, from whichever place has it: a flag's, the environment, the configuration
/// file's. Where none has it, the person at the terminal is asked.
pub(crate) async fn signer(global: &Global) -> Result<Keypair, CliError> {
	match known_signer(global).await {
		Err(CliError::NoSigner) => keypair(&terminal::ask_secret("secret to sign with: ").await?),
		known => known,
	}
}

/// The same, without asking anybody.
async fn known_signer(global: &Global) -> Result<Keypair, CliError> {
	// The secret that is meant may be that of a chain.
	global.ensure_chosen()?;
	let secret = match (&global.secret_file, &global.secret_command) {
		(Some(path), _) => read_secret(path)?,
		(None, Some(command)) => secret_of(command).await?,
		(None, None) => from_environment().ok_or(CliError::NoSigner)?,
	};
	keypair(&secret)
}

/// What the environment holds.
pub(crate) fn from_environment() -> Option<String> {
	VARIABLES.iter().find_map(|name| env::var(name).ok())
}

/// The first line that a shell's command prints. It may ask the person at the terminal first. Whoever
/// stops waiting for it ends it.
async fn secret_of(command: &str) -> Result<String, CliError> {
	let _quiet = Quiet::keep();
	let failed = |reason: String| CliError::SecretCommand { reason };
	let io_failed = |error: io::Error| failed(error.to_string());
	let mut shell = Command::new("sh");
	shell.args(["-c", command]).stdout(Stdio::piped()).kill_on_drop(true);
	let started = Descendants::from_now();
	let mut child = shell.spawn().map_err(io_failed)?;
	let mut out = child.stdout.take().expect("its output was asked for");
	let mut start = Vec::new();
	let limit = SECRET_BYTES_MAX + 1;
	(&mut out).take(limit).read_to_end(&mut start).await.map_err(io_failed)?;
	// All of it, though the first line is what counts: a command whose output nobody reads ends badly.
	tokio::io::copy(&mut out, &mut tokio::io::sink()).await.map_err(io_failed)?;
	let status = child.wait().await.map_err(io_failed)?;
	started.let_go();
	match status.signal() {
		// Ctrl-C at a terminal ends both of us.
		Some(signal) if signal == Signal::INT.as_raw() => return Err(CliError::Interrupted),
		_ if !status.success() => return Err(failed(format!("it ended with {status}"))),
		_ => (),
	}
	let line = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
	if line.len() as u64 > SECRET_BYTES_MAX {
		return Err(failed(format!("its first line is longer than {SECRET_BYTES_MAX} bytes")));
	}
	let line = std::str::from_utf8(line).map_err(|_| failed("it printed no text".to_owned()))?;
	Ok(line.trim().to_owned())
}

/// The text of a file that holds a secret, without the end of the line.
pub(crate) fn read_secret(path: &Path) -> Result<String, CliError> {
	let bad = |reason: String| CliError::BadSigner { reason };
	let bytes = read_up_to(path, SECRET_BYTES_MAX)?;
	if bytes.len() as u64 > SECRET_BYTES_MAX {
		return Err(bad(format!("{} is longer than {SECRET_BYTES_MAX} bytes", path.display())));
	}
	let text = std::str::from_utf8(&bytes);
	let text = text.map_err(|_| bad(format!("{} holds no text", path.display())))?;
	Ok(text.trim().to_owned())
}

/// A key pair from its secret. The error never repeats the secret.
pub(crate) fn keypair(secret: &str) -> Result<Keypair, CliError> {
	let bad = |reason: String| CliError::BadSigner { reason };
	// What is empty would stand for the key that everybody has.
	if secret.trim().is_empty() {
		return Err(bad("it is empty".to_owned()));
	}
	let uri = SecretUri::from_str(secret).map_err(|error| bad(error.to_string()))?;
	Keypair::from_uri(&uri).map_err(|error| bad(error.to_string()))
}

/// The account that is meant: the one that was named, or the signer's. Nobody is asked for a secret
/// only to read.
pub(crate) async fn account(named: Option<&str>, global: &Global) -> Result<AccountId32, CliError> {
	match named {
		Some(text) => parse_account(text),
		None => match known_signer(global).await {
			Ok(key) => Ok(AccountId32(key.public_key().0)),
			Err(CliError::NoSigner) => Err(CliError::NoAccount),
			Err(error) => Err(error),
		},
	}
}

/// An account from its SS58 address or from hexadecimal digits.
pub(crate) fn parse_account(text: &str) -> Result<AccountId32, CliError> {
	let bad = |reason: String| CliError::BadAccount { text: text.to_owned(), reason };
	match text.strip_prefix("0x") {
		Some(digits) => {
			let mut bytes = [0; 32];
			hex::decode_to_slice(digits, &mut bytes).map_err(|error| bad(error.to_string()))?;
			Ok(AccountId32(bytes))
		}
		None => text.parse().map_err(|error: <AccountId32 as FromStr>::Err| bad(error.to_string())),
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	const ALICE: &str = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY";

	#[test]
	fn what_is_empty_is_no_secret() {
		for secret in ["", " \n"] {
			assert!(matches!(keypair(secret), Err(CliError::BadSigner { .. })), "{secret:?}");
		}
	}

	#[test]
	fn an_account_reads_from_both_forms() {
		let alice = parse_account(ALICE).unwrap();
		assert_eq!(parse_account(&format!("0x{}", hex::encode(alice.0))).unwrap(), alice);
		assert_eq!(keypair("//Alice").unwrap().public_key().0, alice.0);
	}

	#[tokio::test]
	async fn a_command_tells_its_first_line_or_how_it_ended() {
		assert_eq!(secret_of("echo //Alice; echo more").await.unwrap(), "//Alice");
		let Err(CliError::SecretCommand { reason }) = secret_of("echo //Alice; exit 3").await
		else {
			panic!("a command that failed was believed")
		};
		assert!(reason.contains('3') && !reason.contains("Alice"), "{reason}");
	}

	#[tokio::test]
	async fn a_command_may_go_on_about_what_nobody_reads() {
		// More than a pipe holds, and no text.
		let long = "echo //Alice; head -c 1000000 /dev/urandom";
		assert_eq!(secret_of(long).await.unwrap(), "//Alice");
		let Err(CliError::SecretCommand { reason }) =
			secret_of("head -c 1000000 /dev/zero | tr '\\0' a").await
		else {
			panic!("a part of a line was taken for a secret")
		};
		assert!(reason.contains("longer than 4096 bytes"), "{reason}");
	}

	#[test]
	fn wrong_accounts_and_secrets_say_so() {
		assert!(matches!(parse_account("5Grw"), Err(CliError::BadAccount { .. })));
		assert!(matches!(parse_account("0x12"), Err(CliError::BadAccount { .. })));
		let Err(CliError::BadSigner { reason }) = keypair("not a phrase at all") else {
			panic!("a bad phrase was taken")
		};
		assert!(!reason.contains("phrase at all"));
	}
}
