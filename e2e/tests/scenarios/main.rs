//! Scenarios: a real node, a real agent, real guests, and the book, whose commands are typed.
//!
//! All are tests of one program, so that several are played at a time: most of a scenario is waiting for
//! blocks. Each has a folder, ports and a chain of its own and shares nothing with its neighbours but the
//! processors, so what it waits for has a deadline that a busy machine keeps.

mod book;
mod guest;
mod s10_moved;
mod s11_three_nodes;
mod s12_hostile_agents;
mod s13_live_restore;
mod s14_node_lost;
mod s15_council;
mod s16_copies_disturbed;
mod s17_owner;
mod s18_verbs;
mod s19_upkeep;
mod s1_polkadotjs;
mod s20_bad_company;
mod s21_frozen;
mod s2_load;
mod s3_forged;
mod s4_agent_killed;
mod s5_node_restarted;
mod s6_restore_errors;
mod s7_deletion;
mod s8_stolen_machine;
mod s9_bad_input;

// What several of them use, and what one of them needs beside itself.
mod busy;
mod desk;
mod manners;
mod tampering;
mod town;
