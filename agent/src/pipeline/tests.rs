mod backup;
mod fixture;
mod restore;
