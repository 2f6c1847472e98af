//! `backup key`: the owner's age identity, and its recipient on the chain.

use crate::{
	args::{Global, Key},
	chain::{Chain, reads},
	commands::{session::Session, words_of_key},
	error::CliError,
	input::read_up_to,
	output::{Output, Table},
	progress::Bar,
	secret::account,
};
use age::{secrecy::ExposeSecret, x25519};
use backup_primitives::Recipient;
use serde_json::json;
use std::{
	fs::{self, OpenOptions},
	io::{ErrorKind, Write},
	os::unix::fs::OpenOptionsExt,
	path::{Path, PathBuf},
	str::FromStr,
	sync::OnceLock,
};
use subxt::ext::scale_decode::{self, DecodeAsType};

/// Most bytes of a file with identities.
const IDENTITY_BYTES_MAX: u64 = 64 * 1024;

pub(crate) async fn run(verb: Key, global: &Global, output: Output) -> Result<(), CliError> {
	match verb {
		Key::New { output: path } => new(path.as_deref(), output),
		Key::Register { recipient, identity } => {
			let recipient = match (recipient, identity) {
				(Some(recipient), _) => recipient,
				(None, Some(path)) => recipient_of(&read_identity(&path)?),
				(None, None) => unreachable!("the parser demands one of the two"),
			};
			register(recipient, global, output).await
		}
		Key::Show { identity: Some(path), owner: _ } => show(&path, output),
		Key::Show { identity: None, owner } => registered(owner.as_deref(), global, output).await,
		Key::Words { identity } => words_of_key::print(&identity, output),
		Key::Recover { output: path } => words_of_key::recover(&path, output).await,
	}
}

/// Print what is sealed to the identities of a file.
fn show(path: &Path, output: Output) -> Result<(), CliError> {
	let recipients: Vec<String> =
		read_identities(path)?.iter().map(|identity| recipient_of(identity).to_string()).collect();
	output.answer(&json!({ "recipients": recipients }), || recipients.join("\n"))
}

/// Print what an account has registered.
async fn registered(owner: Option<&str>, global: &Global, output: Output) -> Result<(), CliError> {
	let owner = account(owner, global).await?;
	let bar = Bar::waiting(output, "the chain");
	let at = Chain::connect(global).await?.best().await?;
	let keys = reads::owner_keys(&at, &owner).await?;
	let value = json!({ "block": at.block_number(), "account": owner.to_string(), "keys": keys });
	drop(bar);
	output.answer(&value, || {
		if keys.is_empty() {
			return format!("{owner} has registered no key");
		}
		let mut table = Table::new(&["version", "active from", "recipient"]);
		for key in &keys {
			let (version, from) = (key.key_version.to_string(), key.active_from.to_string());
			table.row([version, from, key.recipient.clone()]);
		}
		table.render()
	})
}

/// Make an identity. Without a file it goes to standard output, where the recipient is a
/// comment above it, as age itself writes it.
fn new(path: Option<&Path>, output: Output) -> Result<(), CliError> {
	let identity = x25519::Identity::generate();
	let recipient = identity.to_public().to_string();
	let secret = identity.to_string();
	let text = format!("# recipient: {recipient}\n{}", secret.expose_secret());
	match path {
		Some(path) => {
			write_new(path, format!("{text}\n").as_bytes())?;
			let value = json!({ "recipient": recipient, "path": path });
			output.answer(&value, || recipient)
		}
		None => {
			let value = json!({ "recipient": recipient, "identity": secret.expose_secret() });
			output.answer(&value, || text)
		}
	}
}

/// Write a file that only its owner can read and that did not exist before. It is complete
/// and on disk, or it is not there.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
	let fail = |source: std::io::Error| match source.kind() {
		ErrorKind::AlreadyExists => CliError::FileExists { path: path.to_owned() },
		_ => CliError::FileWrite { path: path.to_owned(), source },
	};
	let mut file =
		OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(fail)?;
	let written = file.write_all(bytes).and_then(|()| file.sync_all());
	written.map_err(|source| {
		// It is ours and of no use; if it cannot be removed, the first error counts.
		let _ = fs::remove_file(path);
		fail(source)
	})
}

/// The first X25519 identity of a file.
fn read_identity(path: &Path) -> Result<x25519::Identity, CliError> {
	Ok(read_identities(path)?.swap_remove(0))
}

/// The identities of a file. It is read when they are first wanted, and once: it may be a pipe.
pub(crate) struct Identities {
	path: Option<PathBuf>,
	read: OnceLock<Vec<x25519::Identity>>,
}

impl Identities {
	/// Those of a file; none without one.
	pub(crate) fn of(path: Option<&Path>) -> Self {
		Self { path: path.map(Path::to_owned), read: OnceLock::new() }
	}

	/// All of them.
	pub(crate) fn get(&self) -> Result<&[x25519::Identity], CliError> {
		let Some(path) = &self.path else { return Ok(&[]) };
		if let Some(read) = self.read.get() {
			return Ok(read);
		}
		let read = read_identities(path)?;
		Ok(self.read.get_or_init(|| read))
	}
}

/// All X25519 identities of a file, at least one.
pub(crate) fn read_identities(path: &Path) -> Result<Vec<x25519::Identity>, CliError> {
	let bad =
		|reason: &str| CliError::BadIdentity { path: path.to_owned(), reason: reason.to_owned() };
	let text = read_up_to(path, IDENTITY_BYTES_MAX)?;
	if text.len() as u64 > IDENTITY_BYTES_MAX {
		return Err(bad("the file is too long"));
	}
	let text = String::from_utf8(text).map_err(|_| bad("it is not text"))?;
	let lines = text.lines().map(str::trim);
	let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
	let identities: Vec<_> = lines
		.map(|line| x25519::Identity::from_str(line).map_err(bad))
		.collect::<Result<_, _>>()?;
	match identities.is_empty() {
		false => Ok(identities),
		true => Err(bad("it is empty")),
	}
}

/// What is sealed to an identity.
pub(crate) fn recipient_of(identity: &x25519::Identity) -> Recipient {
	let text = identity.to_public().to_string();
	text.parse().expect("age writes recipients in the form that it defined")
}

#[derive(DecodeAsType)]
#[decode_as_type(crate_path = "scale_decode")]
struct OwnerKeyRegistered {
	version: u32,
	active_from: u64,
}

async fn register(recipient: Recipient, global: &Global, output: Output) -> Result<(), CliError> {
	let session = Session::begin(global).await?;
	let included = session.submit("Backup", "register_owner_key", (recipient.0,)).await?;
	let event: OwnerKeyRegistered = included.event("Backup", "OwnerKeyRegistered")?;
	let value = json!({
		"recipient": recipient.to_string(),
		"key_version": event.version,
		"active_from": event.active_from,
		"transaction": included.report,
	});
	output.answer(&value, || {
		format!(
			"key {recipient} is registered as version {}, active from block {}",
			event.version, event.active_from
		)
	})
}

#[cfg(test)]
mod tests {
	use super::*;
	use std::os::unix::fs::PermissionsExt;

	#[test]
	fn an_identity_reads_back_and_its_file_is_private() {
		let folder = tempfile::tempdir().unwrap();
		let path = folder.path().join("key");
		new(Some(&path), Output::new(true)).unwrap();
		assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
		let recipient = recipient_of(&read_identity(&path).unwrap()).to_string();
		assert!(fs::read_to_string(&path).unwrap().contains(&recipient));
	}

	#[test]
	fn identities_are_read_once_for_what_comes_through_a_pipe_comes_once() {
		let folder = tempfile::tempdir().unwrap();
		let path = folder.path().join("key");
		let identity = x25519::Identity::generate();
		fs::write(&path, identity.to_string().expose_secret()).unwrap();
		let identities = Identities::of(Some(&path));
		assert_eq!(identities.get().unwrap().len(), 1);
		fs::remove_file(&path).unwrap();
		assert_eq!(recipient_of(&identities.get().unwrap()[0]), recipient_of(&identity));
		assert!(Identities::of(None).get().unwrap().is_empty());
	}

	#[test]
	fn all_identities_of_a_file_are_read() {
		let folder = tempfile::tempdir().unwrap();
		let path = folder.path().join("keys");
		let written = [(); 3].map(|()| x25519::Identity::generate());
		let secret = |identity: &x25519::Identity| identity.to_string().expose_secret().to_owned();
		let text = written.iter().map(secret).collect::<Vec<_>>().join("\n# older\n\n");
		fs::write(&path, text).unwrap();
		let recipients = |identities: &[x25519::Identity]| -> Vec<_> {
			identities.iter().map(recipient_of).collect()
		};
		assert_eq!(recipients(&read_identities(&path).unwrap()), recipients(&written));
	}

	#[test]
	fn an_existing_file_is_never_overwritten() {
		let folder = tempfile::tempdir().unwrap();
		let path = folder.path().join("key");
		fs::write(&path, "precious").unwrap();
		assert!(matches!(new(Some(&path), Output::new(true)), Err(CliError::FileExists { .. })));
		assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
	}

	#[test]
	fn files_without_an_identity_are_refused() {
		let folder = tempfile::tempdir().unwrap();
		let path = folder.path().join("key");
		for text in ["", "# only a comment\n", "AGE-SECRET-KEY-1NOTREALLY", "\u{0}"] {
			fs::write(&path, text).unwrap();
			assert!(matches!(read_identity(&path), Err(CliError::BadIdentity { .. })), "{text}");
		}
	}
}
