//! Names of fields and columns that tell of consent. What an answer counts for is the kernel's to say.

/// What a field that tells of refusals has in its name, letters and digits alone.
const OPPOSITES: [&str; 19] = [
    "optout",
    "optedout",
    "optingout",
    "unsub",
    "bounce",
    "donot",
    "nocontact",
    "dnc",
    "suppress",
    "blacklist",
    "blocklist",
    "complain",
    "abgemeldet",
    "abbestell",
    "widerspr",
    "gesperrt",
    "desabonn",
    "désabonn",
    "désinscri",
];

/// Whether the name of a field says that a yes in it refuses: `HasOptedOutOfEmail`, `unsubscribed`, `Do not call`.
pub fn says_the_opposite(name: &str) -> bool {
    let letters = name.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase);
    let plain: String = letters.collect();
    OPPOSITES.iter().any(|word| plain.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_say_the_opposite_are_known_in_every_spelling() {
        for name in [
            "HasOptedOutOfEmail",
            "Unsubscribed from all email",
            "bounced",
            "email_opt_out",
            "Opt-Out",
            "Do Not Call",
            "DoNotEmail",
            "do_not_contact",
            "unsubscribe",
            "Email Bounced",
            "Suppressed",
            "Hard bounce reason",
            "DNC",
            "Newsletter abgemeldet",
        ] {
            assert!(says_the_opposite(name), "{name}");
        }
        for name in [
            "newsletter",
            "Accepts Email Marketing",
            "opt_in",
            "Opted In",
            "subscribed",
            "Email Marketing Consent",
            "status",
            "!x",
        ] {
            assert!(!says_the_opposite(name), "{name}");
        }
    }
}
