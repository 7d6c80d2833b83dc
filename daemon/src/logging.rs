//! Logging to standard error.
//!
//! A person at a terminal gets short coloured lines; anything else gets one JSON object per line with `time` (RFC 3339
//! with nanoseconds), `level` (DEBUG, INFO, WARN, ERROR), `msg`, and the event's fields beside them.

use std::fmt;
use std::io::{self, IsTerminal};

use serde_json::Value as Json;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

use crate::config::LogLevel;

/// Starts logging for this process, under the name of its program. A second call changes nothing.
pub fn init(program: &'static str, level: LogLevel) {
    let level = LevelFilter::from_level(match level {
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Info => Level::INFO,
        LogLevel::Warn => Level::WARN,
        LogLevel::Error => Level::ERROR,
    });
    let builder = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_max_level(level);
    // Failure means that logging has been started already, which is all the caller wants.
    let _ = if io::stderr().is_terminal() {
        tracing::subscriber::set_global_default(
            builder.event_format(HumanLine { program }).finish(),
        )
    } else {
        tracing::subscriber::set_global_default(builder.event_format(JsonLine { program }).finish())
    };
}

/// `12:03:04.123 WARN  lc-capd: interface is gone interface=eth0`
struct HumanLine {
    program: &'static str,
}

impl<S, N> FormatEvent<S, N> for HumanLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let fields = Fields::of(event);
        let level = *event.metadata().level();
        let (colour, plain) = match level {
            _ if !out.has_ansi_escapes() => ("", ""),
            Level::ERROR => ("\x1b[31m", "\x1b[0m"),
            Level::WARN => ("\x1b[33m", "\x1b[0m"),
            Level::INFO => ("\x1b[32m", "\x1b[0m"),
            _ => ("\x1b[2m", "\x1b[0m"),
        };
        let time = timestamp();
        // The date is of no use at a terminal; milliseconds are enough.
        let clock = time.get(11..23).unwrap_or(&time);
        write!(
            out,
            "{clock} {colour}{level:<5}{plain} {}: {}",
            self.program,
            fields.message.replace(char::is_control, " ")
        )?;
        for (name, value) in &fields.named {
            write!(out, " {name}={value}")?;
        }
        writeln!(out)
    }
}

/// `{"time":"2026-01-02T03:04:05.123456789Z","level":"WARN","msg":"interface is gone","program":"lc-capd","interface":"eth0"}`
struct JsonLine {
    program: &'static str,
}

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let fields = Fields::of(event);
        let level = event.metadata().level();
        write!(out, "{{\"time\":\"{}\",\"level\":\"{level}\"", timestamp())?;
        write!(
            out,
            ",\"msg\":{},\"program\":\"{}\"",
            Json::String(fields.message),
            self.program
        )?;
        for (name, value) in fields.named {
            write!(out, ",{}:{value}", Json::String(name))?;
        }
        writeln!(out, "}}")
    }
}

/// What an event carries.
#[derive(Default)]
struct Fields {
    message: String,
    named: Vec<(String, Json)>,
}

impl Fields {
    fn of(event: &Event<'_>) -> Self {
        let mut fields = Fields::default();
        event.record(&mut fields);
        fields
    }

    fn add(&mut self, field: &Field, value: Json) {
        match (field.name(), value) {
            ("message", Json::String(text)) => self.message = text,
            (name, value) => self.named.push((name.to_owned(), value)),
        }
    }
}

impl Visit for Fields {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}").into());
    }
}

/// The present time in RFC 3339 with nanoseconds, UTC.
fn timestamp() -> String {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let (days, second) = (now.tv_sec.div_euclid(86_400), now.tv_sec.rem_euclid(86_400));
    let (year, month, day) = civil_date(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:09}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        now.tv_nsec
    )
}

/// Year, month and day of a number of days since 1970-01-01, in the Gregorian calendar.
fn civil_date(days: i64) -> (i64, i64, i64) {
    // Years counted from March, so that the leap day comes last; 400 years have 146,097 days.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn days_become_dates() {
        for (days, date) in [
            (0, (1970, 1, 1)),
            (-1, (1969, 12, 31)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (19_782, (2024, 2, 29)),
            (20_454, (2026, 1, 1)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(civil_date(days), date, "{days}");
        }
    }

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn json_lines_are_json_whatever_the_text() {
        let written = Written::default();
        let sink = written.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || sink.clone())
            .event_format(JsonLine { program: "test" })
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(count = 7, name = "a\"b\n\u{1b}[2J", error = %"broken", "odd \" text\n");
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: Json = serde_json::from_str(&text).unwrap();
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["msg"], "odd \" text\n");
        assert_eq!(line["count"], 7);
        assert_eq!(line["name"], "a\"b\n\u{1b}[2J");
        assert_eq!(line["error"], "broken");
        let time = line["time"].as_str().unwrap();
        assert!(
            time.len() == "2026-01-02T03:04:05.123456789Z".len() && time.ends_with('Z'),
            "{time}"
        );
    }
}
