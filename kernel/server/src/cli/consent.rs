//! Asking before something is done that cannot be taken back: on a terminal by a question, elsewhere only by `--yes`.

use std::io::{BufRead, IsTerminal, Write as _};

use super::Failure;

/// Whether the person has agreed already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Consent {
    /// By `--yes`.
    Given,
    Ask,
}

impl Consent {
    /// What the flag `--yes` says.
    pub(crate) fn from_flag(yes: bool) -> Consent {
        if yes { Consent::Given } else { Consent::Ask }
    }

    /// Show what would follow, and go on only where the person agrees.
    ///
    /// # Errors
    /// Where they do not, and where there is no terminal to ask on.
    pub(crate) fn insist(self, consequences: &str, action: &str) -> Result<(), Failure> {
        let input = std::io::stdin();
        let is_terminal = input.is_terminal() && std::io::stderr().is_terminal();
        self.decide(consequences, action, is_terminal.then(|| input.lock()))
    }

    /// The same with the terminal's input, where there is one.
    fn decide(self, consequences: &str, action: &str, terminal: Option<impl BufRead>) -> Result<(), Failure> {
        eprintln!("{consequences}");
        if self == Consent::Given {
            return Ok(());
        }
        let Some(mut terminal) = terminal else {
            return Err(Failure::Usage(format!("nothing was done; to {action} without a question, add --yes")));
        };
        eprint!("Type yes to {action}: ");
        let asked = std::io::stderr().flush();
        asked.map_err(|error| Failure::Failed(format!("the question could not be asked: {error}")))?;
        answer(&mut terminal)
    }
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
        let decide = |consent: Consent, terminal| consent.decide("300 people lose a tag.", "remove it", terminal);
        assert_eq!(decide(Consent::Ask, None::<&[u8]>).unwrap_err().exit_code(), 2);
        assert!(decide(Consent::Given, None).is_ok());
        assert!(decide(Consent::Ask, Some(b"yes\n".as_slice())).is_ok());
        assert!(decide(Consent::Ask, Some(b"no\n".as_slice())).is_err());
    }
}
