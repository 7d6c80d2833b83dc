//! How replies of three digits are described, which SMTP and FTP share.

use super::details::Details;
use crate::email::smtp::reply::Reply;

/// Describes the first line of a reply with a code from 100 to 599; `categories` are named from 1xx on.
pub fn describe(reply: &Reply<'_>, categories: [&'static str; 5], details: &mut Details) {
    details.put("type", "response");
    details.put("code", reply.code);
    let category = categories[usize::from(reply.code) / 100 - 1];
    details.text_if_any("code_category", category.as_bytes());
    details.text("message", reply.text);
    details.flag("multiline", reply.goes_on);
}
