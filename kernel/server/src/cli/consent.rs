//! Asking before something is done that cannot be taken back: on a terminal by a question, elsewhere only by `--yes`.

use std::io::{BufRead, IsTerminal, StdinLock, Write as _};

use super::Failure;
use super::output::{AnswerFormat, visible};

/// Whether the person has agreed already, and who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Consent {
    /// By `--yes`.
    is_given: bool,
    /// A program is shown nothing beside its document, and asked nothing.
    format: AnswerFormat,
}

impl Consent {
    /// What the flag `--yes` says.
    pub(crate) fn from_flag(yes: bool, format: AnswerFormat) -> Consent {
        Consent { is_given: yes, format }
    }

    /// Show what would follow, and go on only where the person agrees.
    ///
    /// # Errors
    /// Where they do not, and where there is no terminal to ask on. A program finds in the failure what would follow.
    pub(crate) fn insist(self, consequences: &str, action: &str) -> Result<(), Failure> {
        self.decide(consequences, action, terminal())
    }

    /// Show what would follow, and ask the person who is there; without a terminal, whoever wrote the command down goes on.
    ///
    /// # Errors
    /// Where the person does not agree.
    pub(crate) fn show(self, consequences: &str, action: &str) -> Result<(), Failure> {
        self.shown(consequences, action, terminal())
    }

    /// The same with the terminal's input, where there is one.
    fn shown(self, consequences: &str, action: &str, terminal: Option<impl BufRead>) -> Result<(), Failure> {
        let is_asked = terminal.is_some() && !self.format.is_json();
        Consent { is_given: self.is_given || !is_asked, ..self }.decide(consequences, action, terminal)
    }

    /// The same with the terminal's input, where there is one.
    fn decide(self, consequences: &str, action: &str, terminal: Option<impl BufRead>) -> Result<(), Failure> {
        let unasked = format!("nothing was done; to {action} without a question, add --yes");
        if self.format.is_json() {
            return if self.is_given { Ok(()) } else { Err(Failure::Usage(format!("{consequences}\n{unasked}"))) };
        }
        // Whoever wrote a manifest chose words of it.
        eprintln!("{}", visible(consequences));
        if self.is_given {
            return Ok(());
        }
        let Some(mut terminal) = terminal else { return Err(Failure::Usage(unasked)) };
        eprint!("Type yes to {action}: ");
        let asked = std::io::stderr().flush();
        asked.map_err(|error| Failure::Failed(format!("the question could not be asked: {error}")))?;
        answer(&mut terminal)
    }
}

/// The terminal's input, where somebody reads and writes there.
fn terminal() -> Option<StdinLock<'static>> {
    let input = std::io::stdin();
    let is_terminal = input.is_terminal() && std::io::stderr().is_terminal();
    is_terminal.then(|| input.lock())
}

fn answer(input: &mut impl BufRead) -> Result<(), Failure> {
    let mut line = String::new();
    input.read_line(&mut line).map_err(|error| Failure::Failed(format!("no answer could be read: {error}")))?;
    match line.trim() {
        "yes" => Ok(()),
        _ => Err(Failure::Failed("nothing was done".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_yes_is_one() {
        assert!(answer(&mut b"yes\n".as_slice()).is_ok());
        for other in ["", "\n", "y\n", "no\n", "yes please\n"] {
            assert!(answer(&mut other.as_bytes()).is_err(), "{other:?}");
        }
    }

    #[test]
    fn without_a_terminal_only_the_flag_counts() {
        let decide = |yes, terminal| {
            Consent::from_flag(yes, AnswerFormat::Text).decide("300 people lose a tag.", "remove it", terminal)
        };
        assert_eq!(decide(false, None::<&[u8]>).unwrap_err().exit_code(), 2);
        assert!(decide(true, None).is_ok());
        assert!(decide(false, Some(b"yes\n".as_slice())).is_ok());
        assert!(decide(false, Some(b"no\n".as_slice())).is_err());
    }

    #[test]
    fn what_is_shown_before_a_first_installation_is_asked_about_on_a_terminal_alone() {
        let shown = |yes, format, terminal| {
            Consent::from_flag(yes, format).shown("it sees traits.city", "install it", terminal)
        };
        assert!(shown(false, AnswerFormat::Text, None::<&[u8]>).is_ok(), "a script goes on");
        assert!(shown(false, AnswerFormat::Text, Some(b"no\n".as_slice())).is_err());
        assert!(shown(false, AnswerFormat::Text, Some(b"yes\n".as_slice())).is_ok());
        assert!(shown(true, AnswerFormat::Text, Some(b"no\n".as_slice())).is_ok());
        assert!(shown(false, AnswerFormat::Json, Some(b"no\n".as_slice())).is_ok(), "a program is asked nothing");
    }

    /// A sentence beside the document is one that a program cannot read.
    #[test]
    fn a_program_finds_in_its_document_what_would_follow() {
        let decide = |yes| {
            let terminal = Some(b"yes\n".as_slice());
            Consent::from_flag(yes, AnswerFormat::Json).decide("300 people lose a tag.", "remove it", terminal)
        };
        assert!(decide(true).is_ok());
        let refused = decide(false).unwrap_err();
        assert_eq!(refused.exit_code(), 2);
        assert_eq!(
            refused.document()["message"],
            "300 people lose a tag.\nnothing was done; to remove it without a question, add --yes"
        );
    }
}
