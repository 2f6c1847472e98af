//! What the demonstration and the end-to-end tests stand on: a real node, a real agent and
//! real guests on this machine, each with deadlines and a log, all gone afterwards.
//!
//! - [`lab`]: the folder of a run; logs are printed when a run fails.
//! - [`process`]: programs that are ended by their id and waited for.
//! - [`node`], [`agent`]: the programs of this project, found where cargo puts them.
//! - [`impostor`]: a program in the agent's place that is none.
//! - [`guest`]: a machine that writes to its disk.
//! - [`book`]: the commands of the documentation's pages, typed as they stand there.
//! - [`chain`]: reads and transactions over the node's own metadata.
//! - [`story`]: an operator, an owner, a machine, and backups that are paid for.
//! - [`history`]: snapshots that a chain begins with.
//! - [`world`]: all of it together, for a scenario.
//! - [`host`]: further nodes that run machines or hold copies.
//! - [`link`]: the line to an agent's gateway, to be slowed, cut and joined.
//! - [`front`]: a gateway before an agent's that passes on or means harm.
//! - [`small_disk`]: file systems that are soon full.
//! - [`script`]: other people's clients, on Node.js.
//! - [`shapes`]: what the documentation tells of the command's answers, compared with them.
//! - [`recovery`]: the way back when the node of a machine is gone.
//! - [`network`]: links between nodes, to be cut and joined.
//!
//! Nothing here sleeps and hopes: what is waited for is looked at until a deadline.

pub mod agent;
pub mod book;
pub mod chain;
pub mod command;
pub mod front;
pub mod guest;
pub mod history;
pub mod host;
pub mod impostor;
pub mod lab;
pub mod link;
pub mod network;
pub mod node;
pub mod process;
pub mod recovery;
pub mod script;
pub mod shapes;
pub mod small_disk;
pub mod story;
pub mod wait;
pub mod world;
