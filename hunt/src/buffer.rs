//! `lc-hunt buffer`: looks into a disk buffer.
//!
//! Reads only, and needs no running node. Beside one it sees a moment: what the node removes meanwhile is left out, and
//! the record that it is writing is no damage.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use lc_daemon::exit::Exit;
use lc_fwdd::overflow::{Directory, Record, Survey, SurveyError};
use lc_proto::data::PacketBatch;
use lc_sink::pcapng::Section;
use prost::Message;

use crate::command_line::Look;

/// Does what `lc-hunt buffer` was called for.
pub fn look(dir: &Path, look: &Look) -> Exit {
    match look {
        Look::List { json } => match survey(dir, *json) {
            Ok(_) => Exit::Ok,
            Err(exit) => exit,
        },
        Look::Verify { json } => match survey(dir, *json) {
            Ok(survey) if survey.is_damaged() => {
                tracing::error!(
                    lost_records = survey.lost_records,
                    lost_packets = survey.lost_packets,
                    "{}: damaged; the rest will be delivered",
                    dir.display()
                );
                Exit::BadData
            }
            Ok(_) => Exit::Ok,
            Err(exit) => exit,
        },
        Look::Export { file } => match export(dir, file) {
            Ok(exported) => {
                tracing::info!(packets = exported.packets, "exported to {}", file.display());
                exported.exit()
            }
            Err(error) => {
                tracing::error!("{error}");
                Exit::Failure
            }
        },
    }
}

/// Prints what is there.
fn survey(dir: &Path, json: bool) -> Result<Survey, Exit> {
    let survey = Survey::of(dir, drop).map_err(|error| {
        tracing::error!("{error}");
        Exit::Failure
    })?;
    let text = if json {
        serde_json::to_string_pretty(&survey).unwrap_or_default() + "\n"
    } else {
        Table(&survey).to_string()
    };
    // A closed output is nothing to report.
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(survey)
}

/// The survey for people.
struct Table<'a>(&'a Survey);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let survey = self.0;
        writeln!(
            f,
            "{:<28} {:>10} {:>12} {:>8} {:>10} {:>10} {:>8}",
            "segment", "bytes", "first record", "records", "packets", "waiting", "damaged"
        )?;
        let (mut bytes, mut records, mut packets) = (0, 0, 0);
        for segment in &survey.segments {
            writeln!(
                f,
                "{:<28} {:>10} {:>12} {:>8} {:>10} {:>10} {:>8}{}",
                segment.file,
                segment.bytes,
                segment.first_record,
                segment.records,
                segment.packets,
                segment.waiting_packets,
                segment.damaged,
                if segment.dropped { "  dropped" } else { "" }
            )?;
            bytes += segment.bytes;
            records += segment.waiting_records;
            packets += segment.waiting_packets;
        }
        writeln!(
            f,
            "{packets} packets wait in {records} records, {bytes} bytes; acknowledged before record {}",
            survey.acknowledged
        )?;
        if survey.is_damaged() {
            writeln!(
                f,
                "damaged: {} packets in {} records are lost",
                survey.lost_packets, survey.lost_records
            )?;
        }
        if survey.in_use {
            writeln!(f, "a node is working with it")?;
        }
        Ok(())
    }
}

/// What an export did.
#[derive(Debug, Default)]
struct Exported {
    packets: u64,
    /// Packets that are none.
    malformed: u64,
    damaged: bool,
}

impl Exported {
    fn exit(&self) -> Exit {
        if self.malformed > 0 || self.damaged {
            tracing::error!(
                malformed = self.malformed,
                "the disk buffer is damaged; what is good was exported"
            );
            return Exit::BadData;
        }
        Exit::Ok
    }
}

/// Why nothing, or not everything, was exported.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error(transparent)]
    Survey(#[from] SurveyError),
    #[error("{path} cannot be written: {error}")]
    File { path: String, error: io::Error },
    #[error("a packet cannot be written as pcapng: {0}")]
    Format(#[from] pcap_file::PcapError),
}

fn export(dir: &Path, path: &Path) -> Result<Exported, ExportError> {
    let failed = |error| ExportError::File {
        path: path.display().to_string(),
        error,
    };
    Directory::look(dir).map_err(SurveyError::from)?;
    // Packets are nobody else's business, and no file is worth less than a mistyped name.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    let mut section = Section::new()?;
    let mut exported = Exported::default();
    let mut result = Ok(());
    let survey = Survey::of(dir, |record| {
        if result.is_ok() {
            result = add(&mut section, &record, &mut exported)
                .map_err(ExportError::from)
                .and_then(|()| file.write_all(&section.take()).map_err(failed));
        }
    })?;
    result?;
    file.write_all(&section.take()).map_err(failed)?;
    exported.damaged = survey.is_damaged();
    Ok(exported)
}

/// Adds the packets of a record, which is a batch without its head.
fn add(
    section: &mut Section,
    record: &Record,
    exported: &mut Exported,
) -> Result<(), pcap_file::PcapError> {
    let Ok(batch) = PacketBatch::decode(record.payload.as_slice()) else {
        exported.malformed += u64::from(record.packets);
        return Ok(());
    };
    let malformed = section.write(&batch)?;
    exported.malformed += malformed;
    exported.packets += batch.packets.len() as u64 - malformed;
    Ok(())
}
