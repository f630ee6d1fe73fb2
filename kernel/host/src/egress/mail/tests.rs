//! Mail against a relay on this machine: what is said to it, what it says, and what does not leave.

mod tls;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use kith_model::plugin::Grants;
use kith_model::sending::{MailLogin, MailReply, MailSecurity, Mailbox, OutboundMail, SendFailure, Transport};
use parking_lot::Mutex;

use crate::Binding;
use crate::guests::{CHANNEL, binding, channel_of, host, runtime};

/// What a relay says. An empty text is silence, and `None` closes the connection.
#[derive(Clone, Copy)]
struct Script {
    offers: &'static str,
    sign_in: Option<&'static str>,
    sender: Option<&'static str>,
    recipient: Option<&'static str>,
    end: Option<&'static str>,
}

const WILLING: Script = Script {
    offers: "250-relay\r\n250 AUTH PLAIN LOGIN\r\n",
    sign_in: Some("235 2.7.0 welcome\r\n"),
    sender: Some("250 2.1.0 ok\r\n"),
    recipient: Some("250 2.1.5 ok\r\n"),
    end: Some("250 2.0.0 queued as 7\r\n"),
};

/// A relay; its thread ends with the process.
struct Relay {
    place: String,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Relay {
    fn new(script: Script) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = listener.local_addr().unwrap().to_string();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hearing = Arc::clone(&heard);
        std::thread::spawn(move || {
            listener.incoming().flatten().for_each(|stream| drop(serve(&stream, script, &hearing)));
        });
        Relay { place, heard }
    }

    fn heard(&self) -> String {
        self.heard.lock().concat()
    }
}

fn serve(mut stream: &TcpStream, script: Script, heard: &Mutex<Vec<String>>) -> std::io::Result<()> {
    stream.write_all(b"220 relay\r\n")?;
    let (mut reader, mut is_mail) = (BufReader::new(stream), false);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        heard.lock().push(line.clone());
        let said = match line.split_whitespace().next().unwrap_or_default() {
            "." if is_mail => {
                is_mail = false;
                script.end
            }
            _ if is_mail => continue,
            "EHLO" => Some(script.offers),
            "AUTH" => script.sign_in,
            "MAIL" => script.sender,
            "RCPT" => script.recipient,
            "STARTTLS" => Some("220 go on\r\n250 injected\r\n"),
            "DATA" => {
                is_mail = true;
                Some("354 go on\r\n")
            }
            _ => Some("221 bye\r\n"),
        };
        let Some(said) = said else { return Ok(()) };
        stream.write_all(said.as_bytes())?;
    }
}

/// The transport of a channel that may hand mail to a relay.
fn transport(relay: &str) -> Arc<dyn Transport> {
    let manifest = CHANNEL.replacen("license =", "idempotent = false\nlicense =", 1);
    let asks = "[[capabilities.mail]]\nhost = \"*\"\nreason = \"to test\"\n\
                [[capabilities.secrets]]\nname = \"password\"\nhosts = [\"*\"]\nreason = \"to test\"\n\
                [[capabilities.secrets]]\nname = \"other\"\nhosts = [\"*\"]\nreason = \"to test\"\n";
    let secrets = [("password", relay), ("other", "a.example")];
    let grants = Grants {
        mail: vec![relay.to_owned()],
        secrets: secrets.map(|(name, host)| (name.to_owned(), vec![host.to_owned()])).into(),
        ..Grants::default()
    };
    let secrets = ["password", "other"].map(|name| (name.to_owned(), "s3cret".into())).into();
    let plugin = host().load(&channel_of(&format!("{manifest}{asks}"), "")).unwrap();
    plugin.pure_channel(Binding { grants, secrets, ..binding() }).unwrap().transport()
}

fn mail(relay: &str) -> OutboundMail {
    OutboundMail {
        relay: relay.to_owned(),
        security: MailSecurity::Plain,
        sender: Mailbox { name: Some("Shop".into()), address: "shop@example.com".into() },
        to: "ada@example.com".into(),
        subject: "Hello".into(),
        text: Some("Dear Ada,\n.\nBye".into()),
        message_id: "m1".into(),
        may_go_to: vec!["u1".into(), "ada@example.com".into()],
        timeout_ms: Some(10_000),
        ..OutboundMail::default()
    }
}

fn send(relay: &Relay, change: impl FnOnce(&mut OutboundMail)) -> Result<MailReply, SendFailure> {
    let mut mail = mail(&relay.place);
    change(&mut mail);
    runtime().block_on(transport(&relay.place).send_mail(mail))
}

fn reply(code: u16, enhanced: &str, text: &str) -> MailReply {
    MailReply { code, enhanced: Some(enhanced.to_owned()), text: text.to_owned() }
}

#[test]
fn a_mail_goes_to_the_person_and_is_called_by_its_delivery() {
    let relay = Relay::new(WILLING);
    let sent = send(&relay, |mail| {
        mail.html = Some("<p>Dear Ada</p>".into());
        mail.subject = "Grüße".into();
        mail.headers = vec![("List-Unsubscribe".into(), "<https://example.com/u?k=1>".into())];
    });
    assert_eq!(sent, Ok(reply(250, "2.0.0", "queued as 7")));
    let heard = relay.heard();
    for part in [
        "MAIL FROM:<shop@example.com>\r\n",
        "RCPT TO:<ada@example.com>\r\n",
        "\r\nMessage-ID: <m1@example.com>\r\n",
        "\r\nDate: Thu, 01 Jan 2026 00:00:00 +0000\r\n",
        "\r\nTo: ada@example.com\r\n",
        "\r\nList-Unsubscribe: <https://example.com/u?k=1>\r\n",
        "\r\nSubject: =?utf-8?",
        "\r\n..\r\nBye",
        "<p>Dear Ada</p>",
    ] {
        assert!(heard.contains(part), "{part:?} in {heard}");
    }
    assert!(heard.is_ascii() && !heard.contains("AUTH"), "{heard}");
    assert_eq!(transport(&relay.place).mail_target(&mail(&relay.place)), Ok(relay.place.clone()));
}

#[test]
fn what_a_relay_says_of_a_mail_is_its_answer() {
    for (script, expected) in [
        (Script { sender: Some("451 4.3.0 later\r\n"), ..WILLING }, reply(451, "4.3.0", "later")),
        (Script { recipient: Some("550 5.1.1 no such user\r\n"), ..WILLING }, reply(550, "5.1.1", "no such user")),
        (Script { end: Some("552 5.3.4 too big\r\n"), ..WILLING }, reply(552, "5.3.4", "too big")),
        (Script { end: Some("421 closing\r\n"), ..WILLING }, MailReply { enhanced: None, ..reply(421, "", "closing") }),
    ] {
        assert_eq!(send(&Relay::new(script), |_| ()), Ok(expected));
    }
}

/// A mail that was handed over whole is nobody's to repeat, and one that was not is.
#[test]
fn only_what_the_relay_may_have_is_unknown() {
    for (what, end) in [("closes", None), ("is silent", Some("")), ("talks nonsense", Some("hello\r\n"))] {
        let relay = Relay::new(Script { end, ..WILLING });
        let sent = send(&relay, |mail| mail.timeout_ms = Some(500));
        assert!(matches!(sent, Err(SendFailure::Unknown(_))), "a relay that {what}: {sent:?}");
        assert!(relay.heard().ends_with("\r\n.\r\n"));
    }
    for (what, recipient) in [("closes", None), ("is silent", Some(""))] {
        let sent = send(&Relay::new(Script { recipient, ..WILLING }), |mail| mail.timeout_ms = Some(500));
        let is_known = matches!(sent, Err(SendFailure::Connection(_) | SendFailure::Timeout(_)));
        assert!(is_known, "a relay that {what} before it has the mail: {sent:?}");
    }
}

/// The library that speaks SMTP panicked at a blank offer, and read an answer of many lines as often as it has lines.
#[test]
fn what_a_relay_offers_is_bounded() {
    let many: &'static str = Box::leak("250-a\r\n".repeat(300).into_boxed_str());
    for (offers, expected) in [("250-relay\r\n250-  \r\n250 AUTH PLAIN\r\n", "blank line"), (many, "too many lines")] {
        let sent = send(&Relay::new(Script { offers, ..WILLING }), |_| ());
        assert!(matches!(&sent, Err(SendFailure::Connection(reason)) if reason.contains(expected)), "{sent:?}");
    }
    let blank = Script { end: Some("250-  \r\n250 2.0.0 für später\r\n"), ..WILLING };
    assert_eq!(send(&Relay::new(blank), |_| ()).map(|reply| reply.code), Ok(250));
}

/// A change of a mail.
type Change = fn(&mut OutboundMail);

#[test]
fn what_may_not_leave_is_refused_before_anything_is_said() {
    let header = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    assert_eq!(super::headers(&header("X-Entity-Ref-ID", "spring")).map(|headers| headers.len()), Ok(1));
    for (name, value) in [
        ("Bcc", "eve@example.com"),
        ("List-Id\r\nBcc", "a"),
        ("List-Id", "a\r\nBcc: e@x.de"),
        ("x-", "a"),
        // To some relays these are commands.
        ("X-SMTPAPI", r#"{"to":["eve@example.com"]}"#),
        ("X-MC-BccAddress", "eve@example.com"),
    ] {
        assert!(super::headers(&header(name, value)).is_err(), "{name:?}: {value:?}");
    }
    let relay = Relay::new(WILLING);
    let cases: [(&str, Change, &str); 12] = [
        ("a foreign address", |mail| mail.to = "eve@example.com".into(), "somebody else"),
        ("an identifier that is no address", |mail| mail.to = "u1".into(), "no mail address"),
        ("two addresses", |mail| mail.to.push_str(", eve@example.com"), "somebody else"),
        ("a line break in the subject", |mail| mail.subject = "a\r\nBcc: eve@example.com".into(), "line break"),
        ("one in a name", |mail| mail.sender.name = Some("a\nb".into()), "line break"),
        ("one in an address", |mail| mail.sender.address = "a@b.de>\r\nRCPT TO:<e@x.de".into(), "line break"),
        (
            "one in an answer's address",
            |mail| {
                mail.reply_to = Some(Mailbox { name: None, address: "a@b.de\r\nX: y".into() });
            },
            "line break",
        ),
        ("no body", |mail| mail.text = None, "a text or an HTML body"),
        ("too much", |mail| mail.text = Some("x".repeat(1 << 20)), "at most 1048576 bytes"),
        ("another relay", |mail| mail.relay = "127.0.0.1:1".into(), "not granted"),
        ("no port", |mail| mail.relay = "127.0.0.1".into(), "names no port"),
        (
            "another's secret",
            |mail| {
                mail.login = Some(MailLogin { user: "shop".into(), secret: "other".into() });
            },
            "may not be sent",
        ),
    ];
    for (what, change, expected) in cases {
        let sent = send(&relay, change);
        assert!(matches!(&sent, Err(SendFailure::Denied(reason)) if reason.contains(expected)), "{what}: {sent:?}");
    }
    assert_eq!(relay.heard(), "", "no byte of them left");
}

#[test]
fn a_mail_has_so_many_bytes_with_everything_and_no_more() {
    let relay = "127.0.0.1:9";
    let (transport, empty) = (transport(relay), OutboundMail { text: Some(String::new()), ..mail(relay) });
    let most = usize::try_from(kith_model::budget::table::MAIL_SIZE.default).unwrap();
    let of_bytes = |bytes: usize| OutboundMail { text: Some("x".repeat(bytes - empty.bytes())), ..empty.clone() };
    assert!(transport.mail_target(&of_bytes(most)).is_ok());
    let refused = transport.mail_target(&of_bytes(most + 1));
    assert_eq!(refused, Err(SendFailure::Denied("a mail has at most 1048576 bytes".to_owned())));
}

#[test]
fn a_password_is_said_to_its_relay_and_to_nobody_else() {
    let login = |mail: &mut OutboundMail| {
        mail.login = Some(MailLogin { user: "shop".into(), secret: "password".into() });
    };
    let relay = Relay::new(WILLING);
    assert_eq!(send(&relay, login).map(|reply| reply.code), Ok(250));
    // NUL, user, NUL, password.
    assert!(relay.heard().contains("AUTH PLAIN AHNob3AAczNjcmV0\r\n"), "{}", relay.heard());
    let refusing = Relay::new(Script { sign_in: Some("535 5.7.8 AHNob3AAczNjcmV0 is wrong\r\n"), ..WILLING });
    let refused = send(&refusing, login);
    let Err(SendFailure::Connection(reason)) = &refused else { panic!("{refused:?}") };
    assert!(reason.contains("535") && !reason.contains("AHNob3"), "{reason}");
    assert!(!refusing.heard().contains("MAIL"));
}

/// Whoever sits in between takes out the offer of TLS, or writes answers for the time after it.
#[test]
fn without_tls_nothing_is_said_where_it_is_wanted() {
    for offers in ["250-relay\r\n250 AUTH PLAIN\r\n", "250-relay\r\n250 STARTTLS\r\n"] {
        let relay = Relay::new(Script { offers, ..WILLING });
        let sent = send(&relay, |mail| mail.security = MailSecurity::StartTls);
        assert!(matches!(&sent, Err(SendFailure::Connection(_))), "{sent:?}");
        assert!(!relay.heard().contains("MAIL") && !relay.heard().contains("AUTH"), "{}", relay.heard());
    }
}

#[test]
fn bodies_are_lines_of_mail_however_they_end() {
    let written = |text: &str| {
        let mail = OutboundMail { text: Some(text.to_owned()), ..mail("a.example:25") };
        super::write(mail, std::time::SystemTime::UNIX_EPOCH)
    };
    for text in ["a\nb", "a\rb", "a\r\nb", "\n\r\n\r", "ä\r.\n", "", &"x".repeat(5_000)] {
        assert!(super::is_of_whole_lines(&written(text).unwrap()), "{text:?}");
    }
    assert!(written("\0").is_err());
    for (bytes, expected) in [(&b"a\r\n"[..], true), (b"a\nb", false), (b"a\rb", false), (b"\r", false)] {
        assert_eq!(super::is_of_whole_lines(bytes), expected, "{bytes:?}");
    }
}
