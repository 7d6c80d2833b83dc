//! Certificates and keys that are replaced while the forwarder runs.
//!
//! - SIGHUP reads the files at once. Without it, their metadata is looked at every few seconds, and they are read when
//!   it has changed and then stood still, so that a certificate is not taken without the key that follows it.
//! - Good files are in force for the next connection, and the session goes over to one of those by itself. Files that
//!   hold what they held before change nothing.
//! - Bad files change nothing; the cause is logged once and counted.

use std::sync::Arc;
use std::time::Duration;

use lc_daemon::config::{Config, Tls, Transport as Protection};
use lc_daemon::ready;
use shm_layout::counters::ForwardCounter;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::Wish;
use crate::credentials::Stamps;
use crate::ledger::Ledger;
use crate::transport::{Transport, TransportError};

/// Between looks at the files.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Brings new credentials to the session.
pub(crate) struct Reload {
    pub(crate) config: Arc<Config>,
    pub(crate) transport: watch::Sender<Arc<Transport>>,
    pub(crate) wish: watch::Receiver<Wish>,
    pub(crate) ledger: Arc<Ledger>,
}

impl Reload {
    /// Works until nobody can wish anything any more.
    pub(crate) async fn run(mut self) {
        let config = Arc::clone(&self.config);
        let tls = match &config.transport {
            Protection::Insecure => None,
            Protection::Tls(tls) => Some(tls),
        };
        let stamps = || tls.map(Stamps::of);
        // They may have changed since they were read at the start, so the first look reads them once more.
        let (mut read, mut seen) = (None, None);
        let mut reloads = 0;
        loop {
            let asked = tokio::select! {
                () = sleep(LOOK_INTERVAL), if tls.is_some() => false,
                wish = self.wish.wait_for(|wish| wish.reloads != reloads) => match wish {
                    Ok(wish) => {
                        reloads = wish.reloads;
                        true
                    }
                    Err(_) => return,
                },
            };
            if asked {
                ready::reloading();
            }
            let now = stamps();
            let settled = now == seen && now != read;
            seen = now;
            if let (Some(tls), Some(now)) = (tls, &seen)
                && (asked || settled)
            {
                self.read(tls, now, asked);
                read = seen.clone();
            }
            if asked {
                ready::reloaded();
            }
        }
    }

    fn read(&self, tls: &Tls, stamps: &Stamps, asked: bool) {
        let renewed = match stamps.irregular(tls) {
            None => self.transport.borrow().renewed(tls),
            Some(path) => Err(TransportError::Irregular(path)),
        };
        match renewed {
            Ok(Some(transport)) => {
                self.ledger.count(ForwardCounter::CertificateReloads, 1);
                tracing::info!("certificates and keys are read again and in force");
                self.transport.send_replace(Arc::new(transport));
            }
            Ok(None) if asked => tracing::info!("certificates and keys are the same as before"),
            Ok(None) => {}
            Err(error) => {
                self.ledger.count(ForwardCounter::CertificatesRefused, 1);
                tracing::error!("the old certificates and keys stay in force: {error}");
            }
        }
    }
}
