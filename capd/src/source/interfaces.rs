//! The table of interfaces that packets name by index.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shm_layout::layout::MAX_INTERFACES;
use shm_layout::session::InterfaceInfo;

/// One capture thread's access to the table of all interfaces of the run. Rows are only added, so an index stays good for the whole run.
///
/// The table is bounded. When it is full, further interfaces share the last row, named [`Interfaces::OVERFLOW`]: packets are never lost
/// for want of a name.
#[derive(Clone, Default)]
pub struct Interfaces {
    table: Arc<Mutex<Table>>,
    queue: u16,
}

type Publish = Box<dyn FnMut(&InterfaceInfo) + Send>;

#[derive(Default)]
struct Table {
    rows: Vec<InterfaceInfo>,
    publish: Option<Publish>,
}

impl Interfaces {
    /// Name of the row that all interfaces beyond [`MAX_INTERFACES`] share.
    pub const OVERFLOW: &'static str = "(other)";

    /// The table that a predecessor has published: its indices stay good.
    pub fn of_predecessor(rows: Vec<InterfaceInfo>) -> Self {
        let table = Table {
            rows,
            publish: None,
        };
        Self {
            table: Arc::new(Mutex::new(table)),
            queue: 0,
        }
    }

    /// The same table for capture thread `queue`.
    pub fn of_queue(&self, queue: u16) -> Self {
        Self {
            table: Arc::clone(&self.table),
            queue,
        }
    }

    /// Number of the capture thread.
    pub(crate) fn queue(&self) -> u16 {
        self.queue
    }

    /// The index of this thread's interface with this name and link type, adding it if it is new.
    pub fn register(&self, name: &str, link_type: u16) -> u16 {
        let mut table = self.lock();
        let mut row = InterfaceInfo {
            name: name.to_owned(),
            link_type,
            queue: self.queue,
        };
        if let Some(index) = table.rows.iter().position(|known| *known == row) {
            return index as u16;
        }
        if table.rows.len() == MAX_INTERFACES {
            return (MAX_INTERFACES - 1) as u16;
        }
        if table.rows.len() == MAX_INTERFACES - 1 {
            row.name = Self::OVERFLOW.to_owned();
        }
        if let Some(publish) = &mut table.publish {
            publish(&row);
        }
        table.rows.push(row);
        (table.rows.len() - 1) as u16
    }

    /// A copy of all rows, in index order.
    pub fn rows(&self) -> Vec<InterfaceInfo> {
        self.lock().rows.clone()
    }

    /// Shows `publish` each row, those there are and those to come, in index order. It runs under the table's lock.
    pub fn publish_to(&self, mut publish: impl FnMut(&InterfaceInfo) + Send + 'static) {
        let mut table = self.lock();
        table.rows.iter().for_each(&mut publish);
        table.publish = Some(Box::new(publish));
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_interface_keeps_its_index() {
        let table = Interfaces::default();
        assert_eq!(table.register("eth0", 1), 0);
        assert_eq!(table.register("eth0", 113), 1);
        assert_eq!(table.of_queue(1).register("eth0", 1), 2);
        assert_eq!(table.register("eth0", 1), 0);
    }

    #[test]
    fn a_full_table_shares_its_last_row() {
        let table = Interfaces::default();
        let (seen, published) = std::sync::mpsc::channel();
        table.register("0", 1);
        table.publish_to(move |row| seen.send(row.clone()).unwrap());
        for n in 1..2 * MAX_INTERFACES {
            assert_eq!(
                usize::from(table.register(&n.to_string(), 1)),
                n.min(MAX_INTERFACES - 1)
            );
        }
        let published: Vec<_> = published.try_iter().collect();
        assert_eq!(published, table.rows());
        assert_eq!(published.len(), MAX_INTERFACES);
        assert_eq!(published[MAX_INTERFACES - 1].name, Interfaces::OVERFLOW);
    }
}
