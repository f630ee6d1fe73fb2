//! Mail of a channel, which the kernel hands to a relay that the manifest asks for and an admin granted. A mail goes to the
//! person that its message is for: `to` is one of the recipient's identifiers, and anything else is refused.
//!
//! The kernel adds `Message-ID`, the same in every attempt of a delivery, and `Date`. Where a relay may have taken a mail and did not
//! say so, the delivery ends there: neither kernel nor channel repeats it, and an admin decides. A manifest that asks for mail
//! says `idempotent = false` for that reason.

use std::fmt;

use crate::{Outcome, http};

/// How the connection to a relay is kept from listeners.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Security {
    /// Begun in the clear and encrypted before anything is said. A relay that does not offer it is not used.
    #[default]
    StartTls,
    /// Encrypted from the first byte.
    Tls,
    /// Not at all; to the kernel's own machine alone.
    Plain,
}

/// An address with the name that is shown before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mailbox {
    /// Shown before the address.
    pub name: Option<String>,
    /// The address.
    pub address: String,
}

impl Mailbox {
    /// An address without a name.
    pub fn new(address: impl Into<String>) -> Mailbox {
        Mailbox { name: None, address: address.into() }
    }

    /// The same with a name.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Mailbox {
        Mailbox { name: Some(name.into()), ..self }
    }
}

/// Who the channel is at a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The name of the secret that is the password.
    pub secret: String,
}

/// A mail, built step by step. It becomes a [`Step`](crate::Step).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// `host:port` of the relay.
    pub relay: String,
    /// How the connection to it is kept from listeners.
    pub security: Security,
    /// Who the channel is there.
    pub login: Option<Login>,
    /// Whom it is from.
    pub sender: Mailbox,
    /// Where answers go, if not to the sender.
    pub reply_to: Option<Mailbox>,
    /// One of the recipient's identifiers.
    pub to: String,
    /// The subject.
    pub subject: String,
    /// The body as text. A mail has this or the next or both.
    pub text: Option<String>,
    /// The body as HTML.
    pub html: Option<String>,
    /// Further headers: `List-Unsubscribe`, `List-Unsubscribe-Post`, `List-Id`, `Auto-Submitted`, `Precedence`, `Feedback-ID` or
    /// `X-Entity-Ref-ID`, each once.
    pub headers: Vec<(String, String)>,
    /// For the whole exchange with the relay; the kernel's own limit bounds it and replaces an absent one.
    pub timeout_ms: Option<u32>,
}

impl Mail {
    /// A mail through a relay, `host:port`, with STARTTLS.
    pub fn through(
        relay: impl Into<String>,
        sender: Mailbox,
        to: impl Into<String>,
        subject: impl Into<String>,
    ) -> Mail {
        Mail {
            relay: relay.into(),
            security: Security::default(),
            login: None,
            sender,
            reply_to: None,
            to: to.into(),
            subject: subject.into(),
            text: None,
            html: None,
            headers: Vec::new(),
            timeout_ms: None,
        }
    }

    /// The same with another way to keep listeners out.
    #[must_use]
    pub fn security(self, security: Security) -> Mail {
        Mail { security, ..self }
    }

    /// The same as this user, with the secret of that name as the password.
    #[must_use]
    pub fn login(self, user: impl Into<String>, secret: impl Into<String>) -> Mail {
        Mail { login: Some(Login { user: user.into(), secret: secret.into() }), ..self }
    }

    /// The same with answers to go there.
    #[must_use]
    pub fn reply_to(self, mailbox: Mailbox) -> Mail {
        Mail { reply_to: Some(mailbox), ..self }
    }

    /// The same with a body of text.
    #[must_use]
    pub fn text(self, text: impl Into<String>) -> Mail {
        Mail { text: Some(text.into()), ..self }
    }

    /// The same with a body of HTML.
    #[must_use]
    pub fn html(self, html: impl Into<String>) -> Mail {
        Mail { html: Some(html.into()), ..self }
    }

    /// The same with one more header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Mail {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// What a relay said of a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// 2xx where it took the mail, 4xx where it may take it later, 5xx where it never will.
    pub code: u16,
    /// Its enhanced status, e.g. `5.1.1`.
    pub enhanced: Option<String>,
    /// What else it said, cut.
    pub text: String,
}

impl Reply {
    /// A reply as a unit test writes it.
    pub fn new(code: u16, enhanced: Option<&str>, text: impl Into<String>) -> Reply {
        Reply { code, enhanced: enhanced.map(str::to_owned), text: text.into() }
    }

    /// Whether the relay has the mail now.
    pub fn is_accepted(&self) -> bool {
        (200..300).contains(&self.code)
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        self.enhanced.iter().try_for_each(|enhanced| write!(f, " {enhanced}"))?;
        if self.text.is_empty() { Ok(()) } else { write!(f, " {}", self.text) }
    }
}

/// What a relay's answer means where nothing else is known: taken is accepted, because whether it arrives is a later fact; 4xx and
/// no answer are tried again, 5xx and a refusal of the kernel are not.
pub fn outcome_of(result: &Result<Reply, http::Error>) -> Outcome {
    match result {
        Ok(reply) if reply.is_accepted() => Outcome::Accepted(None),
        Ok(reply) if (500..600).contains(&reply.code) => Outcome::Permanent(format!("the relay refused it: {reply}")),
        Ok(reply) => Outcome::Retry { after_seconds: None, reason: format!("the relay puts it off: {reply}") },
        Err(error) if error.may_retry() => Outcome::Retry { after_seconds: None, reason: error.to_string() },
        Err(error) => Outcome::Permanent(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_has_its_outcome() {
        let outcome = |code| outcome_of(&Ok(Reply::new(code, Some("5.1.1"), "said")));
        assert_eq!(outcome(250), Outcome::Accepted(None));
        for code in [421, 451, 354] {
            assert!(matches!(outcome(code), Outcome::Retry { after_seconds: None, .. }), "{code}");
        }
        assert_eq!(outcome(550), Outcome::Permanent("the relay refused it: 550 5.1.1 said".to_owned()));
        assert!(matches!(outcome_of(&Err(http::Error::Connection("x".into()))), Outcome::Retry { .. }));
        assert!(matches!(outcome_of(&Err(http::Error::Denied("x".into()))), Outcome::Permanent(_)));
    }
}
