//! Mail that a channel wants to have sent, and what a relay answers. The plugin writes the mail, the host puts it into SMTP's
//! hands: a mail may go to the person that its message is for and to nobody else.

use std::fmt;

/// How the connection to a relay is kept from listeners.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MailSecurity {
    /// Begun in the clear and encrypted before anything is said. A relay that does not offer it is not used.
    #[default]
    StartTls,
    /// Encrypted from the first byte.
    Tls,
    /// Not at all; to this machine alone.
    Plain,
}

impl MailSecurity {
    /// As it is written for people.
    pub fn as_str(self) -> &'static str {
        match self {
            MailSecurity::StartTls => "starttls",
            MailSecurity::Tls => "tls",
            MailSecurity::Plain => "plain",
        }
    }
}

/// Who a plugin is at a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailLogin {
    pub user: String,
    /// The name of the secret that is the password; the plugin never sees its value.
    pub secret: String,
}

/// An address with the name that is shown before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mailbox {
    pub name: Option<String>,
    pub address: String,
}

impl Mailbox {
    /// What it takes in memory.
    fn bytes(&self) -> usize {
        self.name.as_ref().map_or(0, String::len) + self.address.len()
    }
}

/// A mail that a channel wants to have sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutboundMail {
    /// `host:port`, as a grant names it.
    pub relay: String,
    pub security: MailSecurity,
    pub login: Option<MailLogin>,
    pub sender: Mailbox,
    pub reply_to: Option<Mailbox>,
    pub to: String,
    pub subject: String,
    pub text: Option<String>,
    pub html: Option<String>,
    /// Further headers, of those that a plugin may set.
    pub headers: Vec<(String, String)>,
    /// The whole exchange takes at most this long; the transport's own limit bounds it and replaces an absent one.
    pub timeout_ms: Option<u32>,
    /// Handed back with the answer, as [`OutboundRequest::resume`](super::OutboundRequest::resume).
    pub resume: Option<Vec<u8>>,
    /// The message's id, set by the host: it names the mail in all attempts, so that a receiver recognises a repeat.
    pub message_id: String,
    /// The identifiers of the message's recipient that the channel was given, set by the host: whom the mail may go to.
    pub may_go_to: Vec<String>,
}

impl OutboundMail {
    /// What it takes in memory: all of its texts.
    pub fn bytes(&self) -> usize {
        let OutboundMail { relay, login, sender, reply_to, to, subject, text, html, headers, .. } = self;
        let login = login.iter().map(|login| login.user.len() + login.secret.len()).sum::<usize>();
        let headers = headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        let lines = [relay, to, subject, &self.message_id].into_iter().chain(&self.may_go_to).chain(text).chain(html);
        lines.map(String::len).sum::<usize>()
            + login
            + sender.bytes()
            + reply_to.as_ref().map_or(0, Mailbox::bytes)
            + headers
            + self.resume.as_ref().map_or(0, Vec::len)
    }
}

/// What a relay said of a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailReply {
    /// SMTP's code: 2xx where the relay took the mail, 4xx where it may take it later, 5xx where it never will.
    pub code: u16,
    /// The enhanced status, e.g. `5.1.1`, where there is one.
    pub enhanced: Option<String>,
    /// What else it said, cut.
    pub text: String,
}

impl MailReply {
    /// Whether the relay has the mail now.
    pub fn is_accepted(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// Whether the relay closes its doors for all: 421 is said of the service and not of a mail.
    pub fn is_closing(&self) -> bool {
        self.code == 421
    }
}

impl fmt::Display for MailReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        self.enhanced.iter().try_for_each(|enhanced| write!(f, " {enhanced}"))?;
        if self.text.is_empty() { Ok(()) } else { write!(f, " {}", self.text) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The name of a sender could have any length.
    #[test]
    fn every_text_of_a_mail_is_weighed() {
        let text = || "x".repeat(10);
        let mailbox = Mailbox { name: Some(text()), address: text() };
        let mail = OutboundMail {
            relay: text(),
            security: MailSecurity::Tls,
            login: Some(MailLogin { user: text(), secret: text() }),
            sender: mailbox.clone(),
            reply_to: Some(mailbox),
            to: text(),
            subject: text(),
            text: Some(text()),
            html: Some(text()),
            headers: vec![(text(), text())],
            timeout_ms: None,
            resume: Some(vec![0; 10]),
            message_id: text(),
            may_go_to: vec![text(), text()],
        };
        assert_eq!(mail.bytes(), 170);
        assert_eq!(OutboundMail::default().bytes(), 0);
    }

    #[test]
    fn a_reply_reads_as_relays_write_it() {
        let reply = |code, enhanced: Option<&str>, text: &str| MailReply {
            code,
            enhanced: enhanced.map(str::to_owned),
            text: text.to_owned(),
        };
        assert_eq!(reply(550, Some("5.1.1"), "no such user").to_string(), "550 5.1.1 no such user");
        assert_eq!(reply(250, None, "").to_string(), "250");
        assert!(reply(250, None, "").is_accepted() && !reply(450, None, "").is_accepted());
        assert!(reply(421, None, "").is_closing() && !reply(451, None, "").is_closing());
    }
}
