//! What email mode looks for.

use super::keywords::keywords;
use super::{ConfigError, choice, list, nonzero, switch};
use crate::settings::{Origin, Value, Values};

/// Settings of email mode. In other modes they mean nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Email {
    /// Which protocols are followed.
    pub protocols: MailProtocols,
    /// If the operator has given ports of any protocol that is followed: the ports of all of them, to which the capture is limited. Else none: mail is found on any port.
    pub ports: Vec<u16>,
    /// Which mails and connections are wanted.
    pub content: EmailContent,
    /// Most bytes of a body that are told and searched for keywords: at most [`Email::MOST_BODY`]. None: bodies are not looked into.
    pub body: Option<usize>,
}

/// Which protocols of mail are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MailProtocols {
    /// SMTP, with submission and LMTP.
    pub smtp: bool,
    /// IMAP.
    pub imap: bool,
    /// POP3.
    pub pop3: bool,
}

/// Which mails and connections are wanted: those that have something of each list that is not empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EmailContent {
    /// Globs for senders.
    pub senders: Vec<String>,
    /// Globs for recipients.
    pub recipients: Vec<String>,
    /// Globs for senders and recipients.
    pub addresses: Vec<String>,
    /// Globs for subjects.
    pub subjects: Vec<String>,
    /// Globs for mailboxes, which IMAP alone has.
    pub mailboxes: Vec<String>,
    /// Globs for commands.
    pub commands: Vec<String>,
    /// Texts in subjects and bodies, in any case.
    pub keywords: Vec<String>,
}

impl Email {
    /// Most bytes of a body that can be asked for: it travels in one message with other packets.
    pub const MOST_BODY: usize = 1 << 20;
    const DEFAULT_BODY: usize = 65_536;

    /// As the settings say.
    ///
    /// # Errors
    /// [`ConfigError::Keywords`]
    pub(super) fn of(values: &Values) -> Result<Self, ConfigError> {
        let protocols = MailProtocols::of(values);
        let globs = |key| list(values, key).to_vec();
        Ok(Self {
            protocols,
            ports: ports(values, protocols),
            content: EmailContent {
                senders: globs("hunter.email.sender"),
                recipients: globs("hunter.email.recipient"),
                addresses: globs("hunter.email.address"),
                subjects: globs("hunter.email.subject"),
                mailboxes: globs("hunter.email.mailbox"),
                commands: globs("hunter.email.command"),
                keywords: keywords(values, "hunter.email.keywords")?,
            },
            body: switch(values, "hunter.email.capture_body")
                .then(|| nonzero(values, "hunter.email.max_body_size", Self::DEFAULT_BODY)),
        })
    }
}

impl Default for MailProtocols {
    /// All.
    fn default() -> Self {
        Self {
            smtp: true,
            imap: true,
            pop3: true,
        }
    }
}

impl MailProtocols {
    fn of(values: &Values) -> Self {
        let chosen = choice(values, "hunter.email.protocol").unwrap_or("all");
        let is = |name| chosen == "all" || chosen == name;
        Self {
            smtp: is("smtp"),
            imap: is("imap"),
            pop3: is("pop3"),
        }
    }
}

fn ports(values: &Values, protocols: MailProtocols) -> Vec<u16> {
    let lists = [
        (protocols.smtp, "hunter.email.smtp_ports"),
        (protocols.imap, "hunter.email.imap_ports"),
        (protocols.pop3, "hunter.email.pop3_ports"),
    ];
    let (mut ports, mut is_given) = (Vec::new(), false);
    for (_, key) in lists.into_iter().filter(|(is_followed, _)| *is_followed) {
        if let Some((Value::Ports(list), origin)) = values.get(key) {
            ports.extend_from_slice(list);
            is_given |= *origin != Origin::Default;
        }
    }
    if is_given { ports } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::by_key;

    fn email(settings: &[(&str, &str)]) -> Email {
        let mut values = Values::defaults();
        for (key, text) in settings {
            let setting = by_key(key).unwrap();
            let value = setting.kind.parse(text).unwrap();
            values.set(setting, value, Origin::Derived);
        }
        Email::of(&values).unwrap()
    }

    #[test]
    fn nothing_given_is_all_mail_on_any_port() {
        let expected = Email {
            body: Some(65_536),
            ..Email::default()
        };
        assert_eq!(email(&[]), expected);
    }

    #[test]
    fn ports_that_are_given_limit_the_protocols_that_are_followed() {
        let all = email(&[("hunter.email.smtp_ports", "2525")]);
        assert_eq!(all.ports, [2525, 143, 993, 110, 995]);
        let smtp = [
            ("hunter.email.smtp_ports", "2525"),
            ("hunter.email.protocol", "SMTP"),
        ];
        assert_eq!(email(&smtp).ports, [2525]);
        let pop3 = email(&[
            ("hunter.email.smtp_ports", "2525"),
            ("hunter.email.protocol", "pop3"),
        ]);
        assert_eq!(pop3.ports, [0u16; 0]);
        assert!(pop3.protocols.pop3 && !pop3.protocols.smtp && !pop3.protocols.imap);
    }

    #[test]
    fn bodies_are_looked_into_unless_refused() {
        assert_eq!(
            email(&[("hunter.email.max_body_size", "0")]).body,
            Some(65_536)
        );
        assert_eq!(
            email(&[("hunter.email.max_body_size", "100")]).body,
            Some(100)
        );
        assert_eq!(email(&[("hunter.email.capture_body", "false")]).body, None);
    }

    #[test]
    fn lists_are_parted_at_commas() {
        let content = email(&[("hunter.email.sender", " *@a.example , b@c ,")]).content;
        assert_eq!(content.senders, ["*@a.example", "b@c"]);
    }
}
