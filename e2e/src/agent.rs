//! A real agent.
