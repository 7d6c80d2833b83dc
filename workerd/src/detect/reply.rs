//! Replies of three digits (RFC 5321 section 4.2, RFC 959 section 4.2), which SMTP and FTP share.

use super::details::Details;
use super::fields::decimal;

/// The first line of a reply.
pub struct Reply<'a> {
    /// 100 to 599.
    pub code: u32,
    /// Whether more lines follow.
    pub multiline: bool,
    /// The text behind the code.
    pub message: &'a [u8],
}

impl<'a> Reply<'a> {
    /// A line that starts with a code in `codes` and a blank or a hyphen.
    #[must_use]
    pub fn of(line: &'a [u8], codes: std::ops::RangeInclusive<u32>) -> Option<Self> {
        let (digits, rest) = line.split_at_checked(3)?;
        let (separator, message) = rest.split_first()?;
        let code = decimal(digits)?;
        (codes.contains(&code) && matches!(separator, b' ' | b'-')).then_some(Self {
            code,
            multiline: *separator == b'-',
            message,
        })
    }

    /// Describes it; `categories` are named from 1xx on.
    pub fn describe(&self, categories: [&'static str; 5], details: &mut Details) {
        details.put("type", "response");
        details.put("code", self.code);
        let category = categories[self.code as usize / 100 - 1];
        details.text_if_any("code_category", category.as_bytes());
        details.text("message", self.message);
        details.flag("multiline", self.multiline);
    }
}
