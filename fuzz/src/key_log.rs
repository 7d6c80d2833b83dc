//! TLS key logs: whatever a line says, in pieces of any size it says the same; an entry comes back out of its record.

use lc_daemon::key_log::{Entry, LineError, Lines};

/// The first byte is the size of the pieces, the rest the log; then the rest as a record.
pub fn check(bytes: &[u8]) {
    let Some((size, log)) = bytes.split_first() else {
        return;
    };
    let said = read(log, log.len().max(1));
    assert_eq!(read(log, usize::from(*size).max(1)), said);
    for entry in said.into_iter().flatten() {
        let record = entry.parts().concat();
        assert_eq!(Entry::read(entry.kind(), &record), Some(entry));
    }
    if let Some(entry) = Entry::read((*size).into(), log) {
        assert_eq!(entry.parts().concat(), log);
    }
}

fn read(log: &[u8], size: usize) -> Vec<Result<Entry, LineError>> {
    let (mut lines, mut said) = (Lines::default(), Vec::new());
    for piece in log.chunks(size) {
        lines.take(piece, |line| said.push(line));
    }
    said
}
