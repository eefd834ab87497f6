//! Group coordinators' input and output.

/// The coordinators that this broker runs.
#[derive(Debug, Default)]
pub struct Groups;
