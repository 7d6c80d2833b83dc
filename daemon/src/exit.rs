//! Exit codes: how a process says why it ended.
//!
//! The supervisor acts on them: it starts a process that failed at run time again, but not one that was refused at
//! start, because the same start would be refused again.

use std::process::ExitCode;

/// Why a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// All work was done.
    Ok = 0,
    /// Something failed at run time; a new start may help.
    Failure = 1,
    /// The command line cannot be understood.
    Usage = 2,
    /// Input data was bad; what was good has been delivered (as `EX_DATAERR` of sysexits).
    BadData = 65,
    /// Refused at start: configuration, permission, missing interface; a new start would not help (as `EX_CONFIG`).
    Refused = 78,
}

impl Exit {
    /// The code as the operating system sees it.
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}
