//! What any node needs to run the backup worker.
//!
//! The worker runs inside the runtime and can read only two things of its host: the
//! keystore and the persistent offchain storage. This crate fills both from the command
//! line, each time the node starts:
//!
//! 1. Flatten [`BackupArgs`] into the node's arguments.
//! 2. Check them with [`BackupArgs::settings`] before the node opens its database.
//! 3. Call [`prepare`] after the database is open and before the offchain worker is spawned.
//!
//! It writes down where the agent is, forgets it when no agent is named, inserts the key of
//! a development account, and says in the log what would keep the worker from working. It
//! never contacts the agent: a node starts whether or not its agent runs.
//!
//! NOTE: the shared secret lies in the node's database from then on, in the clear, because
//! that is the only place that a worker can read. Whoever reads the database directory can
//! speak to the agent.

mod args;
mod endpoint;
mod keys;
mod secret;
mod start;

pub use args::{BackupArgs, BackupSettings, SettingsError};
pub use endpoint::UrlError;
pub use keys::{BACKUP_KEY_TYPE, KeyError};
pub use secret::SecretError;
pub use start::{NodeFacts, StartError, Warning, prepare};
