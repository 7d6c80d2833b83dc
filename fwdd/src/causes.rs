//! Errors as text, with everything that caused them.

use std::error::Error;

use tonic::Status;

/// An error with everything that caused it, each said once.
pub(crate) fn causes(error: &dyn Error) -> String {
    followed(error.to_string(), error)
}

/// The same of a call's status, which begins with its code.
pub(crate) fn describe(status: &Status) -> String {
    let text = format!("{:?}: {}", status.code(), status.message());
    followed(text, status)
}

fn followed(mut text: String, error: &dyn Error) -> String {
    let mut source = error.source();
    while let Some(cause) = source {
        let next = cause.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = cause.source();
    }
    text
}
