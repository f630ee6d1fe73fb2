//! Cells that hold the error of a formula: nothing is known of them, and what they say is nobody's name.
//!
//! A spreadsheet writes its errors in the language of whoever saved the sheet. They are told by their whole text, because `#` begins
//! the words of people, too.

use serde::{Deserialize, Serialize};

/// What spreadsheets write in the place of a result that there is not, in English, German, French, Spanish, Portuguese, Italian, Dutch,
/// Polish, Swedish, Danish, Norwegian, Finnish, Czech, Hungarian, Turkish and Russian.
const ERRORS: [&str; 96] = [
    "#N/A",
    "#N/A!",
    "#NULL!",
    "#DIV/0!",
    "#VALUE!",
    "#REF!",
    "#NAME?",
    "#NUM!",
    "#SPILL!",
    "#CALC!",
    "#FIELD!",
    "#BLOCKED!",
    "#CONNECT!",
    "#UNKNOWN!",
    "#BUSY!",
    "#PYTHON!",
    "#EXTERNAL!",
    "#GETTING_DATA",
    "#ERROR!",
    "#MACRO?",
    "#NV",
    "#WERT!",
    "#BEZUG!",
    "#ZAHL!",
    "#ÜBERLAUF!",
    "#KALK!",
    "#FELD!",
    "#BLOCKIERT!",
    "#UNBEKANNT!",
    "#DATEN_ABRUFEN",
    "#NUL!",
    "#VALEUR!",
    "#NOM?",
    "#NOMBRE!",
    "#PROPAGATION!",
    "#CALCUL!",
    "#CHAMP!",
    "#¡NULO!",
    "#¡DIV/0!",
    "#¡VALOR!",
    "#¡REF!",
    "#¿NOMBRE?",
    "#¡NUM!",
    "#N/D",
    "#N/D!",
    "#¡DESBORDAMIENTO!",
    "#NULO!",
    "#VALOR!",
    "#NOME?",
    "#NÚM!",
    "#NULLO!",
    "#VALORE!",
    "#RIF!",
    "#RIF",
    "#LEEG!",
    "#DEEL/0!",
    "#WAARDE!",
    "#VERW!",
    "#NAAM?",
    "#GETAL!",
    "#N/B",
    "#ZERO!",
    "#DZIEL/0!",
    "#ARG!",
    "#ADR!",
    "#NAZWA?",
    "#LICZBA!",
    "#SKÄRNING!",
    "#DIVISION/0!",
    "#VÄRDEFEL!",
    "#REFERENS!",
    "#NAMN?",
    "#OGILTIGT!",
    "#SAKNAS!",
    "#VÆRDI!",
    "#REFERENCE!",
    "#NAVN?",
    "#I/T",
    "#VERDI!",
    "#TYHJÄ!",
    "#JAKO/0!",
    "#ARVO!",
    "#VIITTAUS!",
    "#NIMI?",
    "#LUKU!",
    "#PUUTTUU!",
    "#HODNOTA!",
    "#ODKAZ!",
    "#ÉRTÉK!",
    "#HIV!",
    "#ZÉRÓOSZTÓ!",
    "#DEĞER!",
    "#BAŞV!",
    "#ЗНАЧ!",
    "#ССЫЛКА!",
    "#Н/Д",
];

/// Whether a text is the error of a formula.
pub(crate) fn is_error(text: &str) -> bool {
    let text = text.trim();
    match text.strip_prefix("Err:") {
        // LibreOffice numbers its own.
        Some(number) => {
            number.len() == 3 && number.starts_with('5') && number.bytes().all(|byte| byte.is_ascii_digit())
        }
        None => text.starts_with('#') && ERRORS.contains(&text),
    }
}

/// What is seen of them in a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Errors {
    count: u64,
    first: Option<String>,
}

impl Errors {
    pub(crate) fn note_cell(&mut self, text: &str) {
        self.count += 1;
        self.first.get_or_insert_with(|| text.trim().to_owned());
    }

    /// What a person is told; `None` where there were none.
    pub(crate) fn note(&self) -> Option<String> {
        let first = self.first.as_ref()?;
        Some(format!(
            "{} cells hold the error of a formula, such as `{first}`, and are taken for empty; mend the formula where they should not be",
            self.count
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_spreadsheets_are_told_from_what_people_write() {
        for text in
            ["#N/A", "#NV", "#WERT!", "#BEZUG!", "#ZAHL!", "#DIV/0!", " #REF! ", "#¿NOMBRE?", "#ЗНАЧ!", "Err:502"]
        {
            assert!(is_error(text), "{text}");
        }
        for text in ["#1", "#FFF", "#nv", "#VIP!", "#", "NV", "N/A", "Err:", "Err:404", "Err:5021", "#N/A x", "DIV/0!"]
        {
            assert!(!is_error(text), "{text}");
        }
        let mut all = ERRORS.to_vec();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), ERRORS.len(), "each once");
    }
}
