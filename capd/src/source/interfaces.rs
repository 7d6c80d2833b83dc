//! The table of interfaces that packets name by index.

use std::sync::{Mutex, PoisonError};

/// One row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Device name, pcapng `if_name`, or the file's base name.
    pub name: String,
    /// LINKTYPE_ or DLT_ number.
    pub link_type: u16,
}

/// Called with each new row, under the table's lock.
type OnNew = Box<dyn FnMut(u16, &Interface) + Send>;

/// All interfaces of a run, shared by its sources. Rows are only added, so an index stays good for the whole run.
///
/// The table is bounded. When it is full, further interfaces share the last row, named [`Interfaces::OVERFLOW`]: packets are never lost
/// for want of a name.
pub struct Interfaces {
    inner: Mutex<Inner>,
    capacity: usize,
}

struct Inner {
    rows: Vec<Interface>,
    on_new: OnNew,
}

impl Interfaces {
    /// Name of the row that all interfaces beyond the capacity share.
    pub const OVERFLOW: &'static str = "(other)";

    /// An empty table of at most `capacity` rows (1 to 65,536); `on_new` sees each row as it is added.
    pub fn new(capacity: usize, on_new: impl FnMut(u16, &Interface) + Send + 'static) -> Self {
        Self {
            inner: Mutex::new(Inner {
                rows: Vec::new(),
                on_new: Box::new(on_new),
            }),
            capacity: capacity.clamp(1, 1 << 16),
        }
    }

    /// The index of the interface with this name and link type, adding it if it is new.
    pub fn register(&self, name: &str, link_type: u16) -> u16 {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Inner { rows, on_new } = &mut *inner;
        let full = rows.len() + 1 >= self.capacity;
        let known = rows
            .iter()
            .position(|row| row.name == name && row.link_type == link_type);
        let known = known.or_else(|| (rows.len() == self.capacity).then_some(self.capacity - 1));
        if let Some(index) = known {
            return index as u16;
        }
        let index = rows.len() as u16;
        let name = if full && self.capacity > 1 {
            Self::OVERFLOW
        } else {
            name
        };
        let row = Interface {
            name: name.to_owned(),
            link_type,
        };
        on_new(index, &row);
        rows.push(row);
        index
    }

    /// A copy of all rows, in index order.
    pub fn rows(&self) -> Vec<Interface> {
        self.inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .rows
            .clone()
    }
}

impl Default for Interfaces {
    fn default() -> Self {
        Self::new(1 << 16, |_, _| {})
    }
}

impl std::fmt::Debug for Interfaces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Interfaces")
            .field("rows", &self.rows())
            .field("capacity", &self.capacity)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_name_and_link_type_share_an_index() {
        let table = Interfaces::default();
        assert_eq!(table.register("eth0", 1), 0);
        assert_eq!(table.register("eth0", 113), 1);
        assert_eq!(table.register("eth0", 1), 0);
    }

    #[test]
    fn a_full_table_shares_its_last_row() {
        let (seen, rows) = std::sync::mpsc::channel();
        let table = Interfaces::new(2, move |index, row: &Interface| {
            seen.send((index, row.name.clone())).unwrap()
        });
        assert_eq!(
            ["a", "b", "c", "a"].map(|name| table.register(name, 1)),
            [0, 1, 1, 0]
        );
        drop(table);
        assert_eq!(
            rows.iter().collect::<Vec<_>>(),
            [(0, "a".to_owned()), (1, Interfaces::OVERFLOW.to_owned())]
        );
    }
}
