//! Responsible for the interface `mail`, which only contract 0.1 has. No kernel ever served it: a manifest of 0.1 that asks for
//! mail is refused (`manifest/sections.rs`), so no guest has a server to send through. In 0.2 mail is a step of a channel.

use crate::bindings::v0_1::mail;
use crate::state::CallState;

impl mail::Host for CallState {
    fn send(&mut self, _server: String, _message: mail::Message) -> wasmtime::Result<Result<(), mail::Error>> {
        self.count_host_call()?;
        Ok(Err(mail::Error::Denied("no mail server is granted".into())))
    }
}
