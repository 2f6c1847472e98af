mod backup;
mod copy;
pub(crate) mod fixture;
mod restore;
mod rounds;
