mod backup;
pub(crate) mod fixture;
mod restore;
mod rounds;
