mod backup;
pub(crate) mod fixture;
mod restore;
